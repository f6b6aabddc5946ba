"""Messages of libraries and drivers, and what each of them means.

Owns the table and the reading of a traceback's tail. Recognised are the
messages that docs and issue trackers show for each cause; the first row that
matches wins, so the narrow ones come first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainer_svc.domain.runs import Cause

HINTS: dict[Cause, str] = {
    Cause.DATASET_INVALID: "Check the path, the format and the first rows of the data set.",
    Cause.MODEL_INVALID: "Check the model's path or hub id, and that all of its files are there.",
    Cause.CONFIG_INVALID: "Change the hyperparameter that the message names.",
    Cause.ENVIRONMENT_INVALID: "Install what is missing on this trainer, or choose another one.",
    Cause.GPU_OUT_OF_MEMORY: (
        "Halve per_device_train_batch_size and double gradient_accumulation_steps, "
        "or lower max_length."
    ),
    Cause.HOST_OUT_OF_MEMORY: (
        "Give the host more memory, lower dataloader_num_workers, or run fewer jobs at once."
    ),
    Cause.DISK_FULL: "Free space on the disk that the message names, or lower save_total_limit.",
    Cause.GPU_FAULT: "Take this GPU out of service and look at the kernel's log (dmesg, Xid).",
    Cause.DISTRIBUTED: "Look at the other ranks' output: one of them usually failed first.",
    Cause.DIVERGED: "Lower learning_rate, or look for broken rows in the data.",
    Cause.HUNG: "Look at the stack dump in the log for what it waited on.",
    Cause.RUN_TIMEOUT: "Raise run_timeout, or resume from the last checkpoint with a new job.",
    Cause.CRASHED: "Look at the last lines of the log; a retry goes on from the last checkpoint.",
    Cause.LOST: "Nothing needs to be done: a retry goes on from the last checkpoint.",
    Cause.CHECKPOINT_INVALID: "Remove the broken checkpoint, or start the job anew.",
    Cause.OUTPUT_INVALID: "Choose an output_dir that is free and has no link in its path.",
    Cause.INTERNAL: "Look at the log for the whole traceback.",
    Cause.NOTHING_TO_TRAIN: "Raise num_train_epochs or max_steps.",
    Cause.NETWORK: "Check that the trainer reaches the hub; a retry goes on with what is there.",
}


@dataclass(frozen=True)
class Message:
    """A pattern, searched without regard to case, the cause it stands for, and a hint where
    the cause's own says too little. The hint may name what the pattern's groups found."""

    pattern: str
    cause: Cause
    hint: str = ""


MESSAGES: Sequence[Message] = (
    Message(r"uncorrectable ECC error|\bXid\b.*\b(48|63|64|79|94|95)\b", Cause.GPU_FAULT),
    Message(r"fallen off the bus|cudaErrorECCUncorrectable", Cause.GPU_FAULT),
    Message(r"CUDA out of memory|CUDA error: out of memory", Cause.GPU_OUT_OF_MEMORY),
    Message(
        r"torch\.(cuda\.)?OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED", Cause.GPU_OUT_OF_MEMORY
    ),
    Message(r"No space left on device|Disk quota exceeded|\[Errno (28|122)\]", Cause.DISK_FULL),
    Message(
        r"PytorchStreamWriter failed writing|unexpected pos \d+ vs|os error 28\b", Cause.DISK_FULL
    ),
    Message(r"Watchdog caught collective operation timeout", Cause.DISTRIBUTED),
    Message(r"NCCL error|ncclSystemError|ncclInternalError|ncclRemoteError", Cause.DISTRIBUTED),
    Message(r"DistBackendError|Connection closed by peer.*(gloo|nccl)", Cause.DISTRIBUTED),
    Message(r"device-side assert", Cause.CONFIG_INVALID),
    Message(r"Cannot allocate memory|std::bad_alloc|\bMemoryError\b", Cause.HOST_OUT_OF_MEMORY),
    Message(r"DefaultCPUAllocator: can't allocate memory", Cause.HOST_OUT_OF_MEMORY),
    Message(
        r"HeaderTooLarge|InvalidHeaderDeserialization|MetadataIncompleteBuffer"
        r"|Error while deserializing header",
        Cause.MODEL_INVALID,
        "The weights are damaged or cut off: bring the model's files anew.",
    ),
    Message(r"is not an adapter|does not appear to have a file named", Cause.MODEL_INVALID),
    Message(r"ValueError: path: '.*' not found", Cause.MODEL_INVALID),
    Message(
        r"Failed to automatically match `model_type`",
        Cause.CONFIG_INVALID,
        "Set swift.model_type (--swift model_type=NAME) to one of the types that the message"
        " names.",
    ),
    Message(
        r"Failed to automatically match `template_type`",
        Cause.CONFIG_INVALID,
        "Choose the template with swift.template (--swift template=NAME), one of those that the"
        " message names; swift.model_type alone does not settle it.",
    ),
    Message(
        r"is not supported because no suitable `model_type` was found",
        Cause.CONFIG_INVALID,
        "Set swift.model_type (--swift model_type=NAME) if this version of ms-swift has a type for"
        " the model; else train it with the qlora backend.",
    ),
    Message(
        r"model_type: '.*' not in \[",
        Cause.CONFIG_INVALID,
        "Set swift.model_type to a type that this version of ms-swift knows.",
    ),
    Message(
        r"template_type: '.*' not in \[",
        Cause.CONFIG_INVALID,
        "Set swift.template to a template that this version of ms-swift knows.",
    ),
    Message(r"is not a local folder and is not a valid model identifier", Cause.MODEL_INVALID),
    Message(
        r"requires executing (the dataset script|code from the repository)",
        Cause.DATASET_INVALID,
        "Use a data set of plain files (JSON, CSV, Parquet): this one brings code.",
    ),
    Message(r"`trust_remote_code=True`", Cause.MODEL_INVALID),
    Message(r"The local path does not exist, dataset_id", Cause.DATASET_INVALID),
    Message(r"Failed to retrieve the dataset|DatasetNotFoundError", Cause.DATASET_INVALID),
    Message(
        r"MaxLengthError",
        Cause.DATASET_INVALID,
        "Raise max_length, or take the rows that are longer out of the data set.",
    ),
    Message(
        r"doesn't support bf16/gpu|bf16.*not supported",
        Cause.CONFIG_INVALID,
        "Set bf16 to false, or choose hardware that computes in bf16.",
    ),
    Message(
        r"remaining_argv",
        Cause.CONFIG_INVALID,
        "This version of ms-swift does not know a flag that it was given; install a version that"
        " the trainer supports.",
    ),
    Message(
        r"Target modules .* not found",
        Cause.CONFIG_INVALID,
        'Name modules that the model has in target_modules, or use ["all-linear"].',
    ),
    Message(
        r"Sizes of tensors must match except in dimension",
        Cause.CONFIG_INVALID,
        "If the rows have pictures, set per_device_train_batch_size and per_device_eval_batch_size"
        " to 1: for some models ms-swift cannot put pictures of different sizes into one batch.",
    ),
    Message(
        r"requires a flash attention implementation",
        Cause.CONFIG_INVALID,
        "Set packing to false, or install flash attention in ms-swift's environment and use a GPU.",
    ),
    Message(
        r"No CUDA GPUs are available|CUDA driver version is insufficient", Cause.ENVIRONMENT_INVALID
    ),
    Message(r"GatedRepoError|RepositoryNotFoundError|RevisionNotFoundError", Cause.MODEL_INVALID),
    Message(
        r"We couldn't connect to '|Max retries exceeded with url|Failed to resolve '"
        r"|Temporary failure in name resolution|httpx2?\.(Connect|Read|Pool)\w+",
        Cause.NETWORK,
    ),
    Message(
        r"The '(?P<package>[\w.-]+)' distribution was not found",
        Cause.ENVIRONMENT_INVALID,
        "Install {package} in ms-swift's environment (that of the trainer's --swift-python).",
    ),
    Message(
        r"No module named '(?P<package>\w+)",
        Cause.ENVIRONMENT_INVALID,
        "Install what brings the module {package} in the environment that the job ran in: for the"
        " swift backend, that of the trainer's --swift-python.",
    ),
    Message(r"ModuleNotFoundError|ImportError|PackageNotFoundError", Cause.ENVIRONMENT_INVALID),
)

_COMPILED = [(re.compile(row.pattern, re.IGNORECASE), row) for row in MESSAGES]
_RANK_PREFIX = re.compile(r"^(?:\[(?:default)?(?:rank)?\d+\]:?\s*|\[rank\d+\]:\s?)+")
_EXCEPTION = re.compile(
    r"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Failure|Exit|Timeout))"
    r"(?::\s*(?P<message>.*))?$"
)
# They only say that a process below them failed; the reason stands further up.
_WRAPPERS = frozenset({"ChildFailedError", "CalledProcessError", "ProcessRaisedException"})


@dataclass(frozen=True)
class SeenException:
    """The exception that a traceback ended with."""

    type_name: str
    message: str

    @property
    def text(self) -> str:
        """As Python prints it."""
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


def cause_of(text: str) -> Cause | None:
    """The cause that a message stands for; None if no row knows it."""
    found = _found(text)
    return found[0].cause if found is not None else None


def hint_of(cause: Cause, text: str) -> str:
    """What to do about a failure of `cause` with that message."""
    found = _found(text)
    if found is not None and found[0].cause is cause and found[0].hint:
        row, match = found
        return row.hint.format(**match.groupdict())
    return HINTS[cause]


def _found(text: str) -> tuple[Message, re.Match[str]] | None:
    """The first row that knows the text."""
    for pattern, row in _COMPILED:
        match = pattern.search(text)
        if match is not None:
            return row, match
    return None


def worker_was_killed(tail: str) -> bool:
    """Whether a launcher says that SIGKILL ended the worker that failed first. Its own exit
    code says nothing of it."""
    _, found, cause = tail.rpartition("Root Cause (first observed failure)")
    return bool(found) and "Signal 9 (SIGKILL) received" in cause


def last_exception(tail: str) -> SeenException | None:
    """The last real exception in printed lines; wrappers and rank prefixes are skipped."""
    for line in reversed(tail.splitlines()):
        found = _EXCEPTION.match(_RANK_PREFIX.sub("", line))
        if found and found["type"].rpartition(".")[2] not in _WRAPPERS:
            return SeenException(found["type"], (found["message"] or "").strip())
    return None


def last_known_line(tail: str) -> tuple[Cause, str] | None:
    """The last printed line that a row of the table knows, and its cause."""
    for line in reversed(tail.splitlines()):
        plain = _RANK_PREFIX.sub("", line).strip()
        cause = cause_of(plain)
        if cause is not None:
            return cause, plain
    return None
