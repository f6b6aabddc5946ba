"""Rows in segments: texts that add up to the row's own, whatever the tokenizer does at a border."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from trainer_svc.child.swift.inside.row_segments import (
    EDGE_TOKENS,
    SEGMENTS_MAX,
    TEXT_BYTES_MAX,
    Segment,
    segments_of,
)

TEXT = "Où est-ce ? 你好, 日本語! 👩‍🚀 é\u0301 नमस्ते\n\tok 🎉🎉 end"


def byte_level() -> Tokenizer:
    """One token a byte: every character beyond ASCII is split."""
    alphabet = {one: at for at, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def metaspace() -> Tokenizer:
    """Words with the space before them, as sentencepiece makes them; the first space is dropped."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer: Any = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"])
    tokenizer.train_from_iterator(["one two three four one two three four"] * 4, trainer)
    return tokenizer


def decoder(tokenizer: Tokenizer) -> Any:
    return lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False)


def texts(segments: Sequence[Segment]) -> list[str]:
    return [segment.text for segment in segments]


def test_any_border_inside_multi_byte_text_leaves_whole_characters() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode(TEXT).ids
    assert len(ids) == len(TEXT.encode())

    for border in range(len(ids) + 1):
        trained = [at >= border for at in range(len(ids))]
        segments = segments_of(ids, trained, decoder(tokenizer))

        assert "".join(texts(segments)) == TEXT, border
        assert not any("\ufffd" in text for text in texts(segments)), border
        assert sum(segment.tokens for segment in segments) == len(ids)


def test_a_split_character_goes_to_the_second_segment() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("aéb").ids

    segments = segments_of(ids, [False, False, True, True], decoder(tokenizer))

    assert segments == [Segment("a", False, 2), Segment("éb", True, 2)]


def test_spaces_before_words_stay_where_they_are() -> None:
    tokenizer = metaspace()
    ids = tokenizer.encode("one two three four").ids
    assert len(ids) == 4

    segments = segments_of(ids, [False, True, True, False], decoder(tokenizer))

    assert texts(segments) == ["one", " two three", " four"]


def test_the_replacement_character_itself_is_a_character() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("a\ufffdb").ids

    segments = segments_of(ids, [True] * 4 + [False], decoder(tokenizer))

    assert texts(segments) == ["a\ufffd", "b"]


def test_many_like_tokens_are_one_repeated_segment() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("ab" + "x" * 9 + "c").ids

    segments = segments_of(ids, [False] * len(ids), decoder(tokenizer))

    assert segments == [
        Segment("ab", False, 2),
        Segment("x", False, 9, repeats=9),
        Segment("c", False, 1),
    ]


def test_like_bytes_that_are_no_character_alone_are_not_repeated() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("a").ids + tokenizer.encode("é").ids[:1] * 9

    segments = segments_of(ids, [True] * len(ids), decoder(tokenizer))

    assert not any(segment.repeats for segment in segments)
    assert sum(segment.tokens for segment in segments) == len(ids)


def test_the_middle_of_a_long_segment_is_omitted() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("ab" * 3000).ids

    first, middle, last = segments_of(ids, [True] * len(ids), decoder(tokenizer))

    assert first.text == last.text == "ab" * (EDGE_TOKENS // 2)
    assert middle == Segment("", True, len(ids) - 2 * EDGE_TOKENS, omitted=True)


def test_more_segments_than_fit_end_in_an_omission() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("ab" * 200).ids

    segments = segments_of(ids, [bool(at % 2) for at in range(len(ids))], decoder(tokenizer))

    assert len(segments) == SEGMENTS_MAX
    assert [segment.omitted for segment in segments].count(True) == 1
    assert segments[-1].omitted
    assert sum(segment.tokens for segment in segments) == len(ids)


def test_text_is_bounded_also_where_a_token_is_a_long_text() -> None:
    ids = list(range(300))

    segments = segments_of(
        ids, [bool(at % 2) for at in ids], lambda some: "".join(f"{one:06}" * 1000 for one in some)
    )

    size = sum(len(segment.text.encode()) for segment in segments)
    assert TEXT_BYTES_MAX - 12_000 < size <= TEXT_BYTES_MAX
    assert sum(segment.tokens for segment in segments) == len(ids)


def test_a_decoder_that_joins_in_its_own_way_still_shows_each_segment() -> None:
    words = ["un", "believ", "able"]

    def decode(ids: Sequence[int]) -> str:
        """Says the number of words first, so that no beginning is kept."""
        return f"{len(ids)}:" + "".join(words[one] for one in ids) if ids else ""

    segments = segments_of([0, 1, 2], [False, True, True], decode)

    assert texts(segments) == ["1:un", "2:believable"]


@pytest.mark.parametrize("ids", [[], [5]])
def test_nothing_and_a_single_token(ids: list[int]) -> None:
    segments = segments_of(ids, [True] * len(ids), lambda some: "x" * len(some))

    assert texts(segments) == ["x"] * len(ids)


def test_a_half_surrogate_becomes_something_that_a_message_takes() -> None:
    (segment,) = segments_of([1], [True], lambda some: "a\ud800" if some else "")

    segment.text.encode("utf-8")


def test_it_needs_nothing_but_the_standard_library() -> None:
    from trainer_svc.child.swift import inside

    source = (Path(inside.__path__[0]) / "row_segments.py").read_text()

    imports = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert {line.split()[1] for line in imports} == {
        "__future__",
        "collections.abc",
        "dataclasses",
        "itertools",
    }
