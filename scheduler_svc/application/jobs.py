"""What people and programs do with jobs that exist: read and steer them.

Each verb is one guarded transaction; asked again in the state it leads to, it
answers with the job as it is. Making jobs is in creation.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from scheduler_svc.application import entries
from scheduler_svc.application.creation import Creation, NewJob, NewJobOptions
from scheduler_svc.application.moves import EndOfAttempt, Why, end_attempt, move, retrying
from scheduler_svc.application.ports import Clock, Store, Writing
from scheduler_svc.application.views import Views
from scheduler_svc.domain.endings import Ending
from scheduler_svc.domain.errors import ForbiddenMove, JobNotFound, NotEnded
from scheduler_svc.domain.failure import Failure, FailureCause
from scheduler_svc.domain.job import Job, JobId, JobView
from scheduler_svc.domain.query import JobQuery, Position, position_of
from scheduler_svc.domain.states import TERMINAL, JobState


@dataclass(frozen=True, slots=True)
class JobEdit:
    """New values; None leaves a field as it is."""

    priority: int | None = None
    labels: Mapping[str, str] | None = None
    display_name: str | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs. `after` None: it is the last."""

    jobs: tuple[JobView, ...]
    after: Position | None


# Where each verb leads from a state. A state that is missing refuses the verb;
# one that leads to itself answers with the job as it is.
_CANCEL: Mapping[JobState, JobState] = {
    JobState.HELD: JobState.CANCELLED,
    JobState.QUEUED: JobState.CANCELLED,
    JobState.RECOVERING: JobState.CANCELLED,
    JobState.PAUSED: JobState.CANCELLED,
    JobState.STARTING: JobState.CANCELLING,
    JobState.RUNNING: JobState.CANCELLING,
    JobState.PAUSING: JobState.CANCELLING,
    JobState.CANCELLING: JobState.CANCELLING,
    JobState.CANCELLED: JobState.CANCELLED,
}
_PAUSE: Mapping[JobState, JobState] = {
    JobState.QUEUED: JobState.PAUSED,
    JobState.RECOVERING: JobState.PAUSED,
    JobState.STARTING: JobState.PAUSING,
    JobState.RUNNING: JobState.PAUSING,
    JobState.PAUSING: JobState.PAUSING,
    JobState.PAUSED: JobState.PAUSED,
}
_START: Mapping[JobState, JobState] = {
    JobState.HELD: JobState.QUEUED,
    JobState.QUEUED: JobState.QUEUED,
}
_RESUME: Mapping[JobState, JobState] = {
    JobState.PAUSED: JobState.QUEUED,
    JobState.QUEUED: JobState.QUEUED,
}


