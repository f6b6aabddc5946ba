"""`tunewright data check`: the data of a job as its training would get it.

Thin: the options are those of `jobs create`, and a trainer does the work.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli import new_job_options as options
from tunewright.cli import values
from tunewright.cli.data_view import DataView, JsonDataView, PlainDataView
from tunewright.cli.exits import ExitCode
from tunewright.cli.new_job import given, refuse_leftover, spec_in
from tunewright.cli.option_names import in_options
from tunewright.cli.options import Address, AsJson, client_for
from tunewright.data_report import DataReport
from tunewright.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Check data before a job trains on it.")


@app.callback()
def _data() -> None:
    """Check data before a job trains on it."""


# As with `jobs create`, what is left over is refused in words that help.
@app.command(context_settings={"allow_extra_args": True})
def check(
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
    spec_file: options.SpecFile = None,
    trainer: Annotated[
        str | None, typer.Option(help="Check on this trainer. Default: any that can.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", help="Rows to show of each source, 0 to 20.")] = 3,
    as_json: AsJson = False,
    address: Address = None,
) -> ExitCode:
    """Read data on a trainer as training would: receipt, problems, rows with the trained part.

    Exit code 0 only if a job with this data would begin to train.
    """
    refuse_leftover(context)
    arguments = given(
        recipe=recipe,
        spec=spec_file and spec_in(spec_file),
        model=model and values.source(model),
        train_data=[values.source(one) for one in data or ()],
        eval_data=[values.source(one) for one in eval_data or ()],
        format=data_format,
        model_kind=model_kind,
        strict=strict,
        max_dropped_fraction=max_dropped_fraction,
        hyperparameters=values.hyperparameters(settings or ()),
        system_prompt=system_prompt,
        backend=backend,
        swift=values.swift_options(swift or ()),
        trainer=trainer,
    )
    view: DataView = JsonDataView() if as_json else PlainDataView()
    report = DataReport()
    try:
        with (
            client_for(address) as client,
            client.data.check(rows_shown=rows, **arguments) as messages,
        ):
            for message in messages:
                report.add(message)
                view.show(message)
    except InvalidRequest as error:
        raise in_options(error, spec_in_file=spec_file is not None) from None
    view.conclude(report.require_complete())
    return ExitCode.OK if report.accepted else ExitCode.FAILED
