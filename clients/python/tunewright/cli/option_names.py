"""Fields of a request as the options of `jobs create` and `data check` that set them.

A service refuses fields ("job.spec.train_data: is required"); who typed
options is told of options ("--data: is required"). One table, and a test that
every option is in it. Programs (`--json`) get the fields as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from tunewright.errors import InvalidRequest, Violation

# A path that ends in "." stands for everything below it, whose name is put behind the option.
OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "job.recipe": "--recipe",
        "job.display_name": "--name",
        "job.labels": "--label",
        "job.priority": "--priority",
        "job.spec.model": "--model",
        "job.spec.train_data": "--data",
        "job.spec.train_data[].format": "--format",
        "job.spec.eval_data": "--eval-data",
        "job.spec.eval_data[].format": "--format",
        "job.spec.model_kind": "--model-kind",
        "job.spec.strict": "--strict",
        "job.spec.max_dropped_fraction": "--max-dropped-fraction",
        "job.spec.hyperparameters": "--set",
        "job.spec.hyperparameters.": "--set",
        "job.spec.system_prompt": "--system-prompt",
        "job.spec.backend": "--backend",
        "job.spec.swift": "--swift",
        "job.spec.swift.": "--swift",
        "job.spec.output_dir": "--output-dir",
        "job.spec.resources.accelerator": "--cpu",
        "job.spec.resources.gpu_ids": "--gpu",
        "job.spec.resources.gpu_count": "--gpus",
        "job.spec.resources.gpu_memory_bytes_min": "--gpu-memory",
        "job.spec.resources.trainer": "--trainer",
        "job.spec.run_timeout": "--run-timeout",
        "job.spec.retry_policy.attempts_max": "--attempts",
        "job_id": "--id",
        "hold": "--hold",
        "validate_only": "--validate-only",
        # Of `data check` alone.
        "rows_shown": "--rows",
        # The SDK's own name, for what it puts into each data set.
        "format": "--format",
    }
)

# Without any option there is no spec; the service can only say that it is required.
_NOTHING_GIVEN = "give --model and --data, or --recipe, or --file"
_INDEX = re.compile(r"\[([^\]]*)\]")
# Names of fields inside a sentence, not in a path or in quotes. One word alone ("model") may
# be plain English.
_FIELD_WORD = re.compile(r"(?<![\w/'\".-])[a-z]+(?:_[a-z]+)+(?![\w/'\"-]|\.\w)")
# The SDK's words for an argument beside `spec`.
_IN_FILE = ("goes inside spec where spec is given", "does not go with --file: put it into the file")


@dataclass(frozen=True)
class OptionViolation(Violation):
    """A bad field, and the option that sets it; "" for the request as a whole."""

    option: str = ""


def in_options(error: InvalidRequest, *, spec_in_file: bool) -> InvalidRequest:
    """The same refusal for a person who typed options, or wrote the spec into `--file`."""
    return InvalidRequest(
        error.message,
        reason=error.reason,
        code=error.code,
        metadata=error.metadata,
        violations=[_in_options(one, spec_in_file) for one in error.violations],
        retry_delay_seconds=error.retry_delay_seconds,
    )


def option_of(path: str) -> str:
    """The option that sets a field; "" if none does."""
    path = _as_for_jobs(path)
    if path in _words():  # the SDK's own arguments stand alone
        return _words()[path]
    index = _INDEX.search(path)
    place = int(index[1]) + 1 if index and index[1].isdecimal() else 1
    plain = _INDEX.sub("[]", path)
    for known in _lineage(plain):
        if known in OPTIONS:
            number = f" (number {place})" if place > 1 else ""
            return f"{OPTIONS[known]}{number}"
        if f"{known.rpartition('.')[0]}." in OPTIONS:
            option, name = OPTIONS[f"{known.rpartition('.')[0]}."], known.rpartition(".")[2]
            return f"{option} {name.removesuffix('[]')}=..."
    return ""


def _as_for_jobs(path: str) -> str:
    """The path in CreateJobRequest: CheckDataRequest has the spec without a job around it."""
    path = path.removeprefix("request.")
    return f"job.{path}" if path.partition(".")[0] == "spec" else path


def _lineage(path: str) -> Sequence[str]:
    """The path itself, then what it is in: "a.b[].c", "a.b[]", "a.b", "a"."""
    found = [path]
    while path:
        path = path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]
        found.append(path)
    return found


def _in_options(violation: Violation, spec_in_file: bool) -> Violation:
    field = _as_for_jobs(violation.field)
    if spec_in_file and field.startswith("job.spec."):
        option = f"--file, {field.removeprefix('job.spec.')}"
        return OptionViolation(violation.field, violation.description, option)
    if field == "job.spec" and violation.description == "is required":
        return OptionViolation(violation.field, _NOTHING_GIVEN)
    option = option_of(violation.field)
    if not option:
        return violation
    said = violation.description.replace(*_IN_FILE)
    description = _FIELD_WORD.sub(lambda word: _words().get(word[0], word[0]), said)
    return OptionViolation(violation.field, description, option)


@cache
def _words() -> Mapping[str, str]:
    """Option by the last part of a field's path."""
    return {path.rpartition(".")[2]: option for path, option in OPTIONS.items() if path[-1] != "."}
