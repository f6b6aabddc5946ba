"""Why a run failed: from an exception to the FailureCause and a hint.

Owns the table. Pure: reads exceptions, touches nothing. Refuses nothing: what
no row matches is INTERNAL. The first row that matches anything in the chain of
exceptions wins, so the rows about resources stand before those about phases.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from errno import EDQUOT, ENOMEM, ENOSPC


class Cause(StrEnum):
    """The FailureCause values a training process can find out itself."""

    DATASET_INVALID = "FAILURE_CAUSE_DATASET_INVALID"
    MODEL_INVALID = "FAILURE_CAUSE_MODEL_INVALID"
    CONFIG_INVALID = "FAILURE_CAUSE_CONFIG_INVALID"
    ENVIRONMENT_INVALID = "FAILURE_CAUSE_ENVIRONMENT_INVALID"
    GPU_OUT_OF_MEMORY = "FAILURE_CAUSE_GPU_OUT_OF_MEMORY"
    HOST_OUT_OF_MEMORY = "FAILURE_CAUSE_HOST_OUT_OF_MEMORY"
    DISK_FULL = "FAILURE_CAUSE_DISK_FULL"
    GPU_FAULT = "FAILURE_CAUSE_GPU_FAULT"
    DISTRIBUTED = "FAILURE_CAUSE_DISTRIBUTED"
    DIVERGED = "FAILURE_CAUSE_DIVERGED"
    CHECKPOINT_INVALID = "FAILURE_CAUSE_CHECKPOINT_INVALID"
    NOTHING_TO_TRAIN = "FAILURE_CAUSE_NOTHING_TO_TRAIN"
    NETWORK = "FAILURE_CAUSE_NETWORK"
    INTERNAL = "FAILURE_CAUSE_INTERNAL"


class Phase(StrEnum):
    """What the run was doing when it failed."""

    STARTING = "starting"
    MODEL = "loading model"
    DATA = "preparing data"
    CONFIG = "setting up training"
    RESUME = "reading checkpoint"
    TRAINING = "training"
    RESULT = "saving result"


class RunFailed(Exception):
    """A failure that knows its own cause; the message names file and line where there is one."""

    def __init__(self, cause: Cause, message: str, hint: str) -> None:
        super().__init__(message)
        self.cause = cause
        self.hint = hint


@dataclass(frozen=True)
class Failure:
    """As in the contract: cause, message, one-sentence hint, type of the exception or ""."""

    cause: Cause
    message: str
    hint: str
    exception_type: str


@dataclass(frozen=True)
class Rule:
    """One row: it matches an exception by its errno, a type name in its ancestry, or a
    pattern in its message; with a phase, only what happened in that phase."""

    cause: Cause
    hint: str
    error_numbers: frozenset[int] = frozenset()
    types: frozenset[str] = frozenset()
    pattern: str | None = None
    phase: Phase | None = None

    def matches(self, error: BaseException, phase: Phase) -> bool:
        """Whether this row is about `error`."""
        if self.phase is not None and self.phase is not phase:
            return False
        if getattr(error, "errno", None) in self.error_numbers:
            return True
        if self.types and not self.types.isdisjoint(_ancestry(error)):
            return True
        return self.pattern is not None and re.search(self.pattern, str(error)) is not None


ANY = frozenset({"Exception"})

RULES: tuple[Rule, ...] = (
    Rule(
        Cause.DISK_FULL,
        "Free space on the disk named in the message, or lower save_total_limit.",
        error_numbers=frozenset({ENOSPC, EDQUOT}),
        pattern=r"No space left on device|Disk quota exceeded|os error 28\b"
        r"|PytorchStreamWriter failed writing|unexpected pos \d+ vs",
    ),
    Rule(
        Cause.GPU_OUT_OF_MEMORY,
        "Lower per_device_train_batch_size and raise gradient_accumulation_steps by the same"
        " factor, or lower max_length.",
        types=frozenset({"torch.OutOfMemoryError"}),
        pattern=r"CUDA out of memory|CUBLAS_STATUS_ALLOC_FAILED|out of memory at line \d+",
    ),
    Rule(
        Cause.HOST_OUT_OF_MEMORY,
        "Use a host with more memory, or lower per_device_train_batch_size or"
        " dataloader_num_workers.",
        error_numbers=frozenset({ENOMEM}),
        types=frozenset({"MemoryError"}),
        pattern=r"can't allocate memory|not enough memory: you tried to allocate|std::bad_alloc",
    ),
    Rule(
        Cause.GPU_FAULT,
        "Have the GPU checked: it reported a fault of its own.",
        pattern=r"uncorrectable ECC|device-side assert|illegal memory access"
        r"|unspecified launch failure|fallen off the bus|CUDA error: unknown error",
    ),
    Rule(
        Cause.DISTRIBUTED,
        "Look at the first rank that failed, and at the network between the GPUs.",
        types=frozenset({"torch.distributed.DistBackendError"}),
        pattern=r"NCCL error|Watchdog caught collective operation timeout",
    ),
    Rule(
        Cause.MODEL_INVALID,
        "Use a model that transformers supports without code of its own.",
        pattern=r"trust_remote_code",
    ),
    Rule(
        Cause.ENVIRONMENT_INVALID,
        "Install the missing library on the trainer, or use a host that has the feature.",
        types=frozenset({"ImportError", "importlib.metadata.PackageNotFoundError"}),
        pattern=r"doesn't support bf16|no kernel image is available|driver version is insufficient"
        r"|bitsandbytes.*(not compiled|not available|require)|only supported on (GPU|CUDA)",
    ),
    Rule(
        Cause.CONFIG_INVALID,
        'Name modules that the model has in target_modules, or use ["all-linear"].',
        pattern=r"[Tt]arget modules .*not found|PEFT adapter to `lm_head`|is not supported\. "
        r"Currently, only the following modules",
    ),
    Rule(
        Cause.DATASET_INVALID,
        "Leave the pictures of a data set as they are until the job has ended.",
        types=frozenset({"trainer_svc.child.vlm_batches.PictureLost"}),
    ),
    Rule(
        Cause.DATASET_INVALID,
        "Correct the data set; the message says where.",
        types=frozenset({"UnicodeDecodeError", "FileNotFoundError", "PermissionError"}),
        phase=Phase.DATA,
    ),
    Rule(
        Cause.CONFIG_INVALID,
        "Correct the value that the message names.",
        types=frozenset({"ValueError", "TypeError", "NotImplementedError"}),
        phase=Phase.CONFIG,
    ),
    Rule(
        Cause.MODEL_INVALID,
        "Check that the model folder is complete: config.json, safetensors weights, tokenizer.",
        types=ANY,
        phase=Phase.MODEL,
    ),
    Rule(
        Cause.CHECKPOINT_INVALID,
        "Retry the job, which starts over from the base model.",
        types=ANY,
        phase=Phase.RESUME,
    ),
)

UNFORESEEN = "Read the traceback at the end of the log; this may be a fault of Tunewright's."


def explain(error: BaseException, phase: Phase) -> Failure:
    """What to tell about `error`, which ended the run in `phase`."""
    chain = _chain(error)
    for link in chain:
        if isinstance(link, RunFailed):
            origin = link.__cause__
            return Failure(link.cause, str(link), link.hint, _name(origin) if origin else "")
    for rule in RULES:
        for link in chain:
            if rule.matches(link, phase):
                return Failure(rule.cause, _message(link), rule.hint, _name(link))
    return Failure(Cause.INTERNAL, _message(error), UNFORESEEN, _name(error))


def _chain(error: BaseException) -> list[BaseException]:
    """`error` and what led to it, outermost first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain


def _ancestry(error: BaseException) -> set[str]:
    return {_type_name(kind) for kind in type(error).__mro__}


def _type_name(kind: type) -> str:
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return prefix + kind.__qualname__


def _name(error: BaseException) -> str:
    return _type_name(type(error))


def _message(error: BaseException) -> str:
    return str(error).strip() or _name(error)
