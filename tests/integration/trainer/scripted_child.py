"""A child that obeys the run folder's contract and does what the job's system prompt says.

The prompt is a JSON list of actions: ["entries", n], ["print", text], ["wait"], ...
It imports nothing of the project, so it starts as fast as Python does.
"""

import hashlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUN = Path(sys.argv[1])
SPEC = json.loads((RUN / "spec.json").read_text())
_step = 0


def entries(count: int, pause_seconds: float = 0.0) -> None:
    """Logging steps, one line each."""
    global _step
    with open(RUN / "spool.jsonl", "a") as spool:
        for _ in range(count):
            _step += 1
            metrics = {"step": str(_step), "total_steps": "100", "loss": 1.0 / _step}
            spool.write(json.dumps({"train_metrics": metrics}) + "\n")
            spool.flush()
            time.sleep(pause_seconds)


def entries_until(file: str) -> None:
    """Logging steps until a file appears."""
    while not Path(file).exists():
        entries(1, 0.02)


def raw(text: str) -> None:
    """Something else in the spool."""
    with open(RUN / "spool.jsonl", "a") as spool:
        spool.write(text)


def wait_for(file: str) -> None:
    """Until a file appears."""
    while not Path(file).exists():
        time.sleep(0.02)


def wait() -> None:
    """For ever."""
    while True:
        time.sleep(60)


def on_term(what: str) -> None:
    """ "ignore" SIGTERM, or "stop" with a result."""

    def stop(*_: object) -> None:
        result("STOPPED")
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if what == "ignore" else stop)


def grandchild(pid_file: str) -> None:
    """A process in a session of its own that ignores SIGTERM."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    Path(pid_file).write_text(str(process.pid))


def result(outcome: str, failure: Any = None, digest: str | None = None) -> None:
    """result.json, atomically."""
    value = {"outcome": outcome, "failure": failure, "manifest_digest": digest}
    (RUN / ".result").write_text(json.dumps(value))
    (RUN / ".result").rename(RUN / "result.json")


def complete(spoil: str = "") -> None:
    """Stages a result and says COMPLETED."""
    staging = Path(SPEC["paths"]["staging"])
    staging.mkdir(parents=True)
    files = {}
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        data = f"{name} of {SPEC['job']}".encode()
        (staging / name).write_bytes(data)
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    manifest = json.dumps({"job": SPEC["job"], "attempt": SPEC["attempt"], "files": files}).encode()
    (staging / "manifest.json").write_bytes(manifest)
    if spoil:
        (staging / spoil).write_text("something else")
    result("COMPLETED", digest="sha256:" + hashlib.sha256(manifest).hexdigest())


def fail(cause: str, message: str) -> None:
    """result.json with a failure."""
    result("FAILED", {"cause": cause, "message": message, "hint": "", "exception_type": "E"})


def run_file(path: str, *arguments: Any) -> None:
    """`main(RUN, SPEC, *arguments)` of another script, for what only some tests need."""
    runpy.run_path(path)["main"](RUN, SPEC, *arguments)


ACTIONS: dict[str, Callable[..., None]] = {
    "entries": entries,
    "entries_until": entries_until,
    "raw": raw,
    "wait_for": wait_for,
    "wait": wait,
    "on_term": on_term,
    "grandchild": grandchild,
    "complete": complete,
    "fail": fail,
    "run_file": run_file,
    "print": lambda text: print(text, flush=True),
    "exit": os._exit,
    "kill_self": lambda number: os.kill(os.getpid(), number),
}

for action, *arguments in json.loads(SPEC["spec"]["system_prompt"]):
    ACTIONS[action](*arguments)
