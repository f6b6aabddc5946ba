"""`tunewright hyperparameters`: what `jobs create --set` takes. Needs no service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import typer

from tunewright.cli.exits import CommandError
from tunewright.cli.options import AsJson
from tunewright.cli.output import print_fields, say
from tunewright.hyperparameters import Hyperparameter, hyperparameters
from tunewright.wire.meant import did_you_mean


def show(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show only this hyperparameter.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the hyperparameters of a job, with type, range and default."""
    found = list(hyperparameters().values()) if name is None else [_named(name)]
    if as_json:
        for one in found:
            say(json.dumps(dict(one.record), ensure_ascii=False))
    elif name is None:
        for one in found:
            say(f"{one.name}  {_summary(one)}")
            say(f"    {one.description}")
    else:
        print_fields(_page(found[0]))


def _named(name: str) -> Hyperparameter:
    known = hyperparameters()
    if name in known:
        return known[name]
    meant = did_you_mean(name, known)
    hint = f"; did you mean {meant!r}?" if meant else ""
    raise CommandError(f"no such hyperparameter: {name[:80]!r}{hint}")


def _summary(one: Hyperparameter) -> str:
    """ "number, above 0, at most 10; default: 0.0002; qlora, swift"."""
    if "choices" in one.record:
        kind = f"one of {one.range_text}"
    else:
        kind = ", ".join(filter(None, (one.type_text, one.range_text)))
    return f"{kind}; default: {one.default_text}; {', '.join(one.backends)}"


def _page(one: Hyperparameter) -> Iterator[tuple[str, str]]:
    yield "name", one.name
    yield "description", one.description
    yield "type", one.type_text
    yield "one of" if "choices" in one.record else "range", one.range_text
    yield "default", one.default_text
    yield "backends", ", ".join(one.backends)
    yield "set it with", f"tunewright jobs create ... --set {one.name}={_example(one)}"


def _example(one: Hyperparameter) -> str:
    """Its default, or a value that it may have."""
    if one.record["default"] is not None:
        return one.default_text
    return "true" if one.record["type"] == "boolean" else str(one.record.get("minimum", 1))
