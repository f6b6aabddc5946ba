"""`tunewright recipes ...`: inspect, store and remove recipes.

Thin: the service judges what a recipe says. Jobs are made from one with `jobs create --recipe`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli.exits import CommandError
from tunewright.cli.options import Address, AsJson, client_for
from tunewright.cli.output import json_line, print_fields, print_table, say
from tunewright.v1 import recipe_service_pb2
from tunewright.wire.times import moment

app = typer.Typer(
    no_args_is_help=True, help="Inspect and store recipes: named, versioned job specs."
)

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of the recipe, such as llm-swift.")
]
RecipeFile = Annotated[Path, typer.Argument(metavar="FILE", help="YAML file with the recipe.")]
RecipeId = Annotated[
    str | None,
    typer.Option("--name", help="Name of the recipe. Default: the file name without .yaml."),
]


@app.command("list")
def list_recipes(as_json: AsJson = False, address: Address = None) -> None:
    """List recipes by name."""
    with client_for(address) as client:
        found = list(client.recipes.list())
    if as_json:
        for recipe in found:
            say(json_line(recipe))
        return
    header = ("RECIPE", "VERSION", "REQUIRED", "DESCRIPTION")
    print_table(header, [_row(recipe) for recipe in found])


@app.command()
def show(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of the recipe. NAME@N selects version N.")
    ],
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print only the YAML text, for editing.")
    ] = False,
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Show one recipe: required fields, optional fields and the full text."""
    with client_for(address) as client:
        found = client.recipes.get(recipe)
    if as_json:
        say(json_line(found))
    elif yaml:
        say(found.yaml.rstrip("\n"))
    else:
        print_fields(_page(found))
        say()
        say(found.yaml.rstrip("\n"))


@app.command()
def create(
    file: RecipeFile,
    name: RecipeId = None,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Check the recipe without storing it.")
    ] = False,
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Store a new recipe."""
    text = _text_in(file)
    with client_for(address) as client:
        made = client.recipes.create(name or file.stem, text, validate_only=validate_only)
    if as_json:
        say(json_line(made))
    else:
        say(f"{made.name}  valid, nothing was stored" if validate_only else _answer(made))


@app.command()
def update(
    file: RecipeFile,
    name: RecipeId = None,
    version: Annotated[
        int,
        typer.Option(
            min=0, help="Fail unless this is still the latest version. 0 skips the check."
        ),
    ] = 0,
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Store a new version of a recipe."""
    text = _text_in(file)
    with client_for(address) as client:
        made = client.recipes.update(name or file.stem, text, version=version)
    say(json_line(made) if as_json else _answer(made))


@app.command()
def delete(recipe: RecipeName, as_json: AsJson = False, address: Address = None) -> None:
    """Remove all versions of a recipe. Jobs created from it keep their spec."""
    with client_for(address) as client:
        client.recipes.delete(recipe)
    if as_json:
        say("{}")
    else:
        say(f"recipes/{recipe.removeprefix('recipes/')}  removed")


def _text_in(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{file}: is not UTF-8") from None


def _answer(recipe: recipe_service_pb2.Recipe) -> str:
    return f"{recipe.name}  version {recipe.version}"


def _row(recipe: recipe_service_pb2.Recipe) -> tuple[str, ...]:
    return (
        recipe.name.removeprefix("recipes/"),
        f"{recipe.version} (shipped)" if recipe.read_only else str(recipe.version),
        ", ".join(recipe.required_fields),
        recipe.description,
    )


def _page(recipe: recipe_service_pb2.Recipe) -> Iterator[tuple[str, str]]:
    yield "recipe", recipe.name
    yield "version", str(recipe.version)
    yield "description", recipe.description
    yield "kept by", "Tunewright: read-only" if recipe.read_only else ""
    yield "made", _when(recipe, "create_time")
    yield "changed", _when(recipe, "update_time")
    for index, path in enumerate(recipe.required_fields):
        yield "" if index else "must be given", path
    for index, field in enumerate(recipe.overridable_fields):
        yield "" if index else "may be given", f"{field.path}{_range(field)}"


def _range(field: recipe_service_pb2.OverridableField) -> str:
    if field.HasField("minimum") and field.HasField("maximum"):
        return f"  {field.minimum:g} to {field.maximum:g}"
    if field.HasField("minimum"):
        return f"  at least {field.minimum:g}"
    return f"  at most {field.maximum:g}" if field.HasField("maximum") else ""


def _when(recipe: recipe_service_pb2.Recipe, field: str) -> str:
    if not recipe.HasField(field):  # type: ignore[arg-type] # one of its own time fields
        return ""
    return f"{moment(getattr(recipe, field)).astimezone():%Y-%m-%d %H:%M:%S}"
