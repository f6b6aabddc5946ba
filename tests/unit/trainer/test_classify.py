"""The end of a run: outcome, cause and hint from what is left behind."""

from __future__ import annotations

import signal

import pytest

from trainer_svc.domain.classify import EndFacts, ExitRecord, ResultRecord, classify
from trainer_svc.domain.failure_messages import HINTS, last_exception
from trainer_svc.domain.runs import Cause, RunOutcome, StopMode

CLEAN = ExitRecord(0, None, killed_by_us=False)
FAILED = ExitRecord(1, None, killed_by_us=False)
KILLED = ExitRecord(None, signal.SIGKILL, killed_by_us=False)
OUT_OF_MEMORY = ExitRecord(None, signal.SIGKILL, killed_by_us=False, oom_kills=1)
COMPLETED = ResultRecord("COMPLETED")
STOPPED = ResultRecord("STOPPED")


@pytest.mark.parametrize("stop", [None, StopMode.PAUSE, StopMode.CANCEL, StopMode.TIMEOUT])
def test_a_run_that_finished_first_is_completed(stop: StopMode | None) -> None:
    ending = classify(EndFacts(CLEAN, COMPLETED, stop))

    assert ending.outcome is RunOutcome.COMPLETED


def test_a_fenced_run_is_never_completed() -> None:
    ending = classify(EndFacts(CLEAN, COMPLETED, StopMode.FENCE))

    assert ending.outcome is RunOutcome.STOPPED


@pytest.mark.parametrize("stop", [StopMode.CANCEL, StopMode.FENCE])
@pytest.mark.parametrize("exited", [CLEAN, FAILED, KILLED, None])
def test_a_run_that_was_asked_to_end_is_stopped(stop: StopMode, exited: ExitRecord | None) -> None:
    ending = classify(EndFacts(exited, None, stop))

    assert ending.outcome is RunOutcome.STOPPED


@pytest.mark.parametrize(
    ("exited", "result", "outcome"),
    [
        (CLEAN, STOPPED, RunOutcome.STOPPED),
        (None, None, RunOutcome.STOPPED),
        (ExitRecord(None, signal.SIGKILL, killed_by_us=True), None, RunOutcome.STOPPED),
        (ExitRecord(None, signal.SIGTERM, killed_by_us=False), None, RunOutcome.STOPPED),
        (ExitRecord(None, None, killed_by_us=False), None, RunOutcome.STOPPED),
        (FAILED, ResultRecord("FAILED", {"message": "x"}), RunOutcome.FAILED),
        (ExitRecord(None, signal.SIGSEGV, killed_by_us=False), None, RunOutcome.FAILED),
    ],
)
def test_a_failure_while_pausing_is_told(
    exited: ExitRecord | None, result: ResultRecord | None, outcome: RunOutcome
) -> None:
    ending = classify(EndFacts(exited, result, StopMode.PAUSE))

    assert ending.outcome is outcome


def test_a_full_disk_is_seen_also_where_it_took_exit_json() -> None:
    ending = classify(EndFacts(None, None, None, "OSError: [Errno 28] No space left on device"))

    assert ending.failure is not None
    assert ending.failure.cause is Cause.DISK_FULL


def test_a_timeout_fails_also_when_the_child_stopped_well() -> None:
    ending = classify(EndFacts(CLEAN, STOPPED, StopMode.TIMEOUT))

    assert ending.failure is not None
    assert ending.failure.cause is Cause.RUN_TIMEOUT


def test_the_childs_own_account_is_taken() -> None:
    told = {"cause": "FAILURE_CAUSE_DIVERGED", "message": "loss is NaN", "hint": "own hint"}

    ending = classify(EndFacts(FAILED, ResultRecord("FAILED", told)))

    assert ending.failure is not None
    assert (ending.failure.cause, ending.failure.hint) == (Cause.DIVERGED, "own hint")
    assert ending.failure.exit_code == 1


