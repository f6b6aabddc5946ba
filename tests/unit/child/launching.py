"""Real child processes of the training kind, started from a warm parent.

Importing the training libraries takes seconds; a forkserver has them imported
once, and each run is still a process of its own with its own signals.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

from tests.unit.child.run_folders import RunFolder

PRELOADED = [
    "trainer_svc.child",  # first: it makes torchvision importable
    "datasets",
    "peft",
    "bitsandbytes",
    "trl.trainer.sft_trainer",
    "transformers.models.qwen3.modeling_qwen3",
]
END_SECONDS = 90


def warm_context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class TrainingProcess:
    """One run in a process of its own."""

    def __init__(self, process: ForkServerProcess, folder: RunFolder) -> None:
        self._process = process
        self._folder = folder

    def stop(self, mode: str) -> None:
        """As the shim does: the why first, then SIGTERM to the whole process group."""
        stop = json.dumps({"mode": mode, "grace_seconds": 30.0})
        (self._folder.path / "stop.json").write_text(stop)
        assert self._process.pid is not None
        os.killpg(self._process.pid, signal.SIGTERM)

    def workers(self) -> list[psutil.Process]:
        """The processes below it."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def wait(self) -> int:
        """The exit code."""
        self._process.join(END_SECONDS)
        assert self._process.exitcode is not None, "the run did not end"
        return self._process.exitcode

    def output(self) -> str:
        return (self._folder.path / "stdout.log").read_text()


Launch = Callable[[RunFolder], TrainingProcess]


def launch(folder: RunFolder) -> TrainingProcess:
    process = warm_context().Process(target=_train, args=(str(folder.path),))
    process.start()
    return TrainingProcess(process, folder)


def _train(folder: str) -> None:
    import torch

    from trainer_svc.child.qlora import main

    os.setsid()
    torch.set_num_threads(1)  # several runs share few cores
    _output_to(Path(folder, "stdout.log"))
    code = main([folder])
    sys.stdout.flush()
    os._exit(code)


def _output_to(path: Path) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def call_warm(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns, called in a fresh process that has the libraries imported."""
    context = warm_context()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(there, function, arguments))
    process.start()
    there.close()
    try:
        outcome, value = here.recv()
    except EOFError:
        outcome, value = "error", "the process ended without a word"
    process.join(END_SECONDS)
    here.close()
    assert outcome == "value", value
    return value


def _call(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send(("value", function(*arguments)))
    except BaseException as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))
        raise
