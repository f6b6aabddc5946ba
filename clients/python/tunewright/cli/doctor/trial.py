"""`doctor --train`: a tiny CPU job, from its data to its published result, and nothing left of it.

Model and data are made by code where a trainer of this machine reads them; it
refuses, with a finding, to put anything on another host.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunewright.cli import words
from tunewright.cli.doctor.findings import Finding, broken, well
from tunewright.cli.doctor.hosts import HostReply
from tunewright.cli.doctor.probes import Reply
from tunewright.cli.exits import CommandError
from tunewright.cli.local.child import DemoAssets, make_assets
from tunewright.client import Client
from tunewright.errors import TunewrightError, WaitTimeout
from tunewright.job import failure_text
from tunewright.jobs import Job
from tunewright.subscription import TERMINAL_STATES
from tunewright.v1 import feed_pb2, monitor_service_pb2, spec_pb2, trainer_pb2

SUBJECT = "training"
# Enough to see a loss, a checkpoint and a result.
HYPERPARAMETERS = {"max_steps": 5, "logging_steps": 1, "max_length": 64}
_STOP_SECONDS = 60.0
# The monitor stores what a trainer wrote within a second or two, unless it lags.
_MONITOR_SECONDS = 30.0
_LOOK_SECONDS = 0.2

AskEntries = Callable[
    [monitor_service_pb2.ListEntriesRequest], Reply[monitor_service_pb2.ListEntriesResponse]
]


class NotHere(Exception):
    """Why nothing can be tried from this machine, and what to do about it."""

    def __init__(self, told: str, advice: str) -> None:
        super().__init__(told)
        self.finding = broken(SUBJECT, f"not tried: {told}", advice)


@dataclass(frozen=True)
class Place:
    """A trainer of this machine, and folders that it may read and we may write."""

    host: HostReply
    model_root: Path
    data_root: Path


def try_training(
    client: Client,
    hosts: Sequence[HostReply],
    ask_entries: AskEntries | None,
    seconds_max: float,
) -> Iterator[Finding]:
    """Findings of a whole job. `ask_entries` asks the monitor; None if there is none."""
    try:
        place = find_place(hosts, socket.gethostname())
    except NotHere as refusal:
        yield refusal.finding
        return
    with contextlib.ExitStack() as leftovers:
        try:
            assets = _make(place, leftovers)
        except (CommandError, subprocess.TimeoutExpired, OSError) as error:
            advice = "run it with the trainer's own Python: its packages make model and data"
            yield broken(SUBJECT, f"not tried: {error}", advice)
            return
        try:
            yield from _train(client, place, assets, ask_entries, seconds_max, leftovers)
        except TunewrightError as error:
            yield broken(SUBJECT, str(error), "see the scheduler's log")


def find_place(hosts: Sequence[HostReply], hostname: str) -> Place:
    """Where a tiny job can be tried. Raises NotHere."""
    here = [one for one in hosts if one.system is not None and one.system.hostname == hostname]
    if not here:
        told = "no trainer that answers runs on this machine, and only there can files be made"
        raise NotHere(told, "run doctor --train on a trainer's host, or in its container")
    able = [one for one in here if _takes_cpu_jobs(one)]
    if not able:
        told = f"{here[0].name} takes no QLoRA jobs on its CPU now"
        advice = "see above; on a host with GPUs give the trainer --cpu-slots 1"
        raise NotHere(told, advice)
    for host in able:
        assert host.system is not None
        models = [Path(root) for root in host.system.model_roots if _is_writable(root)]
        data = [Path(root) for root in host.system.data_roots if _is_writable(root)]
        if models and data:
            shared = [root for root in models if root in data]
            return Place(host, *((shared[0], shared[0]) if shared else (models[0], data[0])))
    told = f"{able[0].name} has no model root and data root that can be written to from here"
    raise NotHere(told, "give it such a folder with --model-roots and --data-roots")


def _takes_cpu_jobs(host: HostReply) -> bool:
    ready = host.trainer.state == trainer_pb2.TRAINER_STATE_READY and not host.trainer.cordoned
    able = host.capabilities
    return ready and able.cpu_slots > 0 and spec_pb2.BACKEND_QLORA in able.backends


def _is_writable(root: str) -> bool:
    return os.path.isdir(root) and os.access(root, os.W_OK | os.X_OK)


def _make(place: Place, leftovers: contextlib.ExitStack) -> DemoAssets:
    made = make_assets(_folder_in(place.model_root, leftovers))
    if place.data_root == place.model_root:
        return made
    train = shutil.move(made.train, _folder_in(place.data_root, leftovers))
    return replace(made, train=str(train))


def _folder_in(root: Path, leftovers: contextlib.ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tunewright-doctor-", dir=root))
    leftovers.callback(shutil.rmtree, folder, ignore_errors=True)
    # The trainer may run as somebody else.
    folder.chmod(0o755)
    return folder


def _train(
    client: Client,
    place: Place,
    assets: DemoAssets,
    ask_entries: AskEntries | None,
    seconds_max: float,
    leftovers: contextlib.ExitStack,
) -> Iterator[Finding]:
    name = f"doctor-{secrets.token_hex(4)}"
    started = time.monotonic()
    job = client.jobs.create(
        model=assets.model,
        train_data=assets.train,
        output_dir=name,
        job_id=name,
        display_name="tunewright doctor",
        accelerator="cpu",
        trainer=place.host.name,
        hyperparameters=HYPERPARAMETERS,
        run_timeout=seconds_max,
    )
    leftovers.callback(_remove, job, place)
    try:
        job.wait(seconds_max)
    except WaitTimeout:
        told = f"{job.name} is {job.state} after {seconds_max:g} s"
        waits = f": {job.pending_reason}" if job.pending_reason else ""
        yield broken(SUBJECT, told + waits, "see the trainer's log; --train-seconds waits longer")
        return
    took = words.span(time.monotonic() - started)
    if not job.succeeded:
        why = failure_text(job.failure) if job.failure else job.state
        yield broken(SUBJECT, f"{job.name} ended after {took}: {why}", "see the trainer's log")
        return
    steps = job.progress.step if job.progress else 0
    yield well(SUBJECT, f"{steps} steps on {place.host.name} and a published result in {took}")
    if ask_entries is not None:
        yield _what_the_monitor_has(ask_entries, job.name)


def _what_the_monitor_has(ask: AskEntries, job: str) -> Finding:
    """Whether everything that happened is there: 1, 2, 3 ... to the end."""
    deadline = time.monotonic() + _MONITOR_SECONDS
    advice = "see the monitor's log: it reads what happens from the scheduler and each trainer"
    request = monitor_service_pb2.ListEntriesRequest(job=job, page_size=1000)
    while True:
        reply = ask(request)
        entries = reply.answer.entries if reply.answer else []
        if entries and _is_end(entries[-1]):
            break
        if time.monotonic() > deadline:
            told = str(reply.error) if reply.error else f"{len(entries)} entries and no end"
            return broken("monitor", f"after the job has ended it has: {told}", advice)
        time.sleep(_LOOK_SECONDS)
    sequences = [entry.sequence for entry in entries]
    if sequences != list(range(1, len(entries) + 1)):
        return broken("monitor", f"entries of {job} are missing: {sequences}", advice)
    return well("monitor", f"has every entry of it, 1 to {len(entries)}")


def _is_end(entry: feed_pb2.Entry) -> bool:
    return entry.WhichOneof("payload") == "state_change" and (
        entry.state_change.to in TERMINAL_STATES
    )


def _remove(job: Job, place: Place) -> None:
    """The job, its result and its checkpoints. What cannot be removed now stays."""
    with contextlib.suppress(TunewrightError):
        if not job.refresh().is_terminal:
            job.cancel()
            job.wait(_STOP_SECONDS)
        job.delete()
    if not job.is_terminal or place.host.system is None:
        return
    folders = {disk.role: Path(disk.path) for disk in place.host.system.disks}
    if "outputs" in folders:
        shutil.rmtree(folders["outputs"] / job.id, ignore_errors=True)
    if "artifacts" in folders:
        shutil.rmtree(folders["artifacts"] / "jobs" / job.id, ignore_errors=True)
