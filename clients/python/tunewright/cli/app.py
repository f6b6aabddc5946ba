"""The command line, put together: commands, exit codes, errors.

No exception of ours reaches the shell as a traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import typer

import tunewright
from tunewright.cli import data, fleet, hyperparameters, jobs, recipes
from tunewright.cli.doctor.command import doctor
from tunewright.cli.exits import CommandError, ExitCode, exit_code_of, report
from tunewright.cli.local import demo, up
from tunewright.cli.options import Address, AsJson, client_for
from tunewright.cli.output import note, say
from tunewright.errors import ApiError, TunewrightError

app = typer.Typer(
    name="tunewright",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune models on your own machines.",
)
app.command()(up.up)
app.command()(demo.demo)
app.command()(doctor)
app.command("hyperparameters")(hyperparameters.show)
app.add_typer(jobs.app, name="jobs")
app.add_typer(data.app, name="data")
app.add_typer(recipes.app, name="recipes")
app.add_typer(fleet.trainers_app, name="trainers")
app.add_typer(fleet.system_app, name="system")


@app.command()
def version(as_json: AsJson = False, address: Address = None) -> None:
    """Print the client's version, and the scheduler's version if --address is given."""
    served = ""
    if address is not None:
        try:
            with client_for(address) as client:
                served = client.endpoints().version
        except ApiError as error:
            note(f"scheduler: {error}")
    if as_json:
        say(f'{{"client": "{tunewright.__version__}", "scheduler": "{served}"}}')
        return
    say(f"tunewright {tunewright.__version__}" + (f", scheduler {served}" if served else ""))


def run(argv: Sequence[str]) -> int:
    """Runs a command line and returns its exit code."""
    as_json = "--json" in argv
    try:
        code = app(args=list(argv), prog_name="tunewright", standalone_mode=False)
    except TunewrightError as error:
        report(error, as_json)
        return exit_code_of(error)
    except typer.TyperException as error:
        return _usage(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`). Python would complain once more at its exit.
        sys.stdout = None
        return 128 + signal.SIGPIPE
    return int(code or ExitCode.OK)


def _usage(error: typer.TyperException, as_json: bool) -> int:
    told = error.format_message()
    if not told:  # help was asked for by giving no arguments
        return ExitCode.USAGE
    report(CommandError(" ".join(told.split())), as_json)
    context = getattr(error, "ctx", None)
    if context is not None and not as_json:
        note(f"see: {context.command_path} --help")
    return ExitCode.USAGE
