"""Options that many commands share, and the client they lead to."""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.client import Client
from tunewright.connection import DEFAULT_ADDRESS

# One call of a command, retries included: long enough for a service that
# restarts, short enough for a person who mistyped the address.
CALL_SECONDS = 8.0

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="TUNEWRIGHT_ADDRESS",
        metavar="HOST:PORT",
        help=f"Address of the scheduler. Default: {DEFAULT_ADDRESS}.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="Name or ID of the job.")]
TrainerName = Annotated[str, typer.Argument(metavar="TRAINER", help="Name of the trainer.")]


def client_for(address: str | None, seconds: float = CALL_SECONDS) -> Client:
    """A client with the patience of a person; token and certificate come from the environment."""
    return Client(address, timeout=seconds)
