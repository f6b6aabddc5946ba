"""Page tokens: where a list goes on, opaque to the caller.

A token is bound to what was asked (filter, order, ...) and sealed, so that one
that was cut, made up or taken to another list is refused. It is no secret.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from scheduler_svc.domain.query import Value

_SEAL_BYTES = 12
_TOKEN_CHARACTERS_MAX = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class BadPageToken(ValueError):
    """The token is damaged, made up, or belongs to another list."""


class PageTokens:
    """Seals and opens tokens. `key` is the installation's, so that tokens outlive a restart."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def seal(self, question: Sequence[object], values: Sequence[Value]) -> str:
        """The token for "after these values" in the answer to `question`."""
        body = json.dumps([_encoded(value) for value in values], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._mac(question, body) + body).decode().rstrip("=")

    def open(self, question: Sequence[object], token: str) -> tuple[Value, ...]:
        """The values that were sealed with the same question. Raises BadPageToken."""
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise BadPageToken("is not a token of this list")
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise BadPageToken("is not a token of this list") from None
        seal, body = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._mac(question, body)):
            raise BadPageToken(
                "is not a token of this list; filter, order_by and show_deleted must be "
                "the same as for the page before"
            )
        return tuple(_decoded(value) for value in json.loads(body))

    def _mac(self, question: Sequence[object], body: bytes) -> bytes:
        asked = json.dumps(list(question)).encode()
        digest = hmac.new(self._key, hashlib.sha256(asked).digest() + body, hashlib.sha256)
        return digest.digest()[:_SEAL_BYTES]


def _encoded(value: Value) -> object:
    if isinstance(value, datetime):
        return {"t": (value - _EPOCH) // _MICROSECOND}
    return value


def _decoded(value: object) -> Value:
    if isinstance(value, dict):
        return _EPOCH + int(value["t"]) * _MICROSECOND
    assert isinstance(value, str | int), value
    return value
