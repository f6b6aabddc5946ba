"""Help texts: every command and option has one, in the plain words of docs and messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from tunewright.cli.app import app

# Words that read as no help text should (a text: a string; goes on: continues).
ODD = re.compile(
    r"\b(told|tells|goes on|go on|a text|texts|nobody|somebody|whoever|anew|hand in|look at|"
    r"so many|for people|runs on|steer)\b",
    re.IGNORECASE,
)


def commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All commands below a group, with what is typed for each."""
    yield name, group
    for word, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {word}")


ALL = list(commands(typer.main.get_command(app), "tunewright"))


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_a_command_says_what_it_does(name: str, command: Any) -> None:
    said = command.help or ""

    assert re.match(r"[A-Z].*\.", said), name
    assert not ODD.search(said), said


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_option_says_what_it_means(name: str, command: Any) -> None:
    for parameter in command.params:
        said = getattr(parameter, "help", None) or ""

        assert said, f"{name} {parameter.name} has no help"
        assert not ODD.search(said), f"{name} {parameter.name}: {said}"
