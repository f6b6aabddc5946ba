"""The shim: one small process per run, above the training child and all that it starts.

Holds the run folder's lock, says who it is in process.json before anything
else, copies the child's output, stops the whole tree when it is told to, and
alone writes exit.json, when nothing below it lives any more. Refuses to run a
folder that is locked (exit 3) or that was run before (exit 4).

Standard library and psutil only: it must stay small beside a training process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

EXIT_LOCKED = 3
EXIT_RUN_BEFORE = 4
STDOUT_BYTES_MAX = 64 * 1024 * 1024
GRACE_SECONDS = 30.0
FENCE_GRACE_SECONDS_MAX = 5.0
# A checkpoint that is being written may take this much longer than the grace.
CHECKPOINT_EXTRA_SECONDS_MAX = 300.0
CHECKPOINT_IDLE_SECONDS = 10.0
BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_PR_SET_CHILD_SUBREAPER = 36
_CHUNK_BYTES = 64 * 1024
# The service probes the lock for an instant; that must not pass for a second shim.
_LOCK_TRIES = 30
_LOCK_PAUSE_SECONDS = 0.01

_EXIT_TRIES = 50
_EXIT_PAUSE_SECONDS = 0.1


def main(arguments: list[str]) -> int:
    """Runs one folder to its end; the exit code says only whether it was run."""
    folder = Path(arguments[0])
    lock_fd = take_lock(folder / "lock")
    if lock_fd is None:
        return EXIT_LOCKED
    if (folder / "exit.json").exists() or (folder / "process.json").exists():
        return EXIT_RUN_BEFORE
    return Shim(folder, lock_fd).run()


def take_lock(file: Path) -> int | None:
    """The descriptor of the locked file, or None if somebody else holds it."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        time.sleep(_LOCK_PAUSE_SECONDS)
    os.close(fd)
    return None


