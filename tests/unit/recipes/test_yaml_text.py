"""What may stand in a recipe's text, and what a stranger's text cannot do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svckit.recipes.yaml_text import DEPTH_MAX, YAML_BYTES_MAX, BadYaml, read_yaml

BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-2.5E+3", -2500.0),
        (".5", 0.5),
        ("2048", 2048),
        ("-1", -1),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("010", "010"),
        ("2026-01-31", "2026-01-31"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("~", None),
        ("", None),
        ("'1'", "1"),
    ],
)
def test_a_value_is_read_as_yaml_1_2_has_it(text, value):
    found = read_yaml(f"key: {text}")

    assert found == {"key": value}
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: {c: 2, c: 3}", "line 2: 'c' stands here for the second time"),
        ("a: 1\n1: 2", "line 2: a key must be text; got '1'"),
        (BOMB, "line 2: aliases (*a) cannot be used"),
        ("a: &x 1\nb: {<<: *x}", "line 2: aliases (*x) cannot be used"),
        ("a: !!python/object/apply:os.getcwd []", "line 1: tags (!!python/object/apply:os.getcwd)"),
        ("a: !!int 1", "line 1: tags (!!int) cannot be used"),
        ("a: 1\nb: !!str 1", "line 2: tags (!!str) cannot be used"),
        ("a: !!set {b, c}", "line 1: tags (!!set) cannot be used"),
        ("a: !!binary aGk=", "line 1: tags (!!binary) cannot be used"),
        ("a: !!timestamp 2026-01-31", "line 1: tags (!!timestamp) cannot be used"),
        ("!!map {a: 1}", "line 1: tags (!!map) cannot be used"),
        ("a: ! 1", "line 1: tags (!) cannot be used"),
        ("a: !own [1]", "line 1: tags (!own) cannot be used"),
        ("a: " + "9" * 5000, "has a value that cannot be read"),
        ("[" * 10_000, f"line 1: is nested more than {DEPTH_MAX} deep"),
        ("a: [" + "1," * 5000 + "]", "line 1: has more than 4096 values"),
        ("a: 1\n---\nb: 2", "line 2: but found another document"),
        ("a: [1", "line 1: expected ',' or ']'"),
        ("a: \x07", "special characters are not allowed"),
        ("a: " + "ü" * YAML_BYTES_MAX, "must be at most 65536 bytes long; it has 131075"),
    ],
)  # fmt: skip
def test_a_text_that_no_recipe_needs_is_refused(text, words):
    with pytest.raises(BadYaml) as caught:
        read_yaml(text)

    assert words in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    told = "read"
    try:
        read_yaml(text)
    except BadYaml as refused:
        told = str(refused)

    assert told
