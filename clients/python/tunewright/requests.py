"""Requests from Python arguments: the one place where the SDK's words become protos.

Sans I/O: both clients send what is built here. Validates nothing; what cannot
be put into a proto is refused by `tunewright.fields`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any, TypeAlias, TypedDict

from google.protobuf.descriptor import Descriptor

from tunewright.fields import Problems, fill
from tunewright.v1 import data_service_pb2, job_pb2, job_service_pb2, recipe_service_pb2, spec_pb2
from tunewright.wire import names
from tunewright.wire.meant import did_you_mean

DataArgument: TypeAlias = "str | os.PathLike[str] | Mapping[str, object] | spec_pb2.DataSource"


class JobArguments(TypedDict, total=False):
    """What `jobs.create` takes. Everything but model, train_data and output_dir may be left out.

    With a recipe, what it requires must be given, and nothing that it does not name; a text,
    a list or a number that is empty or 0 cannot take the place of what it says.
    """

    # Name of a recipe, "llm-swift", or of one version of it, "llm-swift@1".
    recipe: str

    # A hub id, or a folder on the trainer. A `Path` is made absolute; text is sent as it is.
    model: str | os.PathLike[str] | spec_pb2.ModelSource
    # One data set or several; each a path, a hub id ("...#500" takes the
    # first 500 samples), {"source", "format", "split", "columns"},
    # or a DataSource; "columns" maps fields of the format to names in the file.
    train_data: DataArgument | Sequence[DataArgument]
    # The same, to evaluate on.
    eval_data: DataArgument | Sequence[DataArgument]
    # Folder of the result, relative to the output root.
    output_dir: str
    # By their Hugging Face / TRL / PEFT names.
    hyperparameters: Mapping[str, object] | spec_pb2.Hyperparameters
    # "gpu" (the default) or "cpu".
    accelerator: str
    gpu_count: int
    gpu_ids: Sequence[str | int]
    # Least memory of each GPU, in bytes.
    gpu_memory_bytes_min: int
    # Name of one trainer.
    trainer: str
    # "qlora" (the default) or "swift".
    backend: str
    # "messages", "lccc", "alpaca", "sharegpt", "prompt_completion" or "text", for all data
    # that does not say its own; found out if left out.
    format: str
    # "llm" (the default) or "vlm", which reads pictures as well.
    model_kind: str
    # What only ms-swift knows, by its own names ({"model_type": ..., "template": ...}).
    swift: Mapping[str, object] | spec_pb2.SwiftOptions
    # False leaves malformed rows out instead of failing; True if left out.
    strict: bool
    # Share of a source's rows that may be left out, 0 to 1.
    max_dropped_fraction: float
    # A hub revision of the model.
    model_revision: str
    system_prompt: str
    # Seconds or a timedelta; the longest that one attempt may run.
    run_timeout: float | timedelta
    # Attempts in all, the first one counted.
    attempts_max: int
    # Seconds or a timedelta before the second attempt.
    retry_backoff: float | timedelta
    # The spec as a proto, instead of everything above but the recipe.
    spec: spec_pb2.JobSpec
    display_name: str
    labels: Mapping[str, str]
    # The higher goes first, -1000 to 1000.
    priority: int
    # Make it HELD; `start()` puts it into the queue.
    hold: bool
    # Check and plan only; nothing is stored.
    validate_only: bool
    # Wished-for last part of the name.
    job_id: str
    # Same id, same job, however often it is sent. Made once per call if left out.
    request_id: str


# Which message each argument goes to, and under which name.
_IN_SPEC = {
    "output_dir", "backend", "hyperparameters", "run_timeout", "system_prompt",
    "model_kind", "swift", "strict", "max_dropped_fraction",
}  # fmt: skip
_IN_RESOURCES = {"accelerator", "gpu_count", "gpu_ids", "gpu_memory_bytes_min", "trainer"}
_IN_RETRY = {"attempts_max": "attempts_max", "retry_backoff": "backoff"}
_IN_JOB = {"display_name", "labels", "priority"}
_IN_REQUEST = {"hold", "validate_only", "job_id", "request_id"}
_SPEC_PATH = "job.spec"
_STAYS = "cannot be made empty; with a recipe, an empty value or 0 is the same as none"


def create_job(
    arguments: Mapping[str, Any], new_request_id: str
) -> job_service_pb2.CreateJobRequest:
    """The request for a new job.

    Raises InvalidRequest, with a violation per bad field, for what no proto can hold.
    """
    problems = Problems()
    given = {name: value for name, value in arguments.items() if value is not None}
    _refuse_unknown(given, problems)
    request = job_service_pb2.CreateJobRequest(request_id=new_request_id)
    fill(request, _only(given, _IN_REQUEST), "request", problems)
    fill(request.job, _only(given, _IN_JOB), "job", problems)
    if isinstance(given.get("recipe"), str | None):
        request.job.recipe = recipe_name(given.get("recipe", ""))
    else:
        problems.add("job.recipe", f"expected text, got {given['recipe']!r:.60}")
    if given.get("recipe"):
        _refuse_empty(given, problems)
    if "spec" in given:
        _take_spec(request.job, given, problems)
    else:
        _fill_spec(request.job.spec, given, problems)
    problems.raise_if_any()
    return request


def check_data(arguments: Mapping[str, Any], rows_shown: int) -> data_service_pb2.CheckDataRequest:
    """The request for a data check: the job's arguments, of which it takes the spec.

    Raises InvalidRequest as `create_job` does.
    """
    # Not of the spec: a recipe that fixes where jobs run does not fix where data is looked at.
    of_spec = {name: value for name, value in arguments.items() if name != "trainer"}
    job = create_job(of_spec, "").job
    request = data_service_pb2.CheckDataRequest(recipe=job.recipe)
    if job.HasField("spec"):
        request.spec.CopyFrom(job.spec)
    trainer = arguments.get("trainer")
    problems = Problems()
    given: dict[str, Any] = {"rows_shown": rows_shown}
    if trainer:
        given["trainer"] = trainer_name(trainer) if isinstance(trainer, str) else trainer
    fill(request, given, "request", problems)
    problems.raise_if_any()
    return request


def update_job(
    name: str,
    *,
    priority: int | None = None,
    labels: Mapping[str, str] | None = None,
    display_name: str | None = None,
) -> job_service_pb2.UpdateJobRequest:
    """The request that changes what is given, and only that."""
    values = {"priority": priority, "labels": labels, "display_name": display_name}
    given = {field: value for field, value in values.items() if value is not None}
    problems = Problems()
    request = job_service_pb2.UpdateJobRequest(job=job_pb2.Job(name=job_name(name)))
    fill(request.job, given, "job", problems)
    problems.raise_if_any()
    request.update_mask.paths.extend(given)
    return request


def create_recipe(
    recipe_id: str, yaml: str | os.PathLike[str], *, validate_only: bool = False
) -> recipe_service_pb2.CreateRecipeRequest:
    """The request for a new recipe. A path is read, a text is sent as it is."""
    recipe = recipe_service_pb2.Recipe(yaml=_read(yaml))
    return recipe_service_pb2.CreateRecipeRequest(
        recipe_id=recipe_id.removeprefix("recipes/"), recipe=recipe, validate_only=validate_only
    )


def update_recipe(
    name: str, yaml: str | os.PathLike[str], version: int
) -> recipe_service_pb2.UpdateRecipeRequest:
    """The request for a new version of a recipe. A path is read, a text is sent as it is."""
    return recipe_service_pb2.UpdateRecipeRequest(
        recipe=recipe_service_pb2.Recipe(name=recipe_name(name), yaml=_read(yaml), version=version)
    )


def job_name(name_or_id: str) -> str:
    """ "jobs/{job}" of a name or an id."""
    return name_or_id if "/" in name_or_id else names.job_name(name_or_id)


def trainer_name(name_or_id: str) -> str:
    """ "trainers/{trainer}" of a name or an id."""
    return name_or_id if "/" in name_or_id else names.trainer_name(name_or_id)


def recipe_name(name_or_id: str) -> str:
    """ "recipes/{recipe}" of a name or an id, with or without a version; empty stays empty."""
    if not name_or_id or "/" in name_or_id:
        return name_or_id
    return names.recipe_name(name_or_id)


def new_request_id() -> str:
    """One per call of the user's: it spans all retries of it."""
    return uuid.uuid4().hex


