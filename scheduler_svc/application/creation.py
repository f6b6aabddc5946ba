"""How jobs come to be: handed in, made from a recipe, or made again from one that has ended.

One transaction writes the request_id, the job, its output folder's reservation
and its first event; all of it or nothing. Refuses a request_id that came with
another request, and a folder that is taken. A recipe is resolved there as well,
once: the job keeps what came out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunewright.wire.reasons import Violation

from scheduler_svc.application import entries
from scheduler_svc.application.moves import retrying
from scheduler_svc.application.ports import Clock, Ids, Reading, Store, StoredRequest, Writing
from scheduler_svc.application.recipes import found_in, usable
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.errors import (
    JobIdTaken,
    JobNotFound,
    NotEnded,
    OutputDirTaken,
    QueueFull,
    RequestIdReused,
)
from scheduler_svc.domain.job import Job, JobId
from scheduler_svc.domain.recipe import RecipeRef
from scheduler_svc.domain.states import JobState
from svckit.recipes import resolve
from svckit.refusal import InvalidRequest
from svckit.spec import JobSpec, text_rules

_RETRY_SUFFIX = re.compile(r"-retry-[1-9][0-9]*$")


@dataclass(frozen=True, slots=True)
class FromRecipe:
    """A recipe, and what the caller sets of the spec besides."""

    ref: RecipeRef
    given: Mapping[str, object] = field(default_factory=dict)
    """Only what is set, unchecked, under the names of JobSpec."""
    noted: Sequence[Violation] = ()
    """What is wrong with the rest of the request; refused with what is wrong here."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """What the caller of CreateJob says of the job. Checked by who parsed it."""

    spec: JobSpec | FromRecipe
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    asked: Mapping[str, object] | None = None
    """What was set of a spec that is whole, without defaults: they change from version to version.

    It tells one request from another. None: the whole spec does.
    """


@dataclass(frozen=True, slots=True)
class NewJobOptions:
    """How it is to be made; see CreateJobRequest. Empty texts mean none."""

    request_id: str = ""
    job_id: str = ""
    hold: bool = False


class Creation:
    """Makes jobs."""

    def __init__(self, store: Store, clock: Clock, ids: Ids, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._settings = settings

    def create(self, new: NewJob, options: NewJobOptions) -> Job:
        """Stores a new job; the same request_id with the same request answers with the same."""
        fingerprints = [
            _fingerprint(
                "create",
                [new.display_name, dict(new.labels), new.priority, *asked],
                [options.job_id, options.hold],
            )
            for asked in _asked(new)
        ]
        return self._idempotent(
            options.request_id, fingerprints, lambda tx: self._job_of(tx, new, options)
        )

    def draft(self, new: NewJob, options: NewJobOptions) -> Job:
        """The job that create would make; its id is empty unless one is wished for."""
        with self._store.read() as tx:
            job = replace(self._job_of(tx, new, options), job_id=JobId(options.job_id))
            self._check_queue(tx)
            if job.job_id and tx.job(job.job_id) is not None:
                raise JobIdTaken(job.job_id)
            owner = tx.output_dir_owner(job.spec.output_dir)
            if owner is not None:
                raise OutputDirTaken(job.spec.output_dir, *owner)
        return job

    def retry(self, job_id: JobId, output_dir: str, request_id: str) -> Job:
        """Stores a new job like one that has ended."""
        fingerprints = [_fingerprint("retry", [job_id], [output_dir])]

        def again(tx: Writing) -> Job:
            old = tx.job(job_id)
            if old is None:
                raise JobNotFound(job_id)
            if not old.is_terminal:
                raise NotEnded(job_id, old.state, "retried")
            folder = _checked_folder(output_dir) if output_dir else _free_folder(tx, old)
            new = NewJob(
                old.spec.model_copy(update={"output_dir": folder}),
                old.display_name,
                old.labels,
                old.priority,
            )
            job = self._job_of(tx, new, NewJobOptions())
            return replace(job, retry_of=old.job_id, recipe=old.recipe)

        return self._idempotent(request_id, fingerprints, again)

    def _idempotent(
        self, request_id: str, fingerprints: Sequence[str], make: Callable[[Writing], Job]
    ) -> Job:
        """Any of the fingerprints is that of the same request; the first one is stored."""

        def once() -> Job:
            with self._store.write() as tx:
                known = _known(tx, request_id, fingerprints) if request_id else None
                if known is not None:
                    return known
                self._check_queue(tx)
                job = make(tx)
                if request_id:
                    tx.insert_request(StoredRequest(request_id, fingerprints[0], job.job_id))
                _store_new(tx, job)
                return job

        return retrying(once)

    def _job_of(self, tx: Reading, new: NewJob, options: NewJobOptions) -> Job:
        now = self._clock.now()
        spec, recipe = _resolved(tx, new.spec)
        return Job(
            job_id=JobId(options.job_id or self._ids.new_job_id()),
            spec=spec,
            recipe=recipe,
            state=JobState.HELD if options.hold else JobState.QUEUED,
            create_time=now,
            update_time=now,
            display_name=new.display_name,
            labels=dict(new.labels),
            priority=new.priority,
            queue_time=None if options.hold else now,
        )

    def _check_queue(self, tx: Reading) -> None:
        jobs_max = self._settings.queue_jobs_max
        if tx.count_queue(jobs_max) >= jobs_max:
            raise QueueFull(jobs_max)


def _resolved(tx: Reading, spec: JobSpec | FromRecipe) -> tuple[JobSpec, str]:
    """The whole spec, and the name of the recipe's version that it is from."""
    if isinstance(spec, JobSpec):
        return spec, ""
    view = found_in(tx, spec.ref)
    recipe = usable(view, "job.recipe")
    resolved = resolve(recipe, view.ref.recipe_id, spec.given, "job.spec", spec.noted)
    return resolved, view.ref.name


