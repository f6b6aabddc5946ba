"""A stop that arrives while its run is being started."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tunewright.v1 import spec_pb2

from trainer_svc.domain.authority import Authority
from trainer_svc.domain.runs import RunKey, StopMode
from trainer_svc.domain.slots import Capacity
from trainer_svc.supervisor.gpus import NoGpus
from trainer_svc.supervisor.host import Host
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.starting import StartOrder
from trainer_svc.supervisor.supervisor import Supervisor
from trainer_svc.supervisor.workspace import Workspace

KEY = RunKey("job-a", 1)


class SlowHost(Host):
    """Is asked what it has, and answers when the test says so."""

    asked: asyncio.Event
    answer: asyncio.Event

    async def capacity(self, runs: Sequence[Run]) -> Capacity:
        self.asked.set()
        await self.answer.wait()
        return await super().capacity(runs)


async def test_a_stop_during_the_start_meets_the_run_and_leaves_no_tombstone(
    tmp_path: Path,
) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    settings = Settings(workspace.path, tmp_path, tmp_path, disk_bytes_free_min=0, commands={})
    host = SlowHost(NoGpus(), 1, workspace.uuid)
    host.asked, host.answer = asyncio.Event(), asyncio.Event()
    supervisor = Supervisor(settings, workspace, host)
    await supervisor.open()
    supervisor.bind(Authority("db", 1))

    start = asyncio.create_task(supervisor.start(StartOrder(KEY, spec_pb2.JobSpec())))
    await host.asked.wait()
    stop = asyncio.create_task(supervisor.stop(KEY, StopMode.CANCEL))
    await asyncio.sleep(0)  # the stop has looked, and found no run yet
    host.answer.set()
    started, stopped = await asyncio.gather(start, stop)

    assert stopped is started
    assert supervisor.runs() == [started]
    await supervisor.close()
    workspace.close()
