"""YAML as recipes are written in: plain values, every key once.

Owns the limits of a text from a stranger: its size, its depth, how many values it
has, no aliases (a few lines of them can stand for gigabytes), no tags. Values are
read as YAML 1.2 has them: 1e-4 is a number, and only true and false are truth values.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

YAML_BYTES_MAX = 64 * 1024
DEPTH_MAX = 16
NODES_MAX = 4096
"""More than a spec with every list filled to its end has; 64 KiB of "1," take seconds."""

_TAG = "tag:yaml.org,2002:"
# https://yaml.org/spec/1.2.2/#103-core-schema, less octal and hexadecimal numbers.
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf)|\.nan",
        "-+.0123456789",
    ),
)


class BadYaml(ValueError):
    """The text cannot be read; one sentence says why, and in which line."""


def read_yaml(text: str) -> object:
    """What the text holds: mappings, lists, texts, numbers, truth values, None.

    Raises BadYaml.
    """
    size = len(text.encode())
    if size > YAML_BYTES_MAX:
        raise BadYaml(f"must be at most {YAML_BYTES_MAX} bytes long; it has {size}")
    try:
        _refuse_bombs(text)
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader with fewer types
    except yaml.MarkedYAMLError as error:
        raise BadYaml(_sentence(error)) from None
    except yaml.YAMLError as error:  # a character that no YAML may have
        raise BadYaml(" ".join(str(error).split())) from None
    except BadYaml:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise BadYaml(f"has a value that cannot be read: {error}") from None


def _refuse_bombs(text: str) -> None:
    """Before anything is built: building is what a bomb goes off at."""
    depth = nodes = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.AliasEvent):
            raise BadYaml(f"{_line(event.start_mark)}: aliases (*{event.anchor}) cannot be used")
        tag = getattr(event, "tag", None)
        if tag is not None:
            told = tag.replace(_TAG, "!!")[:80]
            raise BadYaml(f"{_line(event.start_mark)}: tags ({told}) cannot be used")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        if nodes > NODES_MAX:
            raise BadYaml(f"{_line(event.start_mark)}: has more than {NODES_MAX} values")
        if depth > DEPTH_MAX:
            raise BadYaml(f"{_line(event.start_mark)}: is nested more than {DEPTH_MAX} deep")


def _sentence(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "cannot be read"
    return f"{_line(mark)}: {problem}" if mark else problem


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}"


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses a key that stands twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or not isinstance(key, str):
                raise _problem(f"a key must be text; got {str(key)[:40]!r}", key_node)
            if key in seen:
                raise _problem(f"{key[:80]!r} stands here for the second time", key_node)
            seen.add(key)
        made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return made


def _problem(told: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, told, node.start_mark)


for _name, _pattern, _first in _SCALARS:
    # "\0" stands for the empty scalar, which PyYAML looks up under "".
    _Loader.add_implicit_resolver(
        _TAG + _name,
        re.compile(f"^(?:{_pattern})$"),
        ["" if one == "\0" else one for one in _first],
    )
