"""The service is killed and comes back; what it must not do, and what it must."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tunewright.v1 import job_pb2
from tunewright.v1 import registry_service_pb2 as pb

from tests.integration.trainer.fake_scheduler import FakeScheduler
from tests.integration.trainer.patience import eventually
from tests.integration.trainer.service import TrainerService, is_running, run_to_end, scripted_spec

RUN = ("job-a", 1)
SPOOL = "runs/job-a/1/spool"
SERVICE = "runs/job-a/1/service"


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any run."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


async def test_a_restarted_service_takes_its_child_back(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    go = service.folder / "go"
    scheduler.assign(RUN, scripted_spec(["entries_until", str(go)], ["complete"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    await eventually((service.run_folder("job-a") / "spool.jsonl").exists)
    before = service.json("job-a", "process.json")

    await service.kill()
    await service.start()
    await eventually(lambda: len(scheduler.registrations) > 1)
    go.touch()
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_PUBLISHED))

    assert [(run.job, run.phase) for run in scheduler.registrations[-1].runs] == [
        ("jobs/job-a", pb.RUN_PHASE_RUNNING)
    ]
    assert service.json("job-a", "process.json") == before
    feed = await service.read_feed({SPOOL, SERVICE})
    steps = [entry.train_metrics.step for entry in feed[SPOOL]]
    assert steps == list(range(1, len(steps) + 1))
    assert "ADOPTED" in [entry.event.type for entry in feed[SERVICE]]


async def test_sigterm_leaves_the_children_running(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    child = service.json("job-a", "process.json")["child"]["pid"]

    code = await service.terminate()

    assert code == 0
    assert is_running(child)


async def test_an_end_while_the_service_was_away_is_read_from_exit_json(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    go = service.folder / "go"
    fail = ["fail", "FAILURE_CAUSE_DIVERGED", "loss is NaN"]
    scheduler.assign(RUN, scripted_spec(["wait_for", str(go)], fail))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    await service.kill()
    go.touch()
    await eventually(lambda: service.json("job-a", "exit.json"))

    await service.start()
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_DIVERGED


async def test_a_tree_that_died_with_the_service_away_is_crashed(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    recorded = service.json("job-a", "process.json")
    await service.kill()
    for name in ("shim", "child"):
        os.kill(recorded[name]["pid"], signal.SIGKILL)

    await service.start()
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_CRASHED


async def test_a_child_that_outlives_its_shim_and_the_service_is_ended(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    recorded = service.json("job-a", "process.json")
    await service.kill()
    os.kill(recorded["shim"]["pid"], signal.SIGKILL)

    await service.start()
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_CRASHED
    assert not is_running(recorded["child"]["pid"])


@pytest.mark.parametrize("stopping", [False, True])
async def test_a_pid_that_belongs_to_another_process_is_never_signalled(
    service: TrainerService,
    scheduler: FakeScheduler,
    stranger: subprocess.Popen[bytes],
    stopping: bool,
) -> None:
    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    recorded = service.json("job-a", "process.json")
    await service.kill()
    for name in ("shim", "child"):
        os.kill(recorded[name]["pid"], signal.SIGKILL)
        recorded[name]["pid"] = stranger.pid
    (service.run_folder("job-a") / "process.json").write_text(json.dumps(recorded))

    if stopping:
        stop = {"mode": "CANCEL", "grace_seconds": 0.0}
        (service.run_folder("job-a") / "stop.json").write_text(json.dumps(stop))

    await service.start()
    ended = await eventually(lambda: scheduler.ended(RUN))
    await eventually(lambda: len(scheduler.heartbeats[-1].runs) == 0)

    lost = ended.failure.cause == job_pb2.FAILURE_CAUSE_LOST
    assert ended.outcome == pb.RUN_OUTCOME_STOPPED if stopping else lost
    assert stranger.poll() is None


async def test_a_run_from_before_a_reboot_is_lost(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    recorded = service.json("job-a", "process.json")
    await service.kill()
    for name in ("shim", "child"):
        os.kill(recorded[name]["pid"], signal.SIGKILL)
        recorded[name]["boot_id"] = "an earlier boot"
    (service.run_folder("job-a") / "process.json").write_text(json.dumps(recorded))

    await service.start()
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_LOST


async def test_a_run_given_away_meanwhile_is_ended_after_the_restart(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["on_term", "ignore"], ["entries", 1], ["wait"]))
    await eventually(lambda: (service.run_folder("job-a") / "spool.jsonl").exists())
    child = service.json("job-a", "process.json")["child"]["pid"]
    await service.kill()

    scheduler.word.stale.add(RUN)
    await service.start()
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.outcome == pb.RUN_OUTCOME_STOPPED
    assert not is_running(child)


async def test_an_outage_of_the_scheduler_touches_no_run(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    go = service.folder / "go"
    scheduler.assign(RUN, scripted_spec(["wait_for", str(go)], ["complete"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))

    await scheduler.stop()
    go.touch()
    await eventually(lambda: service.json("job-a", "end.json"))
    published_without_grant = (service.outputs / "out").exists()
    await scheduler.start()
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_PUBLISHED))

    assert not published_without_grant
    assert (service.outputs / "out/manifest.json").exists()


async def test_absence_and_an_older_generation_stop_nothing(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.word.generation = 5
    scheduler.word.register_again = True
    await eventually(lambda: service.json_of_workspace().get("generation") == 5)
    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))

    scheduler.word.generation = 4
    scheduler.order_stop(RUN, pb.STOP_MODE_CANCEL)
    beats = len(scheduler.heartbeats)
    await eventually(lambda: len(scheduler.heartbeats) > beats + 5)

    assert scheduler.heartbeats[-1].runs[0].phase == pb.RUN_PHASE_RUNNING
    assert not (service.run_folder("job-a") / "stop.json").exists()


async def test_another_database_means_registering_again_and_runs_go_on(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))

    scheduler.word.database_uuid = "db-2"
    await eventually(lambda: len(scheduler.registrations) > 1)

    assert scheduler.registrations[-1].database_uuid == "db-1"
    assert scheduler.registrations[-1].runs[0].phase == pb.RUN_PHASE_RUNNING


async def test_nothing_is_spawned_before_the_registration_is_answered(
    idle_service: TrainerService, scheduler: FakeScheduler
) -> None:
    await scheduler.stop()

    await idle_service.start()

    assert await idle_service.runs() == []
    await scheduler.start()
    await eventually(lambda: scheduler.heartbeats)


@pytest.mark.parametrize("point", ["spec_written", "shim_spawned"])
async def test_killed_around_the_spawn_it_runs_exactly_one_child(
    idle_service: TrainerService, scheduler: FakeScheduler, point: str
) -> None:
    scheduler.assign(RUN, scripted_spec(["entries", 2], ["complete"]))
    await idle_service.start(point)
    await idle_service.wait_killed()

    await idle_service.start()
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_PUBLISHED))

    assert (idle_service.run_folder("job-a") / "spool.jsonl").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("point", "moved"),
    [
        ("before_begin_publish", False),
        ("publish_granted", False),
        ("result_renamed_unsynced", True),
        ("result_renamed", True),
    ],
)
async def test_killed_while_publishing_the_output_is_old_or_new(
    idle_service: TrainerService, scheduler: FakeScheduler, point: str, moved: bool
) -> None:
    scheduler.assign(RUN, scripted_spec(["complete"]))
    await idle_service.start(point)
    await idle_service.wait_killed()
    output = idle_service.outputs / "out"
    seen = sorted(one.name for one in output.iterdir()) if output.exists() else []

    await idle_service.start()
    published = await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_PUBLISHED))

    files = ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    assert seen == (files if moved else [])
    assert sorted(one.name for one in output.iterdir()) == files
    assert published.output.path == str(output)
    feed = await idle_service.read_feed({SERVICE})
    assert [one.event.type for one in feed[SERVICE]].count("PUBLISHED") == 1


async def test_a_second_service_on_the_workspace_exits_with_one_line(
    service: TrainerService,
) -> None:
    second = run_to_end(service.arguments())

    assert second.returncode == 2
    assert len(second.stderr.splitlines()) == 1
    assert "another trainer service" in second.stderr


async def test_an_open_door_is_refused_with_one_line(service: TrainerService) -> None:
    arguments = [*service.arguments(), "--listen", "0.0.0.0:0"]
    refused = run_to_end(arguments)

    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "loopback" in refused.stderr
