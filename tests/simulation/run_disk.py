"""The trainer service's view of a simulated disk: workspace, run folders, streams.

Subclasses of the production classes with the same verbs; each write is durable
when it returns, as production's are, and may be the last thing that the
process does. A process that is dead writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from tunewright.v1 import feed_pb2, job_pb2, spec_pb2
from tunewright.wire.times import timestamp

from tests.simulation.disk import RunFiles
from tests.simulation.history import Event
from tests.simulation.host import Host
from tests.simulation.virtual_time import Process
from trainer_svc.domain.authority import Authority
from trainer_svc.domain.classify import ExitRecord, ResultRecord
from trainer_svc.domain.runs import Ending, FolderFacts, RunKey, RunPhase, phase_of
from trainer_svc.supervisor.processes import Identity
from trainer_svc.supervisor.progress import ProgressReader
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.run_folder import RunFolder, StopRecord
from trainer_svc.supervisor.service_log import ServiceLog
from trainer_svc.supervisor.status import stream_name
from trainer_svc.supervisor.workspace import Workspace


class SimFolder(RunFolder):
    """A run folder on a simulated host."""

    def __init__(self, host: Host, process: Process, key: RunKey) -> None:
        super().__init__(host.folder_path(key), key)
        self.host = host
        self._process = process

    @property
    def files(self) -> RunFiles:
        """What is on the disk."""
        return self.host.files.get(self.key) or RunFiles()

    def _write(self, what: str, change: Callable[[RunFiles], None]) -> None:
        if not self._process.alive:
            return
        self._process.hazard(f"before {what}")
        change(self.host.files[self.key])
        self._process.hazard(f"after {what}")

    def stream_size(self, stream: str) -> int:
        lines = self.files.stream(stream)
        return lines[-1].after if lines else 0

    def write_spec(self, spec: Mapping[str, Any]) -> None:
        self._write("spec.json", lambda files: setattr(files, "spec", dict(spec)))

    def spec(self) -> dict[str, Any] | None:
        return self.files.spec

    def spec_message(self) -> spec_pb2.JobSpec:
        message: spec_pb2.JobSpec = (self.files.spec or {}).get("message", spec_pb2.JobSpec())
        return message

    def shim(self) -> Identity | None:
        return self.files.shim

    def child(self) -> Identity | None:
        return self.files.child

    def start_time(self) -> datetime | None:
        return self.files.start_time

    def exit(self) -> ExitRecord | None:
        return self.files.exit

    def exit_time(self) -> datetime | None:
        return self.files.exit_time

    def result(self) -> ResultRecord | None:
        return self.files.result

    def manifest_digest(self) -> str:
        return self.files.digest

    def tail(self) -> str:
        return ""

    def lock_is_held(self) -> bool:
        return self.host.lock_is_held(self.key)

    def stop(self) -> StopRecord | None:
        return self.files.stop

    def write_stop(self, stop: StopRecord) -> None:
        def change(files: RunFiles) -> None:
            files.stop = stop
            now, key = self.host.world.now, self.key
            self.host.history.add(
                Event(now, "stop_written", key.job_id, key.attempt, self.host.name, note=stop.mode)
            )

        self._write("stop.json", change)

    def ending(self) -> Ending | None:
        return self.files.ending

    def end_time(self) -> datetime | None:
        return self.files.end_time

    def write_ending(self, ending: Ending, end_time: datetime) -> None:
        def change(files: RunFiles) -> None:
            files.ending, files.end_time = ending, self.host.wall.now()

        self._write("end.json", change)

    def published(self) -> dict[str, Any] | None:
        return self.files.published

    def write_published(self, path: str, manifest_digest: str) -> None:
        value = {"path": path, "manifest_digest": manifest_digest}
        self._write("published.json", lambda files: setattr(files, "published", value))

    def phase(self) -> RunPhase:
        files = self.files
        return phase_of(
            FolderFacts(
                child_started=files.child is not None,
                ended=files.ending is not None,
                published=files.published is not None,
            )
        )

    def marks(self) -> dict[str, Any]:
        return self.files.marks

    def mark(self, **changes: Any) -> None:
        self._write("marks.json", lambda files: setattr(files, "marks", {**files.marks, **changes}))

    def remove(self, *names: str) -> None:
        self._write("removal", lambda files: setattr(files, "removed", True))


class SimLog(ServiceLog):
    """service.jsonl."""

    def __init__(self, folder: SimFolder) -> None:
        super().__init__(folder.stream_file("service"))
        self._folder = folder

    def _has(self, kind: str) -> bool:
        return any(line.entry.event.type == kind for line in self._folder.files.service)

    def _append(self, entry: feed_pb2.Entry, *, sync: bool) -> None:
        host = self._folder.host
        entry.time.CopyFrom(timestamp(host.wall.now()))
        self._folder._write(
            "service.jsonl", lambda files: files.append("service", entry, host.world.now)
        )


class SimProgress(ProgressReader):
    """The latest progress, from the spool's last line."""

    def __init__(self, folder: SimFolder) -> None:
        super().__init__(folder)
        self._folder = folder

    def read(self) -> job_pb2.Progress:
        spool = self._folder.files.spool
        progress = job_pb2.Progress()
        if spool and spool[-1].entry.WhichOneof("payload") == "train_metrics":
            progress.step = spool[-1].entry.train_metrics.step
        return progress


