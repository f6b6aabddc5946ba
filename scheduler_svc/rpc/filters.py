"""ListJobs filters and orders: from the caller's text to the domain's query.

The grammar is filter.lark, a subset of AIP-160. Refuses, with the position and
what was expected there, whatever is not in it; and values that do not fit
their field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib import resources
from types import MappingProxyType

from lark import Lark, Token, Transformer, UnexpectedInput

from scheduler_svc.domain import query
from scheduler_svc.domain.states import JobState
from scheduler_svc.rpc.labels import LABEL_KEY
from svckit.spec import Backend, ModelKind

FILTER_CHARACTERS_MAX = 4096
# A database refuses expressions that are nested much deeper than any person's.
DEPTH_MAX = 20
COMPARISONS_MAX = 100
_INT64_BOUND = 2**63

# Fields whose values are names of an enum: which, and what its proto names begin with.
_CHOICES: Mapping[query.Field, tuple[type[StrEnum], str]] = MappingProxyType(
    {
        query.Field.STATE: (JobState, "JOB_STATE_"),
        query.Field.BACKEND: (Backend, "BACKEND_"),
        query.Field.MODEL_KIND: (ModelKind, "MODEL_KIND_"),
    }
)
# Fields whose values are resource names: the collection, which may be left out.
_COLLECTIONS: Mapping[query.Field, str] = MappingProxyType(
    {
        query.Field.TRAINER: "trainers/",
        query.Field.RETRY_OF: "jobs/",
        query.Field.RECIPE: "recipes/",
    }
)

_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "FIELD": "a field",
        "OPERATOR": "an operator (= != < <= > >= :)",
        "QUOTED": "a value",
        "BARE": "a value",
        "_AND": "AND",
        "_OR": "OR",
        "_NOT": "NOT",
        "_MINUS": "'-'",
        "LPAR": "'('",
        "RPAR": "')'",
        "$END": "the end",
    }
)


class BadFilter(ValueError):
    """What is wrong with a filter, and where."""


@dataclass(frozen=True)
class _Part:
    """A parsed piece of a filter, and how large it is."""

    expression: query.Expression
    depth: int = 1
    comparisons: int = 1


def parse_filter(text: str) -> query.Expression | None:
    """The expression that `text` means; None for an empty one. Raises BadFilter."""
    if not text.strip():
        return None
    if len(text) > FILTER_CHARACTERS_MAX:
        raise BadFilter(f"must be at most {FILTER_CHARACTERS_MAX} characters long")
    if "\0" in text:
        raise BadFilter(f"must not contain U+0000, as at position {text.index(chr(0))}")
    try:
        return _part(_PARSER.parse(text)).expression
    except UnexpectedInput as error:
        raise BadFilter(_expectation(text, error)) from None


def parse_order(text: str) -> tuple[query.OrderTerm, ...]:
    """The order that `text` means; the default for an empty one. Raises BadFilter."""
    if not text.strip():
        return query.DEFAULT_ORDER
    terms = tuple(_order_term(part) for part in text[:1024].split(","))
    if len({term.field for term in terms}) != len(terms):
        raise BadFilter("must name each field once")
    return terms


def _order_term(text: str) -> query.OrderTerm:
    words = text.split()
    fields = [field.value for field in query.OrderField]
    if not words or words[0] not in fields:
        found = words[0] if words else ""
        raise BadFilter(f"expected one of {', '.join(fields)}; got {found[:40]!r}")
    if words[1:] not in ([], ["asc"], ["desc"]):
        raise BadFilter(f"after {words[0]!r}: expected 'desc' or a comma; got {words[1][:40]!r}")
    return query.OrderTerm(query.OrderField(words[0]), descending=words[1:] == ["desc"])


class _Build(Transformer[Token, object]):
    """Called by the parser itself, so that no depth of input meets Python's recursion limit."""

    def conjunction(self, parts: list[object]) -> _Part:
        return _joined([_part(part) for part in parts], query.And)

    def disjunction(self, parts: list[object]) -> _Part:
        return _joined([_part(part) for part in parts], query.Or)

    def negation(self, parts: list[object]) -> _Part:
        inner = _part(parts[0])
        return _bounded(query.Not(inner.expression), inner.depth + 1, inner.comparisons)

    def restriction(self, parts: list[object]) -> _Part:
        field, operator, value = (str(part) for part in parts)
        position = getattr(parts[0], "start_pos", 0)
        try:
            return _Part(_comparison(field, query.Operator(operator), value))
        except BadFilter as error:
            raise BadFilter(f"at position {position}: {error}") from None

    def quoted(self, parts: list[object]) -> str:
        return _unescaped(str(parts[0])[1:-1])

    def bare(self, parts: list[object]) -> str:
        return str(parts[0])


