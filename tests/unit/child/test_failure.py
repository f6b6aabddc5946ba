"""From exceptions to causes."""

import errno
import importlib.metadata

import pytest

from trainer_svc.child.failure import Cause, Phase, RunFailed, explain

OUT_OF_MEMORY = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})


@pytest.mark.parametrize(
    ("error", "phase", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Phase.TRAINING, Cause.DISK_FULL),
        (OSError(errno.EDQUOT, "quota"), Phase.DATA, Cause.DISK_FULL),
        (
            RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/0"),
            Phase.TRAINING,
            Cause.DISK_FULL,
        ),
        (
            Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
            Phase.RESULT,
            Cause.DISK_FULL,
        ),
        (OUT_OF_MEMORY("CUDA out of memory."), Phase.TRAINING, Cause.GPU_OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory. Tried"), Phase.MODEL, Cause.GPU_OUT_OF_MEMORY),
        (MemoryError(), Phase.DATA, Cause.HOST_OUT_OF_MEMORY),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            Phase.MODEL,
            Cause.HOST_OUT_OF_MEMORY,
        ),
        (
            RuntimeError("CUDA error: uncorrectable ECC error encountered"),
            Phase.TRAINING,
            Cause.GPU_FAULT,
        ),
        (RuntimeError("NCCL error in: x.cpp"), Phase.TRAINING, Cause.DISTRIBUTED),
        (ModuleNotFoundError("No module named 'peft'"), Phase.CONFIG, Cause.ENVIRONMENT_INVALID),
        (
            importlib.metadata.PackageNotFoundError("trl"),
            Phase.RESULT,
            Cause.ENVIRONMENT_INVALID,
        ),
        (
            ValueError("Your setup doesn't support bf16/gpu."),
            Phase.CONFIG,
            Cause.ENVIRONMENT_INVALID,
        ),
        (
            ValueError("Target modules {'nope'} not found in the base model."),
            Phase.CONFIG,
            Cause.CONFIG_INVALID,
        ),
        (ValueError("sgdx is not a valid OptimizerNames"), Phase.CONFIG, Cause.CONFIG_INVALID),
        (
            ValueError("requires you to execute ... `trust_remote_code=True`"),
            Phase.MODEL,
            Cause.MODEL_INVALID,
        ),
        (OSError("config.json is not a valid JSON file"), Phase.MODEL, Cause.MODEL_INVALID),
        (FileNotFoundError(errno.ENOENT, "gone"), Phase.DATA, Cause.DATASET_INVALID),
        (KeyError("trainer_state"), Phase.RESUME, Cause.CHECKPOINT_INVALID),
        (ValueError("odd"), Phase.TRAINING, Cause.INTERNAL),
    ],
)
def test_each_error_has_its_cause(error: Exception, phase: Phase, cause: Cause) -> None:
    failure = explain(error, phase)

    assert failure.cause is cause
    assert failure.message
    assert failure.hint.endswith(".")


def test_the_type_of_the_exception_is_told_in_full() -> None:
    failure = explain(OUT_OF_MEMORY("CUDA out of memory."), Phase.TRAINING)

    assert failure.exception_type == "torch.OutOfMemoryError"


def test_what_led_to_an_error_counts() -> None:
    outer = RuntimeError("could not save")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/checkpoints/x")

    failure = explain(outer, Phase.TRAINING)

    assert failure.cause is Cause.DISK_FULL
    assert "/checkpoints/x" in failure.message
    assert failure.exception_type == "OSError"


def test_a_failure_that_knows_its_cause_keeps_it() -> None:
    error = RunFailed(Cause.DIVERGED, "loss = nan", "Lower it.")

    failure = explain(error, Phase.TRAINING)

    assert (failure.cause, failure.message, failure.hint, failure.exception_type) == (
        Cause.DIVERGED,
        "loss = nan",
        "Lower it.",
        "",
    )
