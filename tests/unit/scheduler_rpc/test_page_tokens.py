"""Page tokens: they carry what was sealed, and nothing that was not."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler_svc.rpc.page_tokens import BadPageToken, PageTokens

QUESTION = ("state=RUNNING", "priority desc", False)
VALUES = (-5, "name é", datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC), "job-1")


def test_a_token_gives_back_what_was_sealed():
    tokens = PageTokens("installation")

    token = tokens.seal(QUESTION, VALUES)

    assert tokens.open(QUESTION, token) == VALUES
    assert PageTokens("installation").open(QUESTION, token) == VALUES


def test_a_token_is_bound_to_what_was_asked():
    token = PageTokens("installation").seal(QUESTION, VALUES)

    with pytest.raises(BadPageToken, match="the same"):
        PageTokens("installation").open(("state=QUEUED", "priority desc", False), token)


def test_a_token_of_another_installation_is_refused():
    token = PageTokens("installation").seal(QUESTION, VALUES)

    with pytest.raises(BadPageToken):
        PageTokens("another").open(QUESTION, token)


@given(st.one_of(st.text(max_size=80), st.binary(max_size=40).map(lambda raw: raw.hex())))
def test_no_made_up_token_opens(text):
    with pytest.raises(BadPageToken):
        PageTokens("installation").open(QUESTION, text)


def test_a_token_of_which_any_character_was_changed_is_refused():
    tokens = PageTokens("installation")
    token = tokens.seal(QUESTION, VALUES)

    for place in range(len(token) - 1):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(BadPageToken):
            tokens.open(QUESTION, changed)


def test_an_endless_token_is_refused_unread():
    with pytest.raises(BadPageToken):
        PageTokens("installation").open(QUESTION, "A" * 1_000_000)