def _part(value: object) -> _Part:
    assert isinstance(value, _Part), value
    return value


def _joined(parts: Sequence[_Part], kind: type[query.And] | type[query.Or]) -> _Part:
    return _bounded(
        kind(tuple(part.expression for part in parts)),
        max(part.depth for part in parts) + 1,
        sum(part.comparisons for part in parts),
    )


def _bounded(expression: query.Expression, depth: int, comparisons: int) -> _Part:
    if depth > DEPTH_MAX:
        raise BadFilter(f"is nested more than {DEPTH_MAX} deep")
    if comparisons > COMPARISONS_MAX:
        raise BadFilter(f"has more than {COMPARISONS_MAX} comparisons")
    return _Part(expression, depth, comparisons)


def _comparison(name: str, operator: query.Operator, text: str) -> query.Comparison:
    if name.startswith("labels."):
        key = name.removeprefix("labels.")
        if not LABEL_KEY.fullmatch(key):
            raise BadFilter(f"{key[:80]!r} is not a label key")
        return query.Comparison(query.Label(key), operator, text)
    try:
        field = query.Field(name)
    except ValueError:
        known = ", ".join(field.value for field in query.Field)
        raise BadFilter(f"unknown field {name[:40]!r}; there are {known}, labels.<key>") from None
    _check_operator(field, operator)
    return query.Comparison(field, operator, _value(field, operator, text))


def _check_operator(field: query.Field, operator: query.Operator) -> None:
    is_text = query.FIELD_TYPES[field] is str
    if operator is query.Operator.CONTAINS and not is_text:
        raise BadFilter(f"':' asks what a text contains; {field.value} is none")
    equalities = (query.Operator.EQUAL, query.Operator.NOT_EQUAL, query.Operator.CONTAINS)
    if field in _CHOICES and operator not in equalities:
        raise BadFilter(f"{field.value} has no order; use =, != or ':'")


def _value(field: query.Field, operator: query.Operator, text: str) -> query.Value:
    if query.FIELD_TYPES[field] is int:
        return _integer(field, text)
    if query.FIELD_TYPES[field] is datetime:
        return _time(field, text)
    if operator is query.Operator.CONTAINS:
        return text.upper() if field in _CHOICES else text
    if field in _CHOICES:
        return _choice(*_CHOICES[field], text)
    if field is query.Field.RECIPE and "@" not in text:
        name = text[:80].removeprefix("recipes/")
        raise BadFilter(
            f"a job's recipe has a version, as in {name}@1; "
            f'recipe:"recipes/{name}@" finds them all'
        )
    collection = _COLLECTIONS.get(field, "")
    return text if text.startswith(collection) else collection + text


def _integer(field: query.Field, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise BadFilter(f"{field.value} needs a whole number; got {text[:40]!r}") from None
    if not -_INT64_BOUND <= number < _INT64_BOUND:
        raise BadFilter(f"{field.value}: {text[:40]} is too large a number")
    return number


def _time(field: query.Field, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        # A time without a zone is read as UTC, as everything else here is.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadFilter(
            f'{field.value} needs a time like "2026-01-31T12:00:00Z"; got {text[:40]!r}'
        ) from None


def _choice(kind: type[StrEnum], prefix: str, text: str) -> str:
    """The proto name of "RUNNING", "running" or "JOB_STATE_RUNNING"."""
    short = text.upper().removeprefix(prefix)
    names = [member.value.removeprefix(prefix) for member in kind]
    if short not in names:
        raise BadFilter(f"{text[:40]!r} is none of {', '.join(names)}")
    return prefix + short


def _unescaped(text: str) -> str:
    characters = iter(text)
    return "".join(next(characters) if one == "\\" else one for one in characters)


def _expectation(text: str, error: UnexpectedInput) -> str:
    """ "at position 7: expected AND, OR or the end; got 'x'"."""
    allowed = getattr(error, "accepts", None) or getattr(error, "allowed", None)
    allowed = allowed or getattr(error, "expected", None) or ()
    token = getattr(error, "token", None)
    ended = token is not None and token.type == "$END"
    place = len(text) if ended else getattr(error, "pos_in_stream", None) or 0
    words = list(dict.fromkeys(word for name, word in _EXPECTED.items() if name in allowed))
    found = "the end" if ended else repr(text[place : place + 20])
    return f"at position {place}: expected {' or '.join(words) or 'something else'}; got {found}"


_PARSER = Lark(
    resources.files(__package__).joinpath("filter.lark").read_text(encoding="utf-8"),
    parser="lalr",
    transformer=_Build(),
)
