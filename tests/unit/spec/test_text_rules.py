"""Which folders, models and data sets a spec may name, and what a caller reads if not."""

import pytest

from svckit.spec import text_rules


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "required"),
        ("..", "'..'"),
        ("a/../b", "'..'"),
        ("./a", "'.'"),
        ("/", "absolute"),
        ("/a", "absolute"),
        ("a//b", "empty component"),
        ("a\\b", "backslash"),
        ("a\0b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\x7fb", "U+007F"),
        (".staging", "reserved"),
        ("a/.hidden", "reserved"),
        ("n" * 256, "255 bytes"),
        ("ü" * 128, "255 bytes"),
        ("a/" * 600 + "b", "1024 bytes"),
    ],
)
def test_an_output_dir_is_refused_with_the_rule_it_breaks(text, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are checked below
        text_rules.output_dir(text)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("one", "one"),
        ("a/b", "a/b"),
        ("a/b/", "a/b"),
        ("a b/ü", "a b/ü"),
        ("n" * 255, "n" * 255),
        ("x..y", "x..y"),
    ],
)
def test_an_output_dir_has_one_spelling(text, accepted):
    assert text_rules.output_dir(text) == accepted


@pytest.mark.parametrize("text", ["Qwen/Qwen3-0.6B", "gpt2", "/models/tiny", "/"])
def test_a_model_is_a_hub_id_or_an_absolute_folder(text):
    assert text_rules.model_name(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "required"),
        ("./tiny", "hub id"),
        ("../tiny", "hub id"),
        ("~/tiny", "hub id"),
        ("a/b/c", "hub id"),
        ("a..b", "hub id"),
        ("/models/../etc", "'..'"),
        ("/models/\0", "U+0000"),
    ],
)
def test_a_relative_model_folder_is_refused_with_a_hint(text, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are checked below
        text_rules.model_name(text)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("/data/a.json", ("/data/a.json", None)),
        ("/data/a.json#500", ("/data/a.json", 500)),
        ("org/set#1", ("org/set", 1)),
        ("/data/#1/a.json", ("/data/#1/a.json", None)),
        ("/data/a#b.json", ("/data/a#b.json", None)),
        ("/data/a#b.json#5", ("/data/a#b.json", 5)),
        ("/data/a;b,c=d.json", ("/data/a;b,c=d.json", None)),
    ],
)
def test_a_data_source_may_end_in_a_number_of_samples(text, split):
    assert text_rules.data_source(text) == text
    assert text_rules.split_samples(text) == split


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "required"),
        ("/a.json#0", "'#0'"),
        ("/a.json#-1", "'#-1'"),
        ("/a.json#", "'#'"),
        ("/a.json#1.5", "'#1.5'"),
        ("train.jsonl", "absolute path"),
        ("data/train.json#5", "absolute path"),
        ("org/a#b.json", "'#b.json'"),
        ("rows.jsonl.gz", "absolute path"),
        ("/data/../etc/passwd", "'..'"),
    ],
)
def test_a_bad_data_source_is_refused(text, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are checked below
        text_rules.data_source(text)

    assert words in str(caught.value)
