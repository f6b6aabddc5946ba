"""The production application over the store in memory, with time under control."""

from __future__ import annotations

from tunewright.v1 import feed_pb2, job_pb2

from scheduler_svc.application.creation import NewJob, NewJobOptions
from scheduler_svc.application.ports import Store
from scheduler_svc.application.registry import HeartbeatAnswer, RegisterAnswer
from scheduler_svc.application.scheduler import Scheduler, build
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.failure import Failure, FailureCause
from scheduler_svc.domain.fleet import Capabilities
from scheduler_svc.domain.job import FinalCursor, JobId, JobOutput, JobView, TrainerId
from scheduler_svc.domain.run import (
    Heartbeat,
    Registration,
    Reporter,
    RunKey,
    RunOutcome,
    RunPhase,
    RunReport,
)
from scheduler_svc.domain.states import JobState
from scheduler_svc.storage.memory_store import MemoryStore
from svckit.spec import Backend
from tests.unit.scheduler.builders import CountingIds, ManualClock, some_gpus, spec

SETTINGS = Settings(flush_after_seconds=0.0)


class World:
    """A scheduler that leads, and what trainers say to it."""

    def __init__(self, store: Store | None = None, settings: Settings = SETTINGS) -> None:
        self.store = store or MemoryStore()
        self.clock = ManualClock()
        self.ids = CountingIds()
        self.settings = settings
        self.sequence = 0
        self.scheduler = self.restarted()

    def restarted(self) -> Scheduler:
        """Another scheduler process on the same database; it leads from now on."""
        self.scheduler = build(self.store, self.clock, self.ids, self.settings)
        self.scheduler.lead.take_lead()
        return self.scheduler

    def create(self, output_dir: str = "out", **others: object) -> JobId:
        """A queued job for a CPU slot."""
        options = NewJobOptions(job_id=str(others.pop("job_id", "")))
        new = NewJob(spec(output_dir, **others))  # type: ignore[arg-type]  # keywords of spec()
        return self.scheduler.jobs.create(new, options).job.job_id

    def register(
        self,
        trainer_id: str = "a",
        incarnation: str = "i1",
        *runs: RunReport,
        boot_id: str = "boot-1",
        cpu_slots: int = 2,
        gpu_count: int = 0,
    ) -> RegisterAnswer:
        """A trainer service starts."""
        return self.scheduler.registry.register(
            Registration(
                Reporter(TrainerId(trainer_id), incarnation),
                f"{trainer_id}:7402",
                boot_id,
                f"workspace-{trainer_id}",
                Capabilities((Backend.QLORA,), cpu_slots),
                some_gpus(gpu_count),
                runs,
            )
        )

    def beat(
        self, trainer_id: str = "a", *runs: RunReport, incarnation: str = "i1", gpu_count: int = 0
    ) -> HeartbeatAnswer:
        """A heartbeat."""
        self.sequence += 1
        reporter = Reporter(TrainerId(trainer_id), incarnation)
        return self.scheduler.registry.heartbeat(
            Heartbeat(reporter, self.sequence, some_gpus(gpu_count), runs)
        )

    def report(self, report: RunReport, trainer_id: str = "a", incarnation: str = "i1") -> JobState:
        """One report of a run."""
        reporter = Reporter(TrainerId(trainer_id), incarnation)
        return self.scheduler.registry.report_run(reporter, report)

    def publish(
        self, job_id: JobId, attempt: int = 1, trainer_id: str = "a", incarnation: str = "i1"
    ) -> JobState:
        """Asks for the grant."""
        reporter = Reporter(TrainerId(trainer_id), incarnation)
        return self.scheduler.registry.begin_publish(reporter, RunKey(job_id, attempt))

    def started(self, output_dir: str = "out", **others: object) -> JobId:
        """A job whose first attempt runs on trainers/a."""
        job_id = self.create(output_dir, **others)
        if "a" not in [host.trainer_id for host in self.scheduler.fleet.list(10).hosts]:
            self.register()
        assert [one.assignment.key.job_id for one in self.scheduler.dispatch.run()] == [job_id]
        self.report(runs(job_id))
        return job_id

    def silence(self, seconds: float) -> None:
        """Time goes on, the upkeep runs every second, nobody is heard."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.scheduler.upkeep.run()

    def state(self, job_id: JobId) -> JobState:
        """Where the job stands."""
        return self.view(job_id).job.state

    def view(self, job_id: JobId) -> JobView:
        """The job as people see it."""
        return self.scheduler.jobs.get(job_id)

    def entries(self, job_id: JobId | None = None) -> list[feed_pb2.Entry]:
        """The feed so far, of one job or of all."""
        found = [
            feed_pb2.Entry.FromString(entry.payload)
            for entry in self.scheduler.feed.after(0, 10_000)
        ]
        return [one for one in found if job_id is None or one.job == f"jobs/{job_id}"]

    def path(self, job_id: JobId) -> list[str]:
        """The states that the feed tells of, in order."""
        return [
            job_pb2.JobState.Name(one.state_change.to).removeprefix("JOB_STATE_")
            for one in self.entries(job_id)
            if one.HasField("state_change")
        ]


def runs(job_id: JobId, attempt: int = 1) -> RunReport:
    """Its child runs."""
    return RunReport(RunKey(job_id, attempt), RunPhase.RUNNING)


def completed(job_id: JobId, attempt: int = 1) -> RunReport:
    """All steps are done."""
    return RunReport(RunKey(job_id, attempt), RunPhase.ENDED, RunOutcome.COMPLETED)


def stopped(job_id: JobId, attempt: int = 1) -> RunReport:
    """It stopped because it was asked to."""
    return RunReport(RunKey(job_id, attempt), RunPhase.ENDED, RunOutcome.STOPPED)


def failed(
    job_id: JobId, attempt: int = 1, cause: FailureCause = FailureCause.CRASHED
) -> RunReport:
    """It failed."""
    failure = Failure(cause, "exit code 1")
    cursors = (FinalCursor("workspace-a", f"runs/{job_id}/{attempt}/spool", 77),)
    key = RunKey(job_id, attempt)
    return RunReport(key, RunPhase.ENDED, RunOutcome.FAILED, failure, final_cursors=cursors)


def published(job_id: JobId, attempt: int = 1) -> RunReport:
    """Its result is at its final place."""
    output = JobOutput(f"/out/{job_id}", "sha256:00")
    key = RunKey(job_id, attempt)
    return RunReport(key, RunPhase.PUBLISHED, RunOutcome.COMPLETED, output=output)
