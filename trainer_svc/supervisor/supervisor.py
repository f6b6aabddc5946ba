"""The supervisor: every run of this workspace, and what may be done with it.

Owns the runs. RPCs and the upstream loop ask it; it never calls the scheduler
itself: `due` says what the scheduler has to be told of a run. Nothing is
spawned before `bind`. Absence from a list never stops a run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from enum import Enum

import structlog
from tunewright.v1 import registry_service_pb2

from svckit.crash import crash_point
from trainer_svc.domain.authority import Authority
from trainer_svc.domain.refusals import (
    Draining,
    NotRegistered,
    RunNotFound,
    StaleAttempt,
    TrainerFull,
)
from trainer_svc.domain.runs import Ending, RunKey, RunOutcome, RunPhase, StopMode
from trainer_svc.domain.slots import Holding, check_fits
from trainer_svc.supervisor import publication, service_log
from trainer_svc.supervisor.host import Host
from trainer_svc.supervisor.life import (
    RunLife,
    log_failure,
    publication_failure,
    publication_of,
)
from trainer_svc.supervisor.output_root import OutputInvalid
from trainer_svc.supervisor.processes import is_alive
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.run_folder import StopRecord
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.starting import StartOrder, StartProblem, prepare
from trainer_svc.supervisor.status import running_status, status_of_run
from trainer_svc.supervisor.stopping import carry_out_stop, request_stop
from trainer_svc.supervisor.workspace import Workspace


class Due(Enum):
    """What the scheduler has to be told of a run."""

    NOTHING = 0
    RUNNING = 1
    GRANT = 2
    """Ask for the grant to publish, then publish."""
    END = 3


class Supervisor:
    """All runs of one open workspace."""

    def __init__(self, settings: Settings, workspace: Workspace, host: Host) -> None:
        self.settings = settings
        self.workspace = workspace
        self.host = host
        self.changes: asyncio.Queue[RunKey] = asyncio.Queue()
        """Runs that moved; the upstream loop takes them from here."""
        self.moved = asyncio.Condition()
        """Notified at each move; feed streams wait on it."""
        self._life = RunLife(settings, workspace.uuid, host.gpus, self._on_change)
        self._runs: dict[RunKey, Run] = {}
        self._authority: Authority | None = None
        self._starting = asyncio.Lock()
        self._draining = False
        self._notices: set[asyncio.Task[None]] = set()

    # --- the service's own life

    async def open(self) -> None:
        """Reads the run folders and takes back what lives; called once, before anything else."""
        for folder in await asyncio.to_thread(lambda: list(self.workspace.runs())):
            run = Run(folder)
            if run.holds_slot and folder.spec() is None:
                continue  # the folder was made, and nothing was written: it never started
            self._runs[run.key] = run
            if run.holds_slot:
                self._take_back(run)

    async def close(self) -> None:
        """Stops watching. Children are not touched."""
        self._draining = True
        tasks = [task for run in self._runs.values() for task in (run.life, run.stopper) if task]
        for task in (*tasks, *self._notices):
            task.cancel()
        await asyncio.gather(*tasks, *self._notices, return_exceptions=True)

    async def drain(self) -> None:
        """Starts nothing from here on; feed streams end."""
        self._draining = True
        async with self.moved:
            self.moved.notify_all()

    @property
    def draining(self) -> bool:
        """True once the service is on its way out."""
        return self._draining

    def bind(self, authority: Authority) -> None:
        """The scheduler has answered the registration: runs may be spawned and published."""
        before = self.workspace.authority()
        if before is not None and not before.same_database(authority):
            structlog.get_logger().warning(
                "the scheduler has another database; runs go on",
                before=before.database_uuid,
                now=authority.database_uuid,
            )
        self.workspace.bind(authority)
        self._authority = authority

    @property
    def authority(self) -> Authority | None:
        """Whose word counts; None until the first registration is answered."""
        return self._authority

    # --- reading

    def runs(self) -> Sequence[Run]:
        """Every run of the workspace, by job and attempt."""
        return [self._runs[key] for key in sorted(self._runs)]

    def run(self, key: RunKey) -> Run:
        """One run. Raises RunNotFound."""
        if key not in self._runs:
            raise RunNotFound(f"no run {key}")
        return self._runs[key]

    async def status(self, key: RunKey) -> registry_service_pb2.RunStatus:
        """One run's status. Raises RunNotFound."""
        return await asyncio.to_thread(status_of_run, self.run(key), self.workspace.uuid)

    async def running_status(self, key: RunKey) -> registry_service_pb2.RunStatus:
        """One run's status as it was while its child ran. Raises RunNotFound."""
        return await asyncio.to_thread(running_status, self.run(key), self.workspace.uuid)

    async def statuses(
        self, *, unacknowledged_only: bool
    ) -> Sequence[registry_service_pb2.RunStatus]:
        """Statuses of all runs, or of those whose end the scheduler has not recorded."""
        runs = [run for run in self.runs() if not (unacknowledged_only and run.acknowledged)]
        uuid = self.workspace.uuid
        return await asyncio.to_thread(lambda: [status_of_run(run, uuid) for run in runs])

    def active(self) -> Sequence[Run]:
        """Runs whose processes live."""
        return [run for run in self.runs() if run.holds_slot and not run.unspawned]

    # --- start

    async def start(self, order: StartOrder) -> Run:
        """Starts a run; starting twice is starting once.

        Raises NotRegistered, Draining, StaleAttempt, TrainerFull, OSError.
        """
        async with self._starting:
            self._check_may_start()
            known = self._runs.get(order.key)
            if known is not None and not known.unspawned:
                return known
            await self._check_predecessors(order.key)
            await self._check_fits(order, known)
            return await self._start(order)

    def _check_may_start(self) -> None:
        if self._draining:
            raise Draining("this trainer service is ending", retry_delay_seconds=5.0)
        if self._authority is None:
            raise NotRegistered("the scheduler has not answered yet", retry_delay_seconds=1.0)

    async def _check_predecessors(self, key: RunKey) -> None:
        """An attempt that was given away ends before anything new begins."""
        same_job = [run for run in self._runs.values() if run.key.job_id == key.job_id]
        latest = max((run.key.attempt for run in same_job), default=0)
        if key.attempt < latest:
            raise StaleAttempt(f"{key.job} has attempt {latest} here; {key.attempt} is older")
        for run in same_job:
            if run.key.attempt < key.attempt and run.holds_slot:
                # Not `fence`: that waits for starts, and this is one.
                await self._stop(run, StopMode.FENCE, None)
        for run in self._runs.values():
            stop = run.folder.stop() if run.holds_slot else None
            if stop is not None and stop.mode is StopMode.FENCE:
                raise TrainerFull(f"{run.key.job} is being ended", retry_delay_seconds=1.0)

    async def _check_fits(self, order: StartOrder, known: Run | None) -> None:
        held = [
            Holding(run.key, run.gpu_ids)
            for run in self._runs.values()
            if run.holds_slot and run is not known
        ]
        check_fits(order.gpu_ids, held, await self.host.capacity(self.runs()))

    async def _start(self, order: StartOrder) -> Run:
        folder = await asyncio.to_thread(self.workspace.make_run, order.key)
        problem: StartProblem | None = None
        try:
            await asyncio.to_thread(prepare, self.settings, self.workspace.uuid, folder, order)
        except StartProblem as found:
            problem = found
        crash_point("spec_written")
        run = Run(folder)
        self._runs[run.key] = run
        if problem is not None:
            await self._life.finish(run, Ending.failed(problem.failure))
        else:
            run.life = asyncio.create_task(self._life.spawn_and_watch(run))
        return run

    def _take_back(self, run: Run) -> None:
        """Adoption: goes on with a run that an earlier start of this service has spawned."""
        shim = run.folder.shim()
        if shim is None and run.folder.exit() is None and not run.folder.lock_is_held():
            if run.folder.stop() is None:
                return  # never spawned: its assignment will be repeated
        elif shim is not None and is_alive(shim) and run.folder.lock_is_held():
            run.log.event(service_log.INFO, "ADOPTED", "the trainer service is back")
            structlog.get_logger().info("run taken back", run=str(run.key), pid=shim.pid)
        run.life = asyncio.create_task(self._life.watch(run))
        if run.folder.stop() is not None:
            self._begin_stop(run)

    # --- stop

    async def stop(self, key: RunKey, mode: StopMode, grace_seconds: float | None = None) -> Run:
        """Stops a run; one that is not known leaves a tombstone and will never start."""
        run = self._runs.get(key)
        if run is None or run.unspawned:
            # Its start may be under way: looked at again once that has come to its end.
            async with self._starting:
                run = self._runs.get(key)
                if run is None:
                    return await self._bury(key, mode)
                return await self._stop(run, mode, grace_seconds)
        return await self._stop(run, mode, grace_seconds)

    async def _stop(self, run: Run, mode: StopMode, grace_seconds: float | None) -> Run:
        if mode is StopMode.FENCE:
            run.fence()
        if not run.holds_slot:
            return run
        record = StopRecord(mode, self._grace(mode, grace_seconds))
        written = await asyncio.to_thread(request_stop, run, record)
        if run.unspawned:
            run.life = asyncio.create_task(self._life.watch(run))
        if written or run.stopper is None:
            self._begin_stop(run)
        return run

    async def fence(self, key: RunKey) -> None:
        """Ends a run whose attempt is not current any more; it will never be published."""
        if key in self._runs:
            await self.stop(key, StopMode.FENCE)

    def _grace(self, mode: StopMode, asked: float | None) -> float:
        grace = self.settings.stop_grace_seconds if asked is None else asked
        return min(grace, self.settings.fence_grace_seconds) if mode is StopMode.FENCE else grace

    def _begin_stop(self, run: Run) -> None:
        if run.stopper is not None:
            run.stopper.cancel()
        run.stopper = asyncio.create_task(carry_out_stop(run, self._life, self.settings))

    async def _bury(self, key: RunKey, mode: StopMode) -> Run:
        folder = await asyncio.to_thread(self.workspace.make_run, key)
        folder.mark(tombstone=str(mode))
        run = Run(folder)
        run.end(Ending(RunOutcome.STOPPED))
        self._runs[key] = run
        self._on_change(run)
        return run

    # --- what the scheduler is told, and what it answers

    def due(self, key: RunKey) -> Due:
        """What the scheduler has to be told of a run next."""
        run = self._runs.get(key)
        if run is None or run.acknowledged or run.phase is RunPhase.PREPARING or run.fenced:
            return Due.NOTHING
        if run.phase is RunPhase.RUNNING:
            return Due.NOTHING if run.reported is not None else Due.RUNNING
        if run.awaits_publication:
            return Due.RUNNING if run.reported is None else Due.GRANT
        return Due.NOTHING if run.reported is run.phase else Due.END

    def reported(self, key: RunKey, phase: RunPhase) -> None:
        """The scheduler has taken a report."""
        self.run(key).reported = phase

    def forget_reports(self) -> None:
        """A new registration: what lives or is not acknowledged is said again."""
        for run in self._runs.values():
            run.reported = None
            self._on_change(run)

    def acknowledge(self, keys: Iterable[RunKey]) -> None:
        """The scheduler has recorded the end of these."""
        for key in keys:
            if key in self._runs:
                self._runs[key].acknowledge()

    async def publish(self, key: RunKey) -> None:
        """Moves a result to its place; the grant must have been given.

        Raises OSError when the disk fails in a way that may pass.
        """
        crash_point("publish_granted")
        run = self.run(key)
        to_publish = publication_of(self.settings, run)
        try:
            await asyncio.to_thread(publication.move_into_place, to_publish)
        except (OutputInvalid, publication.StagedResultInvalid) as error:
            failure = publication_failure(error)
            log_failure(run, failure)
            run.end(Ending.failed(failure), run.folder.end_time())
        else:
            crash_point("result_renamed")
            details = {"path": to_publish.path, "manifest_digest": to_publish.digest}
            message = f"the result is in {to_publish.path}"
            run.log.event_once(service_log.INFO, "PUBLISHED", message, details)
            run.folder.write_published(to_publish.path, to_publish.digest)
            run.phase = RunPhase.PUBLISHED
            run.keep_acks()
        self._on_change(run)

    def refuse_publication(self, key: RunKey, why: str) -> None:
        """The scheduler gave no grant and never will."""
        self.run(key).refuse_publication(why)
        self._on_change(self.run(key))

    def forget(self, key: RunKey) -> None:
        """A run's folder is gone: collection removed it."""
        self._runs.pop(key, None)

    def _on_change(self, run: Run) -> None:
        self.changes.put_nowait(run.key)
        notice = asyncio.get_running_loop().create_task(self._notify())
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)

    async def _notify(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            async with self.moved:
                self.moved.notify_all()
