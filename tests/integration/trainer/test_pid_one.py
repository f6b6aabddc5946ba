"""A trainer's container, but for the image: its PID 1, the service below it, runs that live on.

PID 1 in earnest: a PID namespace of the test's own, in which its end is the
end of everything, as in a container.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
from tunewright.v1 import job_pb2
from tunewright.v1 import registry_service_pb2 as pb

from tests.integration.trainer.fake_scheduler import FakeScheduler
from tests.integration.trainer.patience import eventually
from tests.integration.trainer.service import ROOT, TrainerService, run_to_end, scripted_spec
from tests.support.eventually import eventually_sync

RUN = ("job-a", 1)
SCRIPT = Path(__file__).with_name("scripted_pid_one.py")
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]


class Container(TrainerService):
    """The processes of one container. `process` is `unshare`, which waits for its PID 1."""

    def arguments(self) -> list[str]:
        _, _, *flags = super().arguments()
        return [*NAMESPACE, "--kill-child", sys.executable, str(SCRIPT), *flags]

    def spawn(self, crash_point: str = "") -> None:
        os.environ["TUNEWRIGHT_TRAINER_BOOT_ID_FILE"] = str(self.folder / "run" / "boot-id")
        try:
            super().spawn(crash_point)
        finally:
            del os.environ["TUNEWRIGHT_TRAINER_BOOT_ID_FILE"]

    @property
    def pid_one(self) -> psutil.Process:
        """As seen from outside."""
        assert self.process is not None
        [child] = psutil.Process(self.process.pid).children()
        return child

    @property
    def service(self) -> psutil.Process | None:
        """The service below it; None between two of them."""
        for child in self.pid_one.children():
            if any("scripted_service" in part for part in child.cmdline()):
                return child
        return None

    def execute(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """docker compose exec."""
        inside = ["--user", "--preserve-credentials", "--pid", "--target", str(self.pid_one.pid)]
        return run_to_end(["nsenter", *inside, *argv])

    def processes(self) -> list[psutil.Process]:
        """All of the container's."""
        return [self.pid_one, *self.pid_one.children(recursive=True)]

    async def ended(self) -> int:
        """Its exit code, once it is over."""
        await self._close()
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, 60)


@pytest.fixture
async def container(tmp_path: Path, scheduler: FakeScheduler) -> AsyncIterator[Container]:
    """Started, and ready to be registered."""
    allowed = run_to_end([*NAMESPACE, "true"])
    if allowed.returncode:
        pytest.skip(f"no PID namespace can be made here: {allowed.stderr.strip()}")
    made = Container(tmp_path, scheduler.address)
    await made.start()
    yield made
    await made.kill()


async def running(container: Container, scheduler: FakeScheduler) -> Path:
    """A run that trains until the file, which is returned, appears."""
    go = container.folder / "go"
    scheduler.assign(RUN, scripted_spec(["entries_until", str(go)], ["complete"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    return go


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
async def test_a_run_outlives_its_service_and_nothing_dead_is_left(
    container: Container, scheduler: FakeScheduler, number: signal.Signals
) -> None:
    go = await running(container, scheduler)
    before = container.service
    shim = container.json("job-a", "process.json")["shim"]
    assert before is not None

    (container.pid_one if number == signal.SIGHUP else before).send_signal(number)
    await eventually(lambda: len(scheduler.registrations) > 1, 60)
    go.touch()
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_PUBLISHED))

    taken_back = [(run.job, run.phase) for run in scheduler.registrations[-1].runs]
    assert taken_back == [("jobs/job-a", pb.RUN_PHASE_RUNNING)]
    assert container.json("job-a", "process.json")["shim"] == shim
    after = container.service
    assert after is not None
    assert after.pid != before.pid
    await eventually(lambda: container.pid_one.children() == [after], 10, "the shim is reaped")


async def test_the_documented_command_restarts_the_service_from_inside(
    container: Container, scheduler: FakeScheduler
) -> None:
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^docker compose exec trainer (python .*SIGHUP.*)$", text, re.MULTILINE)
    await running(container, scheduler)
    before = container.service
    pid_one = container.pid_one
    assert before is not None

    argv = [sys.executable, *shlex.split(command)[1:]]
    done = await asyncio.to_thread(container.execute, argv)

    assert done.returncode == 0, done.stderr
    await eventually(lambda: len(scheduler.registrations) > 1, 60)
    after = container.service
    assert after is not None
    assert after.pid != before.pid
    assert container.pid_one == pid_one


async def test_sigterm_drains_the_service_and_ends_the_container(
    container: Container, scheduler: FakeScheduler
) -> None:
    await running(container, scheduler)
    everything = container.processes()

    container.pid_one.send_signal(signal.SIGTERM)
    code = await container.ended()

    assert code == 0
    assert "draining" in container.log.read_text()
    assert len(everything) >= 4  # PID 1, service, shim, child
    psutil.wait_procs(everything, timeout=10)
    assert not [one for one in everything if one.is_running()]


async def test_a_container_that_is_started_again_is_a_host_that_was_rebooted(
    container: Container, scheduler: FakeScheduler
) -> None:
    await running(container, scheduler)
    container.pid_one.send_signal(signal.SIGKILL)
    await container.ended()

    await container.start()
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_LOST
    assert "restarted" in ended.failure.message


async def test_a_service_that_is_to_start_again_and_again_is_started_later_and_later(
    container: Container, scheduler: FakeScheduler
) -> None:
    for _ in range(2):
        service: psutil.Process = await eventually(lambda: container.service)
        service.kill()
        await asyncio.to_thread(psutil.wait_procs, [service], 30)

    await eventually(lambda: "again in 2 s" in container.log.read_text())
    told = container.log.read_text()
    assert told.index("(signal 9); again in 1 s") < told.index("(signal 9); again in 2 s")


def test_a_service_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    service, log = tmp_path / "service", tmp_path / "log"
    code = "import os, sys; from trainer_svc.pid_one import PidOne"
    code += "; sys.exit(PidOne([sys.argv[1]], dict(os.environ)).run())"
    argv = [sys.executable, "-c", code, str(service)]
    with log.open("wb") as out:
        pid_one = subprocess.Popen(argv, stderr=out, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        eventually_sync(lambda: "again in 1 s" in log.read_text(), 30, "it is to be tried again")
        made = tmp_path / "made"
        made.write_text("#!/bin/sh\nexec sleep 600\n")
        made.chmod(0o755)
        made.rename(service)
        eventually_sync(lambda: "the service is started" in log.read_text(), 30, "it is started")
        pid_one.send_signal(signal.SIGTERM)
        exit_code = pid_one.wait(30)
    finally:
        pid_one.kill()
        pid_one.wait()

    assert "the service cannot be started: [Errno 2]" in log.read_text()
    assert exit_code == 128 + signal.SIGTERM


def test_a_broken_configuration_ends_the_container_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer_svc.pid_one", "--listen", "nowhere"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TUNEWRIGHT_TRAINER_BOOT_ID_FILE": str(tmp_path / "run" / "boot-id"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "configuration error: listen: expected host:port" in done.stderr