class Jobs:
    """The use cases of JobService."""

    def __init__(self, store: Store, clock: Clock, creation: Creation, views: Views) -> None:
        self._store = store
        self._clock = clock
        self._creation = creation
        self._views = views

    def create(self, new: NewJob, options: NewJobOptions | None = None) -> JobView:
        """Hands in a job.

        Raises QueueFull, OutputDirTaken, JobIdTaken, RequestIdReused; from a recipe also
        RecipeNotFound, InvalidSpec.
        """
        return self._views.of(self._creation.create(new, options or NewJobOptions()))

    def plan(self, new: NewJob, options: NewJobOptions | None = None) -> JobView:
        """What create would do; stores nothing (validate_only). Raises as create does.

        The job's id is empty unless options.job_id asks for one.
        """
        job = self._creation.draft(new, options or NewJobOptions())
        return self._views.planned(job)

    def retry(self, job_id: JobId, output_dir: str = "", request_id: str = "") -> JobView:
        """A new job with the spec of one that has ended; see RetryJobRequest.

        Raises JobNotFound, NotEnded, InvalidRequest (field output_dir), and as create does.
        """
        return self._views.of(self._creation.retry(job_id, output_dir, request_id))

    def get(self, job_id: JobId) -> JobView:
        """Raises JobNotFound."""
        with self._store.read() as tx:
            job = tx.job(job_id)
            if job is None:
                raise JobNotFound(job_id)
            return self._views.in_transaction(tx, [job])[0]

    def list(self, query: JobQuery) -> JobPage:
        """One page, query.page_size jobs at most."""
        with self._store.read() as tx:
            found: Sequence[Job] = tx.list_jobs(replace(query, page_size=query.page_size + 1))
            page = found[: query.page_size]
            views = self._views.in_transaction(tx, page)
        more = len(found) > query.page_size
        return JobPage(tuple(views), position_of(page[-1], query.order) if more else None)

    def update(self, job_id: JobId, edit: JobEdit) -> JobView:
        """Changes what is not None. Raises JobNotFound."""

        def change(tx: Writing, job: Job) -> Job:
            edited = replace(
                job,
                priority=job.priority if edit.priority is None else edit.priority,
                labels=job.labels if edit.labels is None else dict(edit.labels),
                display_name=job.display_name if edit.display_name is None else edit.display_name,
                # Never back: where the clock was set back, it shows that a wait is over.
                update_time=max(job.update_time, self._clock.now()),
            )
            tx.edit_job(edited)
            # An ended job's last entry stays the last one.
            if edited.state not in TERMINAL:
                tx.append_entry(job_id, _updated(job, edited))
            return edited

        return self._changing(job_id, change)

    def start(self, job_id: JobId) -> JobView:
        """HELD becomes QUEUED. Raises JobNotFound, ForbiddenMove."""
        return self._verb(job_id, _START, JobState.QUEUED, "started")

    def cancel(self, job_id: JobId) -> JobView:
        """CANCELLED at once where nothing runs, else CANCELLING.

        Raises JobNotFound, ForbiddenMove.
        """
        return self._verb(job_id, _CANCEL, JobState.CANCELLED, "cancel was asked for")

    def pause(self, job_id: JobId) -> JobView:
        """PAUSED at once where nothing runs, else PAUSING.

        Raises JobNotFound, ForbiddenMove.
        """
        return self._verb(job_id, _PAUSE, JobState.PAUSED, "pause was asked for")

    def resume(self, job_id: JobId) -> JobView:
        """PAUSED becomes QUEUED. Raises JobNotFound, ForbiddenMove."""
        return self._verb(job_id, _RESUME, JobState.QUEUED, "resumed")

    def delete(self, job_id: JobId) -> JobView:
        """Marks a job that has ended for removal. Raises JobNotFound, NotEnded."""

        def mark(tx: Writing, job: Job) -> Job:
            if not job.is_terminal:
                raise NotEnded(job_id, job.state, "deleted")
            if job.delete_time is not None:
                return job
            now = self._clock.now()
            marked = replace(job, delete_time=now, update_time=now)
            tx.edit_job(marked)
            tx.append_entry(
                job_id, entries.event(job, now, entries.INFO, "DELETED", "marked for removal")
            )
            return marked

        return self._changing(job_id, mark)

    def abandon(self, job_id: JobId) -> JobView:
        """PUBLISHING becomes FAILED, cause LOST; its result may stand all the same, so the
        folder stays taken. Raises JobNotFound, ForbiddenMove."""

        def give_up(tx: Writing, job: Job) -> Job:
            if job.failure is not None and job.failure == _abandoned(job):
                return job
            if job.state is not JobState.PUBLISHING:
                raise ForbiddenMove(
                    job_id, job.state, JobState.FAILED, "only a job that publishes is abandoned"
                )
            now = self._clock.now()
            failure = _abandoned(job)
            ending = Ending(JobState.FAILED, failure.message, failure, failure)
            end = EndOfAttempt(now, slot_held=True, keeps_output_dir=True)
            return end_attempt(tx, job, ending, end, now)

        return self._changing(job_id, give_up)

    def _verb(
        self, job_id: JobId, leads: Mapping[JobState, JobState], wanted: JobState, reason: str
    ) -> JobView:
        def change(tx: Writing, job: Job) -> Job:
            target = leads.get(job.state)
            if target is None:
                raise ForbiddenMove(job_id, job.state, wanted)
            if target is job.state:
                return job
            now = self._clock.now()
            if target in (JobState.CANCELLED, JobState.PAUSED):
                _tell_unconfirmed(tx, job, now)
            return move(tx, job, target, now, Why(reason))

        return self._changing(job_id, change)

    def _changing(self, job_id: JobId, change: Callable[[Writing, Job], Job]) -> JobView:
        def once() -> Job:
            with self._store.write() as tx:
                job = tx.job(job_id)
                if job is None:
                    raise JobNotFound(job_id)
                return change(tx, job)

        return self._views.of(retrying(once))


def _abandoned(job: Job) -> Failure:
    where = f"trainers/{job.current.trainer_id}" if job.current else "a trainer"
    return Failure(
        FailureCause.LOST,
        f"abandoned by an administrator while {where} published its result",
        "Look into the output folder: the result may be there, whole.",
    )


def _tell_unconfirmed(tx: Writing, job: Job, now: datetime) -> None:
    """Names the lost hosts on which an earlier attempt of the job may still run."""
    for slot in tx.held_slots():
        if slot.job_id == job.job_id:
            tx.append_entry(job.job_id, entries.stop_unconfirmed(job, slot.trainer_id, now))


def _updated(before: Job, after: Job) -> bytes:
    """The event that tells monitors, among others, that labels are to be read again."""
    names = ("priority", "labels", "display_name")
    changed = [name for name in names if getattr(before, name) != getattr(after, name)]
    message = f"changed: {', '.join(changed)}" if changed else "nothing changed"
    return entries.event(after, after.update_time, entries.INFO, "JOB_UPDATED", message)
