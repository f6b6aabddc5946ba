"""One run's folder: every file in it that the service reads or writes.

The truth about a run is here and in the kernel; the service keeps nothing in
memory that it could not read again after a crash.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tunewright.v1 import spec_pb2

from trainer_svc.domain.classify import ExitRecord, ResultRecord
from trainer_svc.domain.runs import (
    Cause,
    Ending,
    Failure,
    FolderFacts,
    RunKey,
    RunOutcome,
    RunPhase,
    StopMode,
    phase_of,
)
from trainer_svc.supervisor.durable import read_json, write_json
from trainer_svc.supervisor.processes import Identity

_TAIL_BYTES = 64 * 1024
STREAM_FILES: Mapping[str, str] = {
    "spool": "spool.jsonl",
    "stdout": "stdout.log",
    "service": "service.jsonl",
}
"""The feed streams of a run, and the file that each one is."""


@dataclass(frozen=True)
class StopRecord:
    """stop.json: why the run is to stop, and how long it may take."""

    mode: StopMode
    grace_seconds: float


class RunFolder:
    """`<workspace>/runs/<job id>/<attempt>`."""

    def __init__(self, path: Path, key: RunKey) -> None:
        self.path = path
        self.key = key
        self.lock_file = path / "lock"

    def stream_file(self, stream: str) -> Path:
        """The file behind a feed stream ("spool", "stdout", "service")."""
        return self.path / STREAM_FILES[stream]

    def stream_size(self, stream: str) -> int:
        """Bytes in a stream's file; 0 if it was never made."""
        try:
            return self.stream_file(stream).stat().st_size
        except OSError:
            return 0

    # --- what the service writes before the child runs

    def write_spec(self, spec: Mapping[str, Any]) -> None:
        """Writes spec.json: from here on the run exists."""
        write_json(self.path / "spec.json", spec)

    def spec(self) -> dict[str, Any] | None:
        """spec.json as it stands; None for a tombstone or a torn start."""
        return read_json(self.path / "spec.json")

    def spec_message(self) -> spec_pb2.JobSpec:
        """The job's spec as it came; empty if there is none."""
        written = self.spec() or {}
        return json_format.ParseDict(
            written.get("spec", {}), spec_pb2.JobSpec(), ignore_unknown_fields=True
        )

    # --- what the shim and the child wrote

    def shim(self) -> Identity | None:
        """Who the shim is, or was."""
        return Identity.of_json((read_json(self.path / "process.json") or {}).get("shim"))

    def child(self) -> Identity | None:
        """Who the child is, or was; None before it ran."""
        return Identity.of_json((read_json(self.path / "process.json") or {}).get("child"))

    def start_time(self) -> datetime | None:
        """When the child started; None before."""
        return _moment((read_json(self.path / "process.json") or {}).get("start_time"))

    def exit(self) -> ExitRecord | None:
        """exit.json; None while the shim has not written it."""
        value = read_json(self.path / "exit.json")
        if value is None:
            return None
        return ExitRecord(
            value.get("exit_code"),
            value.get("signal"),
            bool(value.get("killed_by_us")),
            int(value.get("oom_kills", 0)),
        )

    def exit_time(self) -> datetime | None:
        """When the tree was gone, as the shim saw it."""
        return _moment((read_json(self.path / "exit.json") or {}).get("end_time"))

    def result(self) -> ResultRecord | None:
        """result.json; None if the child did not get to it."""
        value = read_json(self.path / "result.json")
        if value is None:
            return None
        failure = value.get("failure")
        texts = {k: str(v) for k, v in failure.items()} if isinstance(failure, dict) else None
        return ResultRecord(str(value.get("outcome", "")), texts)

    def manifest_digest(self) -> str:
        """The digest that the child gives for its staged result; "" if none."""
        return str((read_json(self.path / "result.json") or {}).get("manifest_digest") or "")

    def tail(self) -> str:
        """The last lines that were printed."""
        try:
            with open(self.stream_file("stdout"), "rb") as stream:
                stream.seek(max(0, self.stream_size("stdout") - _TAIL_BYTES))
                return stream.read(_TAIL_BYTES).decode("utf-8", errors="replace")
        except OSError:
            return ""

    def lock_is_held(self) -> bool:
        """True if the shim, or a process that it left behind, holds the lock."""
        try:
            fd = os.open(self.lock_file, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    # --- stop, end, publication

    def stop(self) -> StopRecord | None:
        """stop.json; None if nobody asked for a stop."""
        value = read_json(self.path / "stop.json")
        if value is None:
            return None
        return StopRecord(StopMode(value["mode"]), float(value["grace_seconds"]))

    def write_stop(self, stop: StopRecord) -> None:
        """Writes stop.json."""
        value = {"mode": str(stop.mode), "grace_seconds": stop.grace_seconds}
        write_json(self.path / "stop.json", value)

    def ending(self) -> Ending | None:
        """end.json: how the run ended, as it was decided once; None before."""
        value = read_json(self.path / "end.json")
        if value is None:
            return None
        failure = value.get("failure")
        return Ending(
            RunOutcome(value["outcome"]),
            Failure(**{**failure, "cause": Cause(failure["cause"])}) if failure else None,
        )

    def end_time(self) -> datetime | None:
        """When the run ended, as end.json says; None before."""
        return _moment((read_json(self.path / "end.json") or {}).get("end_time"))

    def write_ending(self, ending: Ending, end_time: datetime) -> None:
        """Writes end.json. It is never changed by anything but a failed publication."""
        failure = ending.failure
        value = {
            "outcome": str(ending.outcome),
            "end_time": end_time.astimezone(UTC).isoformat(),
            "failure": {**vars(failure), "cause": str(failure.cause)} if failure else None,
        }
        write_json(self.path / "end.json", value)

    def published(self) -> dict[str, Any] | None:
        """published.json: {"path", "manifest_digest"}; None before."""
        return read_json(self.path / "published.json")

    def write_published(self, path: str, manifest_digest: str) -> None:
        """Writes published.json, once the result is at its place."""
        write_json(self.path / "published.json", {"path": path, "manifest_digest": manifest_digest})

    def phase(self) -> RunPhase:
        """The phase that the files add up to."""
        return phase_of(
            FolderFacts(
                child_started=self.child() is not None,
                ended=(self.path / "end.json").exists(),
                published=(self.path / "published.json").exists(),
            )
        )

    # --- marks: what scheduler and monitor said of it

    def marks(self) -> dict[str, Any]:
        """marks.json: tombstone, acknowledged, fenced, publication_refused, acks, collected."""
        return read_json(self.path / "marks.json") or {}

    def mark(self, **changes: Any) -> None:
        """Changes some marks durably; writes nothing if nothing changes."""
        before = self.marks()
        after = {**before, **changes}
        if after != before:
            write_json(self.path / "marks.json", after)

    def remove(self, *names: str) -> None:
        """Removes files of the folder that are there."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self.path / name).unlink()


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except (TypeError, ValueError):
        return None