@pytest.mark.parametrize("cause", ["FAILURE_CAUSE_INTERNAL", "FAILURE_CAUSE_FROM_THE_FUTURE", ""])
def test_the_table_helps_where_the_child_knew_no_cause(cause: str) -> None:
    told = {"cause": cause, "message": "[Errno 28] No space left on device"}

    ending = classify(EndFacts(FAILED, ResultRecord("FAILED", told)))

    assert ending.failure is not None
    assert ending.failure.cause is Cause.DISK_FULL
    assert ending.failure.hint == HINTS[Cause.DISK_FULL]


@pytest.mark.parametrize(
    ("exited", "tail", "cause"),
    [
        (None, "", Cause.CRASHED),
        (None, "CUDA out of memory", Cause.CRASHED),
        (CLEAN, "", Cause.CRASHED),
        (CLEAN, "ImportError is mentioned in passing", Cause.CRASHED),
        (FAILED, "", Cause.CRASHED),
        (ExitRecord(None, signal.SIGSEGV, killed_by_us=False), "", Cause.CRASHED),
        (KILLED, "", Cause.CRASHED),
        (OUT_OF_MEMORY, "", Cause.HOST_OUT_OF_MEMORY),
        (ExitRecord(137, None, False, oom_kills=1), "", Cause.HOST_OUT_OF_MEMORY),
        (ExitRecord(137, None, False), "", Cause.CRASHED),
        (FAILED, "RuntimeError: CUDA error: out of memory", Cause.GPU_OUT_OF_MEMORY),
        (
            FAILED,
            "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB",
            Cause.GPU_OUT_OF_MEMORY,
        ),
        (FAILED, "OSError: [Errno 122] Disk quota exceeded", Cause.DISK_FULL),
        (FAILED, "RuntimeError: NCCL error in: x.cpp", Cause.DISTRIBUTED),
        (FAILED, "[rank1]: Watchdog caught collective operation timeout: W", Cause.DISTRIBUTED),
        (FAILED, "RuntimeError: CUDA error: uncorrectable ECC error encountered", Cause.GPU_FAULT),
        (FAILED, "safetensors_rust.SafetensorError: HeaderTooLarge", Cause.MODEL_INVALID),
        (FAILED, "ValueError: remaining_argv: ['--x']", Cause.CONFIG_INVALID),
        (FAILED, "ModuleNotFoundError: No module named 'peft'", Cause.ENVIRONMENT_INVALID),
        (FAILED, "httpx.ConnectError: [Errno 111] Connection refused", Cause.NETWORK),
        (FAILED, "OSError: We couldn't connect to 'https://hub.example' to load", Cause.NETWORK),
        (FAILED, "huggingface_hub.errors.GatedRepoError: 403 Client Error.", Cause.MODEL_INVALID),
        (FAILED, "ValueError: something nobody foresaw", Cause.INTERNAL),
        (FAILED, "terminate called after throwing 'std::bad_alloc'", Cause.HOST_OUT_OF_MEMORY),
    ],
)
def test_a_child_without_an_account_is_judged_by_its_end(
    exited: ExitRecord | None, tail: str, cause: Cause
) -> None:
    ending = classify(EndFacts(exited, None, None, tail))

    assert ending.outcome is RunOutcome.FAILED
    assert ending.failure is not None
    assert ending.failure.cause is cause
    assert ending.failure.message
    assert ending.failure.hint


def test_wrappers_and_rank_prefixes_hide_no_exception() -> None:
    tail = "\n".join(
        [
            "[rank0]: Traceback (most recent call last):",
            "[rank0]: torch.OutOfMemoryError: CUDA out of memory.",
            "Traceback (most recent call last):",
            "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
            "subprocess.CalledProcessError: Command died",
        ]
    )

    seen = last_exception(tail)
    ending = classify(EndFacts(FAILED, None, None, tail))

    assert seen is not None
    assert seen.type_name == "torch.OutOfMemoryError"
    assert ending.failure is not None
    assert ending.failure.cause is Cause.GPU_OUT_OF_MEMORY
    assert ending.failure.exception_type == "torch.OutOfMemoryError"


def test_a_run_that_nobody_can_tell_of_is_lost() -> None:
    ending = classify(EndFacts(None, lost="the host was restarted"))

    assert ending.failure is not None
    assert ending.failure.cause is Cause.LOST


def test_every_cause_has_a_hint() -> None:
    assert set(HINTS) == set(Cause)
