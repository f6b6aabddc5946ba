"""The workspace: one service's folder, its lock, its identity, its runs.

Refuses a second service on the same folder.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from tunewright.wire.names import ID_PATTERN

from trainer_svc.domain.authority import Authority
from trainer_svc.domain.runs import RunKey
from trainer_svc.supervisor.durable import make_folder, read_json, sync_folder, write_json
from trainer_svc.supervisor.run_folder import RunFolder


class WorkspaceLocked(Exception):
    """Another trainer service runs on this workspace."""


def incarnation_of(starts: int, unique: str) -> str:
    """The name of a workspace's Nth start; as text, later ones are greater."""
    return f"{starts:010d}-{unique}"


class Workspace:
    """An open workspace; its lock is held until `close`."""

    def __init__(self, path: Path, lock_fd: int, identity: str, starts: int = 1) -> None:
        self.path = path
        self.uuid = identity
        self._starts = starts
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path) -> Workspace:
        """Opens, or makes, a workspace. Raises WorkspaceLocked, or OSError."""
        make_folder(path)
        # Children must not inherit it: they outlive the service, and the next one needs the lock.
        fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise WorkspaceLocked(f"another trainer service runs on {path}") from None
        make_folder(path / "runs")
        known = read_json(path / "workspace.json") or {}
        known.setdefault("workspace_uuid", str(uuid.uuid4()))
        known["starts"] = int(known.get("starts", 0)) + 1
        write_json(path / "workspace.json", known)
        return cls(path, fd, str(known["workspace_uuid"]), known["starts"])

    def incarnation(self) -> str:
        """A name for this start of the service: new, and greater than those of all before."""
        return incarnation_of(self._starts, str(uuid.uuid4()))

    def close(self) -> None:
        """Gives the lock back; safe to call twice."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def authority(self) -> Authority | None:
        """The scheduler that this workspace was last bound to; None at first."""
        known = read_json(self.path / "workspace.json") or {}
        if not known.get("database_uuid"):
            return None
        return Authority(str(known["database_uuid"]), int(known.get("generation", 0)))

    def bind(self, authority: Authority) -> None:
        """Remembers whose word counts."""
        if authority != self.authority():
            write_json(
                self.path / "workspace.json",
                {
                    "workspace_uuid": self.uuid,
                    "starts": self._starts,
                    "database_uuid": authority.database_uuid,
                    "generation": authority.generation,
                },
            )

    def folder(self, key: RunKey) -> RunFolder:
        """A run's folder, which need not exist."""
        return RunFolder(self.path / "runs" / key.job_id / str(key.attempt), key)

    def make_run(self, key: RunKey) -> RunFolder:
        """A run's folder, made durable."""
        folder = self.folder(key)
        make_folder(folder.path)
        sync_folder(folder.path.parent)
        return folder

    def runs(self) -> Iterator[RunFolder]:
        """Every run's folder, by job and attempt; what is not one is passed over."""
        for job in sorted(self.path.joinpath("runs").iterdir()):
            if job.is_dir() and ID_PATTERN.fullmatch(job.name):
                attempts = (one.name for one in job.iterdir() if one.name.isdecimal())
                for attempt in sorted(int(name) for name in attempts):
                    yield self.folder(RunKey(job.name, attempt))