def write_json(file: Path, value: object) -> None:
    """Writes a file that is whole and on the disk once it has its name."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    with open(aside, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(aside, file)
    folder_fd = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file; empty if there is none, or none that can be read."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def identity(pid: int, boot_id_file: str = BOOT_ID_FILE) -> dict[str, Any]:
    """What tells a process from a later one with the same number."""
    # The name of a command may hold spaces and parentheses: count from the last one.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    start_ticks = int(fields.rpartition(")")[2].split()[19])
    boot_id = Path(boot_id_file).read_text(encoding="ascii").strip()
    return {"pid": pid, "start_ticks": start_ticks, "boot_id": boot_id}


def oom_kills() -> int:
    """How many processes the kernel's memory killer has ended, near us if that is known."""
    for file, key in _oom_counters():
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text(encoding="ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == key:
                    return int(count)
    return 0


def _oom_counters() -> Iterator[tuple[Path, str]]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield Path(f"/sys/fs/cgroup{path}/memory.events"), "oom_kill"
            elif "memory" in controllers.split(","):
                yield Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control"), "oom_kill"
    yield Path("/proc/vmstat"), "oom_kill"


class OutputCopy:
    """Copies what the child prints into a file, up to a bound; then one line says so."""

    def __init__(self, file: Path, bytes_max: int) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._left = bytes_max
        self._bytes_max = bytes_max
        self._said = False

    def write(self, chunk: bytes) -> None:
        """Appends what still fits. A full disk loses output, never the run."""
        kept = chunk[: self._left]
        self._left -= len(kept)
        self._append(kept)
        if len(kept) < len(chunk) and not self._said:
            self._said = True
            self._append(f"\n[output cut here: over {self._bytes_max} bytes]\n".encode())

    def _append(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        """Puts what was written on the disk."""
        with contextlib.suppress(OSError):
            os.fsync(self._fd)
        os.close(self._fd)


class Shim:
    """One run: start, copy, stop, end."""

    def __init__(self, folder: Path, lock_fd: int) -> None:
        self._folder = folder
        self._lock_fd = lock_fd
        self._spec = read_json(folder / "spec.json")
        bytes_max = int(self._spec.get("stdout_bytes_max", STDOUT_BYTES_MAX))
        self._output = OutputCopy(folder / "stdout.log", bytes_max)
        self._selector = selectors.DefaultSelector()
        self._child: subprocess.Popen[bytes] | None = None
        self._status: int | None = None
        self._stop_mode: str | None = None
        self._kill_at: float | None = None
        self._kill_at_latest = 0.0
        self._killed_by_us = False
        self._signalled = False

    def run(self) -> int:
        """Blocks until the whole tree is gone and exit.json is written."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        kills_before = oom_kills()
        me = self._identity(os.getpid())
        write_json(self._folder / "process.json", {"shim": me, "child": None})
        self._listen()
        if not (self._folder / "stop.json").exists():
            self._start(me)
        while self._child is not None and self._status is None:
            self._turn()
        self._end_tree()
        self._drain()
        self._output.close()
        self._say_exit(oom_kills() - kills_before)
        return 0

    def _listen(self) -> None:
        """Signals wake the selector. They were blocked since the spawn, so none is lost."""
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            # A handler, not SIG_IGN: what is ignored stays ignored in the child.
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._selector.register(read_end, selectors.EVENT_READ, "wake")

    def _on_term(self, *_: object) -> None:
        self._signalled = True

    def _start(self, me: dict[str, Any]) -> None:
        environment = {**os.environ, **self._spec.get("environment", {})}
        try:
            child = subprocess.Popen(
                self._spec["argv"],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                process_group=0,
                # While any process below holds it, the folder counts as alive.
                pass_fds=(self._lock_fd,),
                restore_signals=True,
            )
        except (OSError, KeyError, ValueError) as error:
            self._output.write(f"cannot start the training process: {error!r}\n".encode())
            return
        assert child.stdout is not None
        self._child = child
        os.set_blocking(child.stdout.fileno(), False)
        self._selector.register(child.stdout, selectors.EVENT_READ, "output")
        started = {
            "shim": me,
            "child": self._identity(child.pid),
            "start_time": datetime.now(UTC).isoformat(),
        }
        write_json(self._folder / "process.json", started)

    def _identity(self, pid: int) -> dict[str, Any]:
        return identity(pid, str(self._spec.get("boot_id_file", BOOT_ID_FILE)))

    def _turn(self) -> None:
        """Waits for output, a signal or a deadline, and deals with it."""
        timeout = 1.0 if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
        for key, _ in self._selector.select(min(timeout, 1.0)):
            if key.data == "wake":
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 4096)
            else:
                self._copy(key.fd)
        self._reap()
        if self._signalled and self._status is None:
            self._signalled = False
            self._ask_to_stop()
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._force()

    def _copy(self, fd: int) -> bool:
        """One chunk of output; False when there is none for now, or none any more."""
        try:
            chunk = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._selector.unregister(fd)
            return False
        self._output.write(chunk)
        return True

    def _reap(self) -> None:
        """Takes every dead process below; orphans come to us, as their sub-reaper."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._child is not None and pid == self._child.pid:
                self._status = status
                self._child.returncode = os.waitstatus_to_exitcode(status)

    def _ask_to_stop(self) -> None:
        stop = read_json(self._folder / "stop.json")
        self._stop_mode = stop.get("mode")
        grace = float(stop.get("grace_seconds", GRACE_SECONDS))
        if self._stop_mode == "FENCE":
            grace = min(grace, FENCE_GRACE_SECONDS_MAX)
        now = time.monotonic()
        saves = self._stop_mode in ("PAUSE", "TIMEOUT")
        latest = now + grace + (CHECKPOINT_EXTRA_SECONDS_MAX if saves else 0.0)
        # Asked again, it never gets more time than it had.
        first = self._kill_at is None
        self._kill_at = now + grace if first else min(self._kill_at or 0.0, now + grace)
        self._kill_at_latest = latest if first else min(self._kill_at_latest, latest)
        assert self._child is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGTERM)

    def _force(self) -> None:
        """Kills the tree, unless a checkpoint grows right now and there is time left for it."""
        now = time.monotonic()
        if now < self._kill_at_latest and self._checkpoint_grows():
            self._kill_at = min(now + 1.0, self._kill_at_latest)
            return
        self._killed_by_us = True
        self._kill_at = now + 1.0
        for process in self._descendants():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _checkpoint_grows(self) -> bool:
        folder = Path(self._spec.get("paths", {}).get("checkpoints", "/nonexistent"))
        newest = 0.0
        with contextlib.suppress(OSError):
            for aside in folder.glob(".tmp-*"):
                for file in (aside, *aside.rglob("*")):
                    newest = max(newest, file.stat().st_mtime)
        return time.time() - newest < CHECKPOINT_IDLE_SECONDS

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process().children(recursive=True)
        except psutil.Error:
            return []

    def _end_tree(self) -> None:
        """Kills what the child left behind, sessions of their own included, until none is left."""
        while True:
            self._reap()
            left = self._descendants()
            if not left and not self._has_children():
                return
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.005)

    def _has_children(self) -> bool:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _drain(self) -> None:
        """What is still in the pipe. All writers are gone, so it ends."""
        if self._child is not None and self._child.stdout is not None:
            if not self._child.stdout.closed and self._child.stdout in self._selected():
                while self._copy(self._child.stdout.fileno()):
                    pass
            self._child.stdout.close()

    def _selected(self) -> list[object]:
        return [key.fileobj for key in self._selector.get_map().values()]

    def _say_exit(self, kills: int) -> None:
        """Writes exit.json; a disk that is full may have room again in a moment."""
        record = self._exit_record(kills)
        for _ in range(_EXIT_TRIES):
            with contextlib.suppress(OSError):
                write_json(self._folder / "exit.json", record)
                return
            time.sleep(_EXIT_PAUSE_SECONDS)

    def _exit_record(self, kills: int) -> dict[str, Any]:
        code = None if self._status is None else os.waitstatus_to_exitcode(self._status)
        mode = self._stop_mode or read_json(self._folder / "stop.json").get("mode")
        return {
            "exit_code": code if code is None or code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "end_time": datetime.now(UTC).isoformat(),
            "killed_by_us": self._killed_by_us,
            "stop_mode": mode,
            "oom_kills": max(0, kills),
        }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
