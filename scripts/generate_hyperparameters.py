"""Generates clients/python/tunewright/hyperparameters.json, or checks that it is up to date.

The SDK and the command line may not import the server, which owns bounds and
defaults (`svckit.spec`); the contract owns the words (`spec.proto`). This puts
both into one file that travels with the SDK: it is there without a service,
and in any version of it. With `--check` nothing is written; the exit code is 1
when the committed file differs.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as bounds
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc
from pydantic import ValidationError

from svckit.spec import JobSpec
from svckit.spec.enums import Backend
from svckit.spec.model import Hyperparameters
from svckit.swift.argv import MAJORS, SwiftRun, swift_argv

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
TARGET = ROOT / "clients" / "python" / "tunewright" / "hyperparameters.json"

# Where these end, there is no bound that a person could meet.
_NO_BOUND = {2**31 - 1, 2**63 - 1}
_TYPES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_DEFAULT = re.compile(r"\s*Default:?\s+(?P<value>.*?)\.(?=\s|$)", re.DOTALL)
_BACKEND = re.compile(r"BACKEND_(?P<name>[A-Z]+)")
# Ranges and choices stand in columns of their own.
_RANGE = re.compile(
    r",\s(?:>=?\s?[\d.]+|in\s[\[(][^\])]*[\])]|\d[\d.]*\sto\s[\d^.]+)|\s\(\"[^)]*\)"
)


def rows() -> list[dict[str, Any]]:
    """One row for each hyperparameter, in the order of the contract."""
    comments = _comments()
    missing = set(Hyperparameters.model_fields) ^ set(comments)
    if missing:
        raise SystemExit(f"spec.proto and svckit.spec.model differ: {', '.join(sorted(missing))}")
    return [_row(name, comment) for name, comment in comments.items()]


def _row(name: str, comment: str) -> dict[str, Any]:
    field = Hyperparameters.model_fields[name]
    kind, found = _kind_and_bounds(field.annotation, field.metadata)
    row: dict[str, Any] = {"name": name, "type": kind, **found}
    default = field.default
    row["default"] = list(default) if isinstance(default, tuple) else default
    if default is None:
        row["default_text"] = _default_text(name, comment)
    row["backends"] = list(_backends(name))
    row["description"] = _description(comment)
    return row


def _comments() -> dict[str, str]:
    """The comment of each field of Hyperparameters, in one line."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "spec.binpb"
        code = protoc.main(
            [
                "protoc",
                f"--proto_path={PROTOS}",
                f"--proto_path={files('grpc_tools').joinpath('_proto')}",
                f"--descriptor_set_out={out}",
                "--include_source_info",
                str(PROTOS / "tunewright" / "v1" / "spec.proto"),
            ]
        )
        if code != 0:
            raise SystemExit(code)
        [file] = FileDescriptorSet.FromString(out.read_bytes()).file
    index = next(n for n, one in enumerate(file.message_type) if one.name == "Hyperparameters")
    by_path = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
    # 4: messages of a file; 2: fields of a message (descriptor.proto).
    return {
        field.name: " ".join(by_path[(4, index, 2, number)].split())
        for number, field in enumerate(file.message_type[index].field)
    }


def _kind_and_bounds(annotation: Any, metadata: Any) -> tuple[str, dict[str, Any]]:
    """The type's word, and range or choices, of an annotation with its metadata."""
    if get_origin(annotation) is Annotated:
        return _kind_and_bounds(get_args(annotation)[0], [*annotation.__metadata__, *metadata])
    if get_origin(annotation) in (Union, UnionType):
        [inner] = [one for one in get_args(annotation) if one is not type(None)]
        return _kind_and_bounds(inner, metadata)
    if get_origin(annotation) is Literal:
        return "string", {"choices": list(get_args(annotation))}
    if get_origin(annotation) is tuple:
        return "strings", {}
    return _TYPES[annotation], dict(_bounds(metadata))


def _bounds(metadata: Any) -> Iterator[tuple[str, float]]:
    for one in _flat(metadata):
        for key, word in (("ge", "minimum"), ("le", "maximum")):
            value = getattr(one, key, None)
            if value is not None and value not in _NO_BOUND:
                yield word, value
        for key, word in (("gt", "above"), ("lt", "below")):
            value = getattr(one, key, None)
            if value is not None:
                yield word, value


def _flat(metadata: Any) -> Iterator[Any]:
    for one in metadata:
        if isinstance(one, bounds.Ge | bounds.Gt | bounds.Le | bounds.Lt | bounds.Interval):
            yield one
        else:
            yield from _flat(getattr(one, "metadata", ()))


def _default_text(name: str, comment: str) -> str:
    """What the contract says of a default that depends on something else."""
    match = _DEFAULT.search(comment)
    if match:
        return _BACKEND.sub(lambda word: word["name"].lower(), match["value"])
    if "Absent means" in comment:
        return comment.rpartition("Absent means ")[2].rstrip(".")
    raise SystemExit(f"spec.proto: {name} does not say its default")


def _description(comment: str) -> str:
    """The comment's first sentence, without what stands in other columns."""
    first = re.split(r"(?<=\.)\s+(?=[A-Z])", comment, maxsplit=1)[0]
    return _RANGE.sub("", first).rstrip(".")


def _backends(name: str) -> Iterator[str]:
    """QLoRA trains by every one of them; ms-swift by those that change its command."""
    yield Backend.QLORA.short_name
    if any(_changes_command(name, value) for value in _other_values(name)):
        yield Backend.SWIFT.short_name


def _changes_command(name: str, value: object) -> bool:
    plain, changed = _spec({}), _spec({name: value})
    run = SwiftRun(output_dir="/out")
    return changed is not None and any(
        swift_argv(changed, run, major) != swift_argv(plain, run, major)
        for major in MAJORS
        if plain is not None
    )


def _spec(values: dict[str, object]) -> JobSpec | None:
    try:
        return JobSpec.model_validate(
            {
                "model": {"name": "/m"},
                "train_data": [{"source": "/d.jsonl"}],
                "eval_data": [{"source": "/e.jsonl"}],
                "backend": "swift",
                "output_dir": "o",
                "hyperparameters": values,
            }
        )
    except ValidationError:
        return None


def _other_values(name: str) -> Iterator[object]:
    """Values of every type; those that do not fit are refused by the spec."""
    field = Hyperparameters.model_fields[name]
    kind, found = _kind_and_bounds(field.annotation, field.metadata)
    if kind == "boolean":
        yield from (True, False)
    elif kind == "strings":
        yield ["q_proj"]
    elif kind == "string":
        yield from found["choices"]
    else:
        yield from (1, 2, 9, 0.5)


def content() -> str:
    """The file as it should be."""
    return json.dumps(rows(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Writes the file, or with --check compares it; returns the exit code."""
    fresh = content()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(fresh, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != fresh:
        print(f"out of date, run 'make stubs': {TARGET.relative_to(ROOT)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