def _asked(new: NewJob) -> list[list[object]]:
    """What a request says of the spec, as it was fingerprinted by this version and before.

    Not what a recipe or a default made of it, which may change.
    """
    if isinstance(new.spec, FromRecipe):
        return [[new.spec.ref.name, dict(new.spec.given)]]
    # Requests were stored under the spec with every default. That still finds those of a version
    # with the same fields; with fewer, their text cannot be made again, and they are not found.
    whole: list[object] = [new.spec.to_json()]
    return [whole] if new.asked is None else [[dict(new.asked)], whole]


def _store_new(tx: Writing, job: Job) -> None:
    tx.insert_job(job)
    tx.reserve_output_dir(job.spec.output_dir, job.job_id)
    tx.append_entry(job.job_id, entries.state_change(None, job, job.create_time))


def _known(tx: Writing, request_id: str, fingerprints: Sequence[str]) -> Job | None:
    stored = tx.request(request_id)
    if stored is None:
        return None
    if stored.fingerprint not in fingerprints:
        raise RequestIdReused(request_id, stored.job_id)
    job = tx.job(stored.job_id)
    if job is None:
        raise JobNotFound(stored.job_id)
    return job


def _fingerprint(verb: str, *parts: object) -> str:
    text = json.dumps([verb, *parts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _checked_folder(output_dir: str) -> str:
    try:
        return text_rules.output_dir(output_dir)
    except ValueError as error:
        raise InvalidRequest.of([Violation("output_dir", str(error))]) from None


def _free_folder(tx: Reading, old: Job) -> str:
    """The old folder where nothing stands or will stand in it, else with "-retry-N"."""
    folder = old.spec.output_dir
    if tx.output_dir_owner(folder) is None:
        return folder
    # A retry of a retry counts on, instead of growing a tail.
    stem = _RETRY_SUFFIX.sub("", folder) if old.retry_of else folder
    number = 1
    while tx.output_dir_owner(f"{stem}-retry-{number}") is not None:
        number += 1
    return _checked_folder(f"{stem}-retry-{number}")
