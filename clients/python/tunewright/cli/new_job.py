"""`tunewright jobs create`: what is typed, as arguments of the SDK.

Judges only what is about the command line; the rest is the service's to say.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import typer
from google.protobuf.json_format import Parse, ParseError

from tunewright.cli import new_job_options as options
from tunewright.cli import values, words
from tunewright.cli.exits import CommandError, ExitCode
from tunewright.cli.follow import KINDS_FOR_PEOPLE, follow, print_outcome
from tunewright.cli.option_names import in_options
from tunewright.cli.options import Address, AsJson, client_for
from tunewright.cli.output import json_line, print_fields, say
from tunewright.cli.views import view_for
from tunewright.client import Client
from tunewright.errors import InvalidRequest
from tunewright.jobs import Job
from tunewright.requests import JobArguments
from tunewright.v1 import job_pb2, spec_pb2


def create(
    context: typer.Context,
    recipe: options.Recipe = None,
    model: options.Model = None,
    data: options.Data = None,
    eval_data: options.EvalData = None,
    data_format: options.Format = None,
    model_kind: options.ModelKind = None,
    strict: options.Strict = None,
    max_dropped_fraction: options.MaxDroppedFraction = None,
    settings: options.Settings = None,
    system_prompt: options.SystemPrompt = None,
    backend: options.Backend = None,
    swift: options.Swift = None,
    output_dir: options.OutputDir = None,
    spec_file: options.SpecFile = None,
    cpu: options.Cpu = False,
    gpu: options.Gpu = None,
    gpus: options.Gpus = None,
    gpu_memory: options.GpuMemory = None,
    trainer: options.Trainer = None,
    run_timeout: options.RunTimeout = None,
    attempts: options.Attempts = None,
    priority: options.Priority = None,
    label: options.Label = None,
    display_name: options.DisplayName = None,
    job_id: options.JobId = None,
    hold: options.Hold = False,
    validate_only: options.ValidateOnly = False,
    watch: options.WatchIt = False,
    as_json: AsJson = False,
    address: Address = None,
) -> ExitCode:
    """Submit a job. With --watch, exit code 0 only for SUCCEEDED."""
    refuse_leftover(context)
    if watch and (hold or validate_only):
        raise CommandError("--watch does not go with --hold and --validate-only")
    arguments = given(
        recipe=recipe,
        spec=spec_file and spec_in(spec_file),
        model=model and values.source(model),
        train_data=[values.data_source(one, "--data") for one in data or ()],
        eval_data=[values.data_source(one, "--eval-data") for one in eval_data or ()],
        format=data_format,
        model_kind=model_kind,
        strict=strict,
        max_dropped_fraction=max_dropped_fraction,
        hyperparameters=values.hyperparameters(settings or ()),
        system_prompt=system_prompt,
        backend=backend,
        swift=values.swift_options(swift or ()),
        output_dir=output_dir,
        **_resources(cpu, gpu, gpus, gpu_memory, trainer),
        run_timeout=run_timeout and values.seconds(run_timeout, "--run-timeout"),
        attempts_max=attempts,
        priority=priority,
        labels=values.pairs(label or (), "--label"),
        display_name=display_name,
        job_id=job_id,
        hold=hold,
        validate_only=validate_only,
    )
    with client_for(address) as client:
        # A spec in a file has a folder of its own.
        if "output_dir" not in arguments and spec_file is None:
            _name_folder(arguments, client)
        try:
            job = client.jobs.create(**arguments)
        except InvalidRequest as error:
            raise in_options(error, spec_in_file=spec_file is not None) from None
        return _tell(job, watch, as_json)


def refuse_leftover(context: typer.Context) -> None:
    """A pattern like *.jsonl is expanded by the shell: only its first file follows the option."""
    leftover = context.args
    if not leftover:
        return
    rest = f" and {len(leftover) - 1} more" if len(leftover) > 1 else ""
    raise CommandError(
        f"unexpected argument {leftover[0]!r:.200}{rest}; give --data once for each file: "
        "--data a.jsonl --data b.jsonl"
    )


def _tell(job: Job, watch: bool, as_json: bool) -> ExitCode:
    if as_json:
        say(json_line(job.proto))
    elif job.plan is not None:
        _tell_plan(job, job.plan)
    else:
        waits = f": {job.pending_reason}" if job.pending_reason else ""
        say(f"{job.name}  {job.state}{waits}")
    if not watch:
        return ExitCode.OK
    kinds = () if as_json else KINDS_FOR_PEOPLE
    code = follow(job, view_for(as_json, job.id), kinds=kinds)
    if not as_json and code != ExitCode.INTERRUPTED:
        print_outcome(job)
    return code


def _tell_plan(job: Job, plan: job_pb2.JobPlan) -> None:
    say("the request is valid; nothing was stored")
    print_fields(_plan_fields(job, plan))
    if plan.not_checked:
        say("to read model and data on a trainer, without a GPU: tunewright data check")
    if plan.argv:
        say("command")
        say(words.command_lines(plan.argv))


def _plan_fields(job: Job, plan: job_pb2.JobPlan) -> list[tuple[str, str]]:
    fitting = ", ".join(plan.trainers)
    nowhere = "no trainer that is registered now"
    if job.pending_reason:
        nowhere = f"{nowhere}: {job.pending_reason}"
    fields = [
        ("recipe", job.recipe),
        ("fits on", fitting or nowhere),
        ("output dir", job.spec.output_dir),
    ]
    for name, texts in (("checked", plan.checked), ("not checked", plan.not_checked)):
        fields += [("" if index else name, text) for index, text in enumerate(texts)]
    return fields


def _name_folder(arguments: JobArguments, client: Client) -> None:
    """A new name for the folder, where nobody else has one: not for a recipe that fixes it."""
    recipe = arguments.get("recipe", "")
    if recipe and "output_dir" not in client.recipes.get(recipe).required_fields:
        return
    named_after = str(recipe or arguments.get("model", "")).partition("@")[0]
    if named_after:
        arguments["output_dir"] = values.new_output_dir(named_after, datetime.now(UTC))


def _resources(
    cpu: bool,
    gpu: list[str] | None,
    gpus: int | None,
    gpu_memory: str | None,
    trainer: str | None,
) -> dict[str, Any]:
    if cpu and (gpu or gpus is not None or gpu_memory):
        raise CommandError("--cpu does not go with --gpu, --gpus and --gpu-memory")
    return {
        "accelerator": "cpu" if cpu else None,
        "gpu_ids": gpu,
        "gpu_count": gpus,
        "gpu_memory_bytes_min": gpu_memory and values.size_bytes(gpu_memory, "--gpu-memory"),
        "trainer": trainer,
    }


def given(**arguments: Any) -> JobArguments:
    """What was typed; what was not is left to the service's defaults.

    Without a recipe an empty text leaves it to them too; with one it means something else
    than what the recipe says, and the SDK refuses it.
    """
    unset: tuple[object, ...] = (None, [], {}) if arguments["recipe"] else (None, [], {}, "")
    typed = {name: value for name, value in arguments.items() if value not in unset}
    return cast("JobArguments", typed)


def spec_in(file: Path) -> spec_pb2.JobSpec:
    """The spec in a JSON file. Raises CommandError."""
    try:
        return Parse(file.read_text(encoding="utf-8"), spec_pb2.JobSpec())
    except OSError as error:
        problem = error.strerror or str(error)
    except (ParseError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
    raise CommandError(f"--file {file}: {problem}")
