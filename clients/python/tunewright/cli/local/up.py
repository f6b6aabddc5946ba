"""`tunewright up`: the three services on this machine, until Ctrl-C."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

import tunewright
from tunewright.cli.exits import CommandError, ExitCode
from tunewright.cli.local.layout import LocalOptions, StateFolder, swift_python_nearby
from tunewright.cli.local.signals import stopping_signals
from tunewright.cli.local.stack import Interrupted, LocalStack
from tunewright.cli.options import AsJson
from tunewright.cli.output import note, print_fields, say

DEFAULT_STATE = Path(".tunewright")

Roots = Annotated[
    list[Path] | None,
    typer.Option(help="Folder that jobs may read, besides the current one. Repeatable."),
]


def up(
    state: Annotated[
        Path, typer.Option(help="Folder for databases, logs, checkpoints and results.")
    ] = DEFAULT_STATE,
    model_root: Roots = None,
    data_root: Roots = None,
    cpu_slots: Annotated[
        int, typer.Option(min=0, help="Number of CPU jobs that may run at once.")
    ] = 1,
    name: Annotated[str, typer.Option(help="Name of the trainer.")] = "local",
    swift_python: Annotated[
        Path | None,
        typer.Option(help="Python interpreter with ms-swift. Default: .venv-swift, if present."),
    ] = None,
    allow_hub: Annotated[
        bool, typer.Option("--allow-hub", help="Allow models and data from a hub.")
    ] = False,
    scheduler_listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address of the scheduler.")
    ] = "127.0.0.1:7400",
    monitor_listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address of the monitor.")
    ] = "127.0.0.1:7401",
    trainer_listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address of the trainer.")
    ] = "127.0.0.1:7402",
    as_json: AsJson = False,
) -> ExitCode:
    """Run the scheduler, monitor and trainer on this machine until Ctrl-C.

    Jobs that are training continue without the services. Port 0 selects a free port.
    """
    here = Path.cwd()
    _require_folders("--model-root", model_root or ())
    _require_folders("--data-root", data_root or ())
    if swift_python is not None and not swift_python.is_file():
        raise CommandError(f"--swift-python {swift_python}: no such file")
    options = LocalOptions(
        scheduler_listen,
        monitor_listen,
        trainer_listen,
        name,
        [here, *(root.absolute() for root in model_root or ())],
        [here, *(root.absolute() for root in data_root or ())],
        cpu_slots,
        swift_python.absolute() if swift_python else swift_python_nearby(),
        allow_hub,
    )
    return _serve(StateFolder(state.absolute()), options, as_json)


def _require_folders(option: str, folders: Iterable[Path]) -> None:
    """Refuses a missing root here: otherwise the first job that reads it would find out."""
    for folder in folders:
        if not folder.is_dir():
            problem = "is not a folder" if folder.exists() else "no such folder"
            raise CommandError(f"{option} {folder}: {problem}")


def _serve(folder: StateFolder, options: LocalOptions, as_json: bool) -> ExitCode:
    with stopping_signals() as stopping:
        stack = LocalStack(folder, options, stopping, note)
        try:
            note("Starting scheduler, monitor and trainer ...")
            stack.start()
            if as_json:
                say(json.dumps(stack.addresses() | {"state": str(folder.path)}))
            else:
                _welcome(stack, folder, options)
            stack.tend(stopping)
            farewell(stack, folder)
        except Interrupted:
            note("Stopped before everything was up.")
            return ExitCode.INTERRUPTED
        finally:
            stack.stop()
    note("Stopped.")
    return ExitCode.OK


def farewell(stack: LocalStack, folder: StateFolder) -> None:
    """Says which jobs continue without the services."""
    going_on = stack.jobs_on_trainers()
    note("\nStopping the services ...")
    if going_on:
        names = ", ".join(job.id for job in going_on)
        note(f"Still training without them: {names}")
        again = os.path.relpath(folder.path)
        note(f"The next `tunewright up --state {again}` takes them back.")


def _welcome(stack: LocalStack, folder: StateFolder, options: LocalOptions) -> None:
    say(f"Tunewright {tunewright.__version__} is up.\n")
    print_fields(
        [
            ("scheduler", f"{stack.address}   (clients need only this one)"),
            ("monitor", stack.addresses()["monitor"]),
            ("trainer", f"{stack.addresses()['trainer']}   ({options.trainer_name})"),
            ("results", str(folder.outputs)),
            ("logs", str(folder.path / "logs")),
            ("may read", ", ".join(map(str, dict.fromkeys(_roots(options))))),
        ],
        indent="  ",
    )
    default = stack.address == LocalOptions().scheduler_listen
    prefix = "" if default else f"TUNEWRIGHT_ADDRESS={stack.address} "
    say("\nSubmit a job from another terminal:")
    say(f"  {prefix}tunewright jobs create --model MODEL --data FILE --watch   (--cpu: no GPU)")
    say("\nCtrl-C stops the services. Jobs that are training continue and are taken back.")


def _roots(options: LocalOptions) -> list[Path]:
    return [*options.model_roots, *options.data_roots]
