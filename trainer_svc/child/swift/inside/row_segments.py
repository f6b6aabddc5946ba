"""From token ids and the loss on them to text that a person can read.

Runs in ms-swift's environment, too: the standard library alone. Owns where a
segment's text begins and ends. A tokenizer decodes a run of tokens in the light
of those before it (a leading space, the first bytes of a character), so a
segment is decoded together with a few neighbours, and what those give alone is
taken off again. A character whose bytes are split over two segments goes to the
second one. Refuses nothing: what is too long is left out and marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

SEGMENTS_MAX = 100
TEXT_BYTES_MAX = 256 * 1024
# Of a longer segment, so many tokens at each end are shown.
EDGE_TOKENS = 400
# As many like tokens in a row stand for one thing, such as a picture.
REPEATS_MIN = 8
# Neighbours that a segment is decoded with: more than a character has bytes.
CONTEXT_TOKENS = 8
HALF_CHARACTER = "\ufffd"

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Segment:
    """As RowSegment in the contract."""

    text: str
    trained: bool
    tokens: int
    repeats: int = 0
    omitted: bool = False


@dataclass(frozen=True)
class _Piece:
    """Tokens [begin, end) of a row, all with loss or all without."""

    begin: int
    end: int
    trained: bool
    repeated: bool = False
    omitted: bool = False


def segments_of(ids: Sequence[int], trained: Sequence[bool], decode: Decode) -> list[Segment]:
    """The row in segments, in order. `decode` gives the text of tokens, special ones included."""
    pieces = list(_pieces(ids, trained))
    shown = [_shown(ids, piece, decode) for piece in pieces[:SEGMENTS_MAX]]
    if len(pieces) > SEGMENTS_MAX:
        # The rest as one, so that the numbers of tokens still add up.
        left = sum(piece.end - piece.begin for piece in pieces[SEGMENTS_MAX - 1 :])
        shown[-1] = Segment("", pieces[SEGMENTS_MAX - 1].trained, left, omitted=True)
    return list(_bounded(shown))


def _pieces(ids: Sequence[int], trained: Sequence[bool]) -> Iterator[_Piece]:
    begin = 0
    for loss, group in groupby(trained):
        end = begin + sum(1 for _ in group)
        for piece in _split_repeats(ids, _Piece(begin, end, loss)):
            yield from _split_long(piece)
        begin = end


def _split_repeats(ids: Sequence[int], piece: _Piece) -> Iterator[_Piece]:
    begin = at = piece.begin
    for _, group in groupby(ids[piece.begin : piece.end]):
        length = sum(1 for _ in group)
        if length >= REPEATS_MIN:
            if begin < at:
                yield replace(piece, begin=begin, end=at)
            yield replace(piece, begin=at, end=at + length, repeated=True)
            begin = at + length
        at += length
    if begin < piece.end:
        yield replace(piece, begin=begin)


def _split_long(piece: _Piece) -> Iterator[_Piece]:
    if piece.repeated or piece.end - piece.begin <= 2 * EDGE_TOKENS:
        yield piece
        return
    head, tail = piece.begin + EDGE_TOKENS, piece.end - EDGE_TOKENS
    yield replace(piece, end=head)
    yield replace(piece, begin=head, end=tail, omitted=True)
    yield replace(piece, begin=tail)


def _shown(ids: Sequence[int], piece: _Piece, decode: Decode) -> Segment:
    tokens = piece.end - piece.begin
    if piece.omitted:
        return Segment("", piece.trained, tokens, omitted=True)
    if piece.repeated:
        # The second one follows its like, so it has the space that stands between them.
        text = _text(ids, piece.begin + 1, piece.begin + 2, decode)
        if text and HALF_CHARACTER not in text:
            return Segment(text, piece.trained, tokens, tokens)
        piece = replace(piece, end=min(piece.end, piece.begin + 2 * EDGE_TOKENS))
    return Segment(_text(ids, piece.begin, piece.end, decode), piece.trained, tokens)


def _text(ids: Sequence[int], begin: int, end: int, decode: Decode) -> str:
    """The text of tokens [begin, end), as it stands in the whole row's text."""
    first = max(0, begin - CONTEXT_TOKENS)
    before = decode(ids[first:begin])
    here = decode(ids[first:end])
    after = decode(ids[first : end + CONTEXT_TOKENS])
    start = _agreed(before, here)
    if before[start:].strip(HALF_CHARACTER):
        # This tokenizer's text of the neighbours depends on what follows: decode alone.
        return decode(ids[begin:end])
    stop = _agreed(here, after)
    if here[stop:].strip(HALF_CHARACTER):
        stop = len(here)
    return here[start:stop]


def _agreed(one: str, other: str) -> int:
    """How many characters both texts begin with. Half a character is not the whole one."""
    short = min(len(one), len(other))
    return next((at for at in range(short) if one[at] != other[at]), short)


def _bounded(segments: Sequence[Segment]) -> Iterator[Segment]:
    left = TEXT_BYTES_MAX
    for segment in segments:
        # Half of a pair can be decoded from broken bytes, and no message takes it.
        text = segment.text.encode("utf-8", errors="replace")
        left -= len(text)
        if left < 0:
            yield replace(segment, text="", repeats=0, omitted=True)
        else:
            yield replace(segment, text=text.decode("utf-8"))