def _refuse_unknown(given: Mapping[str, Any], problems: Problems) -> None:
    known = JobArguments.__annotations__
    hyperparameters = spec_pb2.Hyperparameters.DESCRIPTOR.fields_by_name
    for name in sorted(given.keys() - known.keys()):
        if name in hyperparameters:
            told = f"is a hyperparameter: write hyperparameters={{{name!r}: ...}}"
        else:
            meant = did_you_mean(name, known)
            told = f"no such argument; did you mean {meant!r}?" if meant else "no such argument"
        problems.add(name, told)


def _take_spec(job: job_pb2.Job, given: Mapping[str, Any], problems: Problems) -> None:
    parts = _IN_SPEC | _IN_RESOURCES | _IN_RETRY.keys() | {"model", "train_data", "eval_data"}
    parts |= {"format", "model_revision"}
    for name in sorted(parts & given.keys()):
        problems.add(name, "goes inside spec where spec is given")
    fill(job, {"spec": given["spec"]}, "job", problems)


def _refuse_empty(given: Mapping[str, Any], problems: Problems) -> None:
    """On the wire these would look as if nobody had given them, and the recipe's would be taken."""
    parts: dict[str, Any] = _only(given, _IN_SPEC | {"train_data", "eval_data"})
    parts["resources"] = _only(given, _IN_RESOURCES)
    parts["retry_policy"] = _policy(given)
    model, revision = given.get("model"), given.get("model_revision")
    parts["model"] = dict(model) if isinstance(model, Mapping) else {"name": model}
    if revision is not None:
        parts["model"]["revision"] = revision
    _note_empty(spec_pb2.JobSpec.DESCRIPTOR, parts, _SPEC_PATH, problems)


