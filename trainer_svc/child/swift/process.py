"""ms-swift's processes: started, read, asked to save and stop, ended.

Owns the tree below this process: `swift` does no training, it runs a process
that does, and with several GPUs another stands between them. Only those that
train are asked to stop, since the others would only die of it. Refuses to leave
anything behind: what has lost its parent comes to this process, and is ended too.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_READ_BYTES = 1 << 16
_PAUSE_SECONDS = 0.005
# Where ms-swift keeps the scripts that train, below its package.
_TRAINS = ("/cli/sft.py", "/cli/pt.py")
_LAUNCHER = "torch.distributed.run"
# `swift` passes on what Python says of a process ended by signal N, -N, which arrives as a byte.
_DEADLY = frozenset(
    {
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGTERM,
    }
)


def adopt_orphans() -> None:
    """From now on, processes below this one that lose their parent come to this one."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Tree:
    """All processes below this one, but for those that were there before, and what they start."""

    def __init__(self) -> None:
        self._programs: dict[int, Program] = {}
        self._others = _below()

    def start(
        self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, asks: bool = False
    ) -> "Program":
        """Starts a program. `asks`: it reads a request from its standard input. Raises OSError."""
        program = Program(argv, environment, folder, asks)
        self._programs[program.pid] = program
        return program

    def end(self) -> None:
        """Ends every process, in sessions of their own too; returns when none is left. Safe to
        call twice."""
        while below := self._below():
            for process in below:
                with suppress(psutil.Error):
                    process.kill()
            for process in below:
                self._reap(process.pid)
            time.sleep(_PAUSE_SECONDS)

    def _below(self) -> list[psutil.Process]:
        others = set(self._others)
        for process in self._others:
            with suppress(psutil.Error):
                others.update(process.children(recursive=True))
        return [process for process in _below() if process not in others]

    def _reap(self, pid: int) -> None:
        if pid in self._programs:
            self._programs[pid].poll()  # it keeps the exit code
            return
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _below() -> list[psutil.Process]:
    try:
        return psutil.Process().children(recursive=True)
    except psutil.Error:
        return []


class Program:
    """One program of ms-swift's environment, in a process group of its own, its output in a
    pipe. Not a shell's line: an argv."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, asks: bool
    ) -> None:
        self._process = subprocess.Popen(
            list(argv),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE if asks else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            process_group=0,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)

    def ask(self, request: bytes) -> None:
        """Writes the request and closes its standard input. One that has ended already is no
        error here: its exit code says so."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(request)
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def read(self, timeout_seconds: float) -> bytes:
        """What it has printed since; waits for some, at most so long."""
        if self._process.stdout is None or self._process.stdout.closed:
            time.sleep(timeout_seconds)
            return b""
        self._selector.select(timeout_seconds)
        chunks = []
        with suppress(BlockingIOError):
            while chunk := os.read(self._output, _READ_BYTES):
                chunks.append(chunk)
            self._close_output()  # nothing comes any more
        return b"".join(chunks)

    def _close_output(self) -> None:
        assert self._process.stdout is not None
        self._selector.unregister(self._output)
        self._selector.close()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code; None while it runs. As a shell says it: 128 and the signal, if one
        ended it or what it ran."""
        code = self._process.poll()
        if code is None:
            return None
        if code < 0:
            return 128 - code
        return 128 + 256 - code if 256 - code in _DEADLY else code

    def trainers(self) -> list[psutil.Process]:
        """Those of its processes that train, one for each device."""
        found = [process for process in _below() if _trains(process)]
        pids = {process.pid for process in found}
        # Workers that load batches are forked from them and look alike.
        return [process for process in found if _parent(process) not in pids]

    def ask_to_stop(self) -> bool:
        """Asks those that train to save and stop after this step. False if none of them would
        listen: then they would only die."""
        trainers = [process for process in self.trainers() if _listens(process.pid)]
        for process in trainers:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGTERM)
        return bool(trainers)

    def memory_bytes(self) -> int | None:
        """Resident memory of those that train; None if there are none."""
        sizes = []
        for process in self.trainers():
            with suppress(psutil.Error):
                sizes.append(int(process.memory_info().rss))
        return sum(sizes) or None


def _trains(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return _LAUNCHER not in words and any(word.endswith(_TRAINS) for word in words[1:3])


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _listens(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            name, _, mask = line.partition(":")
            if name == "SigCgt":
                return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)
    return False
