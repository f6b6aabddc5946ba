"""Runs from assignment to report, with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from functools import partial

import pytest
from grpc.aio import AioRpcError
from tunewright.v1 import job_pb2, trainer_service_pb2
from tunewright.v1 import registry_service_pb2 as pb
from tunewright.wire.status import rich_error

from tests.integration.trainer.fake_scheduler import FakeScheduler
from tests.integration.trainer.patience import eventually
from tests.integration.trainer.service import (
    TrainerService,
    environment_names,
    is_running,
    scripted_spec,
)

RUN = ("job-a", 1)


async def test_a_completed_run_is_published_and_reported(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["entries", 3], ["complete"], output_dir="a/b"))

    published = await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_PUBLISHED))

    assert published.output.path == str(service.outputs / "a/b")
    assert sorted(one.name for one in (service.outputs / "a/b").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    assert scheduler.grants == [RUN]
    assert scheduler.reports[0].phase == pb.RUN_PHASE_RUNNING
    assert published.progress.step == 3
    streams = {one.stream.rpartition("/")[2] for one in published.final_cursors}
    assert streams == {"spool", "service"}


async def test_starting_twice_is_starting_once(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    await eventually(lambda: scheduler.heartbeats)
    request = trainer_service_pb2.StartRunRequest(
        database_uuid="db-1",
        generation=1,
        incarnation=scheduler.registrations[-1].incarnation,
        assignment=pb.Assignment(
            job="jobs/job-a", attempt=1, spec=scripted_spec(["entries", 1], ["wait"])
        ),
    )

    await asyncio.gather(*(service.trainer.StartRun(request) for _ in range(5)))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    again = await service.trainer.StartRun(request)

    assert again.phase == pb.RUN_PHASE_RUNNING
    assert len(await service.runs()) == 1
    spool = service.run_folder("job-a") / "spool.jsonl"
    await eventually(lambda: spool.exists() and spool.read_text().count("\n") == 1)


async def test_start_refuses_an_older_attempt_and_a_stranger(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(("job-a", 2), scripted_spec(["exit", 0]))
    await eventually(lambda: scheduler.ended(("job-a", 2)))
    good = trainer_service_pb2.StartRunRequest(
        database_uuid="db-1",
        generation=1,
        incarnation=scheduler.registrations[-1].incarnation,
        assignment=pb.Assignment(job="jobs/job-a", attempt=1, spec=scripted_spec(["wait"])),
    )
    old = trainer_service_pb2.StartRunRequest()
    old.CopyFrom(good)
    old.generation = 0
    other = trainer_service_pb2.StartRunRequest()
    other.CopyFrom(good)
    other.incarnation = "earlier"

    reasons = [await _reason(service, request) for request in (good, old, other)]

    assert reasons == ["STALE_ATTEMPT", "STALE_GENERATION", "STALE_INCARNATION"]


async def test_a_full_trainer_refuses(service: TrainerService, scheduler: FakeScheduler) -> None:
    for job in ("job-a", "job-b"):
        scheduler.assign((job, 1), scripted_spec(["wait"], output_dir=job))
        await eventually(partial(scheduler.said, (job, 1), pb.RUN_PHASE_RUNNING))
    request = trainer_service_pb2.StartRunRequest(
        database_uuid="db-1",
        generation=1,
        incarnation=scheduler.registrations[-1].incarnation,
        assignment=pb.Assignment(job="jobs/job-c", attempt=1, spec=scripted_spec(["wait"])),
    )

    assert await _reason(service, request) == "TRAINER_FULL"


async def test_a_stop_ends_grandchildren_in_sessions_of_their_own(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    pid_file = service.folder / "grandchild"
    script = scripted_spec(["on_term", "stop"], ["grandchild", str(pid_file)], ["wait"])
    scheduler.assign(RUN, script)
    await eventually(lambda: pid_file.exists() and pid_file.read_text())

    scheduler.order_stop(RUN, pb.STOP_MODE_CANCEL)
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.outcome == pb.RUN_OUTCOME_STOPPED
    assert not is_running(int(pid_file.read_text()))
    assert service.json("job-a", "exit.json")["stop_mode"] == "CANCEL"


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["on_term", "ignore"], ["entries", 1], ["wait"]))
    await eventually(lambda: (service.run_folder("job-a") / "spool.jsonl").exists())
    child = service.json("job-a", "process.json")["child"]["pid"]

    scheduler.order_stop(RUN, pb.STOP_MODE_CANCEL, grace_seconds=1)
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.outcome == pb.RUN_OUTCOME_STOPPED
    assert not is_running(child)
    assert service.json("job-a", "exit.json")["killed_by_us"] is True


async def test_a_shim_that_does_not_answer_does_not_keep_its_tree(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    recorded = service.json("job-a", "process.json")
    os.kill(recorded["shim"]["pid"], signal.SIGSTOP)

    scheduler.order_stop(RUN, pb.STOP_MODE_FENCE, grace_seconds=0)
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.outcome == pb.RUN_OUTCOME_STOPPED
    assert not is_running(recorded["child"]["pid"])
    assert not is_running(recorded["shim"]["pid"])


async def test_a_timeout_fails_the_run_with_its_cause(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    spec = scripted_spec(["on_term", "stop"], ["wait"])
    spec.run_timeout.FromMilliseconds(500)
    scheduler.assign(RUN, spec)

    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_RUN_TIMEOUT
    assert ended.failure.hint


async def test_a_stop_for_an_unknown_run_leaves_a_tombstone(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.order_stop(RUN, pb.STOP_MODE_CANCEL)
    buried = await eventually(lambda: scheduler.ended(RUN))
    await service.kill()
    await service.start()
    beats = len(scheduler.heartbeats)

    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: len(scheduler.heartbeats) > beats + 3)

    assert buried.outcome == pb.RUN_OUTCOME_STOPPED
    assert not (service.run_folder("job-a") / "process.json").exists()


@pytest.mark.parametrize(
    ("actions", "cause"),
    [
        ([["exit", 7]], job_pb2.FAILURE_CAUSE_CRASHED),
        ([["exit", 0]], job_pb2.FAILURE_CAUSE_CRASHED),
        ([["kill_self", 9]], job_pb2.FAILURE_CAUSE_CRASHED),
        (
            [["print", "[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried"], ["exit", 1]],
            job_pb2.FAILURE_CAUSE_GPU_OUT_OF_MEMORY,
        ),
        (
            [["fail", "FAILURE_CAUSE_DATASET_INVALID", "d.jsonl:3: no"], ["exit", 1]],
            job_pb2.FAILURE_CAUSE_DATASET_INVALID,
        ),
        ([["complete", "adapter_config.json"]], job_pb2.FAILURE_CAUSE_INTERNAL),
        ([["complete", "stray.bin"]], job_pb2.FAILURE_CAUSE_INTERNAL),
    ],
)
async def test_a_failed_run_says_why(
    service: TrainerService,
    scheduler: FakeScheduler,
    actions: list[list[object]],
    cause: job_pb2.FailureCause.ValueType,
) -> None:
    scheduler.assign(RUN, scripted_spec(*actions))

    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.failure.cause == cause, ended
    assert ended.failure.message
    assert ended.failure.hint
    written = (service.run_folder("job-a") / "service.jsonl").read_text()
    assert '"RUN_FAILED"' in written
    assert not any(service.outputs.joinpath(".staging").iterdir())


async def test_a_killed_shim_ends_its_tree_as_crashed(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    pid_file = service.folder / "grandchild"
    scheduler.assign(RUN, scripted_spec(["grandchild", str(pid_file)], ["wait"]))
    await eventually(lambda: pid_file.exists() and pid_file.read_text())
    recorded = service.json("job-a", "process.json")

    os.kill(recorded["shim"]["pid"], signal.SIGKILL)
    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_CRASHED
    assert not is_running(recorded["child"]["pid"])
    assert not is_running(int(pid_file.read_text()))


async def test_an_output_folder_that_is_taken_or_a_link_fails_before_the_child(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    outside = service.folder / "outside"
    outside.mkdir()
    (service.outputs / "taken").mkdir(parents=True)
    (service.outputs / "link").symlink_to(outside)
    for job, output_dir in (("job-a", "taken"), ("job-b", "link"), ("job-c", "link/below")):
        scheduler.assign((job, 1), scripted_spec(["complete"], output_dir=output_dir))

    for job in ("job-a", "job-b", "job-c"):
        ended = await eventually(partial(scheduler.ended, (job, 1)))

        assert ended.failure.cause == job_pb2.FAILURE_CAUSE_OUTPUT_INVALID
        assert not (service.run_folder(job) / "process.json").exists()
    assert not any(outside.iterdir())


async def test_a_link_swapped_in_before_publication_is_refused(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    go = service.folder / "go"
    outside = service.folder / "outside"
    outside.mkdir()
    script = scripted_spec(["wait_for", str(go)], ["complete"], output_dir="team/result")
    scheduler.assign(RUN, script)
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))

    (service.outputs / "team").symlink_to(outside)
    go.touch()
    ended = await eventually(
        lambda: (end := scheduler.ended(RUN)) and end.HasField("failure") and end
    )

    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_OUTPUT_INVALID
    assert not any(outside.iterdir())


async def test_a_stale_attempt_is_ended_and_never_published(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.word.stale.add(RUN)
    scheduler.assign(RUN, scripted_spec(["on_term", "ignore"], ["entries", 1], ["wait"]))

    ended = await eventually(lambda: scheduler.ended(RUN))

    assert ended.outcome == pb.RUN_OUTCOME_STOPPED
    assert service.json("job-a", "stop.json")["mode"] == "FENCE"
    assert not (service.outputs / "out").exists()


async def test_a_stale_attempt_that_completed_stays_unpublished(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    go = service.folder / "go"
    scheduler.assign(RUN, scripted_spec(["wait_for", str(go)], ["complete"]))
    await eventually(lambda: scheduler.reports)

    scheduler.word.stale.add(RUN)
    go.touch()
    await eventually(lambda: service.json("job-a", "marks.json").get("fenced"))

    assert not (service.outputs / "out").exists()
    assert (service.outputs / ".staging/job-a-1/manifest.json").exists()


async def test_a_refused_grant_leaves_the_result_unpublished(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.word.forbidden.add(RUN)
    scheduler.assign(RUN, scripted_spec(["complete"]))

    await eventually(lambda: [run for run in scheduler.reports if run.HasField("end_time")])

    assert scheduler.reports[-1].outcome == pb.RUN_OUTCOME_COMPLETED
    assert not (service.outputs / "out").exists()


async def test_a_new_attempt_waits_until_the_old_one_is_gone(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["on_term", "ignore"], ["entries", 1], ["wait"]))
    await eventually(lambda: (service.run_folder("job-a") / "spool.jsonl").exists())
    old = service.json("job-a", "process.json")["child"]["pid"]

    scheduler.assign(("job-a", 2), scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(("job-a", 2), pb.RUN_PHASE_RUNNING))

    assert not is_running(old)


async def test_the_child_sees_none_of_the_service_settings(
    idle_service: TrainerService, scheduler: FakeScheduler
) -> None:
    await idle_service.start()
    scheduler.assign(RUN, scripted_spec(["wait"]))
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    child = idle_service.json("job-a", "process.json")["child"]["pid"]

    names = environment_names(child)

    assert [one for one in names if one.startswith("TUNEWRIGHT_")] == ["TUNEWRIGHT_RUN"]
    assert "CUDA_VISIBLE_DEVICES" in names


async def test_spec_json_is_what_the_child_is_promised(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["wait"]), resume=True)
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))

    written = json.loads((service.run_folder("job-a") / "spec.json").read_text())

    assert written["job"] == "jobs/job-a"
    assert written["resume"] is True
    assert written["paths"]["checkpoints"] == str(
        service.folder / "artifacts/jobs/job-a/checkpoints"
    )
    assert written["paths"]["staging"] == str(service.outputs / ".staging/job-a-1")
    assert written["spec"]["resources"]["accelerator"] == "ACCELERATOR_CPU"


async def _reason(service: TrainerService, request: trainer_service_pb2.StartRunRequest) -> str:
    with pytest.raises(AioRpcError) as caught:
        await service.trainer.StartRun(request)
    return rich_error(caught.value).reason