def _note_empty(kind: Descriptor, values: Mapping[str, Any], path: str, problems: Problems) -> None:
    for name, value in values.items():
        field, place = kind.fields_by_name.get(name), f"{path}.{name}"
        if field is None:
            continue
        if not field.has_presence and _is_empty(value):
            problems.add(place, _STAYS)
        elif field.is_repeated and field.message_type:
            items = value if isinstance(value, list | tuple) else [value]
            for index, item in enumerate(items):
                if isinstance(item, Mapping):
                    _note_empty(field.message_type, item, f"{place}[{index}]", problems)
        elif field.message_type and isinstance(value, Mapping):
            _note_empty(field.message_type, value, place, problems)


def _is_empty(value: Any) -> bool:
    return isinstance(value, int | float | Collection) and not value


def _fill_spec(spec: spec_pb2.JobSpec, given: Mapping[str, Any], problems: Problems) -> None:
    fill(spec, _only(given, _IN_SPEC), _SPEC_PATH, problems)
    _fill_model(spec, given, problems)
    for part in ("train_data", "eval_data"):
        _fill_data(spec, part, given, problems)
    if "format" in given and not (spec.train_data or spec.eval_data):
        problems.add("format", "needs train_data or eval_data")
    resources = _only(given, _IN_RESOURCES)
    if isinstance(resources.get("trainer"), str):
        resources["trainer"] = trainer_name(resources["trainer"])
    if resources:
        fill(spec.resources, resources, f"{_SPEC_PATH}.resources", problems)
    policy = _policy(given)
    if policy:
        fill(spec.retry_policy, policy, f"{_SPEC_PATH}.retry_policy", problems)


def _policy(given: Mapping[str, Any]) -> dict[str, Any]:
    return {_IN_RETRY[name]: given[name] for name in _IN_RETRY if name in given}


def _fill_model(spec: spec_pb2.JobSpec, given: Mapping[str, Any], problems: Problems) -> None:
    model = given.get("model")
    if isinstance(model, str | os.PathLike):
        model = {"name": _text(model)}
    if model is not None:
        fill(spec, {"model": model}, _SPEC_PATH, problems)
    if "model_revision" in given:
        revision = {"revision": given["model_revision"]}
        fill(spec.model, revision, f"{_SPEC_PATH}.model", problems)


def _fill_data(
    spec: spec_pb2.JobSpec, part: str, given: Mapping[str, Any], problems: Problems
) -> None:
    for index, source in enumerate(_listed(given.get(part, ()))):
        path = f"{_SPEC_PATH}.{part}[{index}]"
        target: spec_pb2.DataSource = getattr(spec, part).add()
        if isinstance(source, spec_pb2.DataSource):
            target.CopyFrom(source)
        elif isinstance(source, str | os.PathLike):
            fill(target, {"source": _text(source)}, path, problems)
        elif isinstance(source, Mapping):
            fill(target, source, path, problems)
        else:
            problems.add(path, f"expected a path, a mapping or a DataSource, got {source!r}")
        if "format" in given and not target.format:
            fill(target, {"format": given["format"]}, path, problems)


def _listed(value: Any) -> Iterable[Any]:
    single = isinstance(value, str | os.PathLike | Mapping | spec_pb2.DataSource)
    if single or not isinstance(value, Iterable):
        return [value]
    return value


def _text(value: str | os.PathLike[str]) -> str:
    if isinstance(value, PurePath):
        return str(Path(value).absolute())
    return os.fspath(value)


def _read(yaml: str | os.PathLike[str]) -> str:
    return yaml if isinstance(yaml, str) else Path(yaml).read_text(encoding="utf-8")


def _only(given: Mapping[str, Any], names_wanted: set[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names_wanted}