class Runs(dict[RunKey, Run]):
    """The supervisor's runs; each gets its log and progress on the simulated disk."""

    def __setitem__(self, key: RunKey, run: Run) -> None:
        folder = run.folder
        assert isinstance(folder, SimFolder)
        run.log, run.progress = SimLog(folder), SimProgress(folder)
        super().__setitem__(key, run)


class SimWorkspace(Workspace):
    """The workspace on a simulated host."""

    def __init__(self, host: Host, process: Process) -> None:
        super().__init__(
            host.folder_path(RunKey("workspace", 1)).parent, -1, host.workspace["uuid"]
        )
        self._host = host
        self._process = process

    def authority(self) -> Authority | None:
        known = self._host.workspace
        if "database_uuid" not in known:
            return None
        return Authority(known["database_uuid"], known["generation"])

    def bind(self, authority: Authority) -> None:
        if not self._process.alive or authority == self.authority():
            return
        self._process.hazard("before workspace.json")
        self._host.workspace.update(
            database_uuid=authority.database_uuid, generation=authority.generation
        )

    def folder(self, key: RunKey) -> SimFolder:
        return SimFolder(self._host, self._process, key)

    def make_run(self, key: RunKey) -> SimFolder:
        if self._process.alive:
            self._host.files.setdefault(key, RunFiles())
        return self.folder(key)

    def runs(self) -> Iterator[RunFolder]:
        for key in sorted(self._host.files):
            yield self.folder(key)


def read_batch(run: Run, stream: str, position: int, source: str) -> feed_pb2.FeedBatch | None:
    """As trainer_svc.supervisor.feed_batches.read_batch, from the simulated disk."""
    closed = run.stream_closed(stream)
    folder = run.folder
    assert isinstance(folder, SimFolder)
    batch = feed_pb2.FeedBatch()
    for line in folder.files.stream(stream):
        if line.after <= position:
            continue
        entry = batch.entries.add()
        entry.CopyFrom(line.entry)
        entry.job, entry.attempt = run.key.job, run.key.attempt
        position = line.after
        if len(batch.entries) >= 50:
            break
    batch.end = closed and position >= folder.stream_size(stream)
    if not batch.entries and not batch.end:
        return None
    batch.cursor.CopyFrom(
        feed_pb2.FeedCursor(source=source, stream=stream_name(run, stream), position=position)
    )
    return batch


def spec_json(spec: spec_pb2.JobSpec, gpu_ids: tuple[str, ...], *, resume: bool) -> dict[str, Any]:
    """What spec.json says, as far as anything here reads it."""
    return {"message": spec, "gpu_ids": list(gpu_ids), "resume": resume}
