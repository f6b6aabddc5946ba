"""What can go wrong with a hub, and how long it is borne.

Owns the way from the libraries' exceptions to a cause, and the few tries in
between: what is wrong with a name, a revision or a token stays wrong; a hub that
cannot be reached or is too busy is NETWORK, which the scheduler tries again.
Never lets a token into a message.
"""

import re
import socket
import time
from collections.abc import Callable, Iterator
from errno import (
    EACCES,
    ECONNABORTED,
    ECONNREFUSED,
    ECONNRESET,
    EDQUOT,
    EHOSTUNREACH,
    EIO,
    EMFILE,
    ENETUNREACH,
    ENFILE,
    ENOMEM,
    ENOSPC,
    EPERM,
    EPIPE,
    EROFS,
    ETIMEDOUT,
)
from json import JSONDecodeError
from typing import Any, TypeVar

from tunewright.v1.feed_pb2 import SEVERITY_WARNING

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.pins import Repository
from trainer_svc.child.spool import Spool

TRIES = 4
FIRST_WAIT_SECONDS = 1.0
# A hub that asks for more is left to the scheduler's back-off: this run holds a GPU.
WAIT_SECONDS_MAX = 60.0
# The libraries set none for some of their requests, and would wait for ever.
SILENCE_SECONDS_MAX = 30.0

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
UNREACHABLE = frozenset(
    {ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, EPIPE, ETIMEDOUT}
)
THIS_HOST = frozenset({EACCES, EDQUOT, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, EPERM, EROFS})
MESSAGE_CHARACTERS_MAX = 500

ACCESS_HINT = (
    "Accept its licence on the hub, and set HF_TOKEN in the trainer's environment to a token of"
    " that account."
)
NETWORK_HINT = (
    "Check the trainer's way to the hub (HF_ENDPOINT, proxy); a retry goes on with what is there."
)

T = TypeVar("T")


class HubBusy(Exception):
    """The hub answers that it cannot now; `seconds` is how long it asks to wait, 0 if it does
    not say."""

    def __init__(self, status: int, seconds: float) -> None:
        asks = f" and asks to wait for {seconds:g} s" if seconds else ""
        super().__init__(f"it answers {status}{asks}")
        self.seconds = seconds


class DownloadBroken(Exception):
    """What came is not what the hub's listing says; the message names the file."""


def patiently(
    repository: Repository,
    spool: Spool,
    call: Callable[[], T],
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """What `call` returns; again after a passing fault, TRIES times without progress.

    `progress` grows with what `call` has achieved for good, in bytes. Raises RunFailed,
    and OSError for what is no fault of the hub's (a full disk).
    """
    tries, reached = 0, progress()
    while True:
        try:
            return call()
        except RunFailed:
            raise
        except Exception as error:
            fault = fault_of(repository, error)
            if fault is None:
                raise
            tries = 1 if progress() > reached else tries + 1
            reached = max(reached, progress())
            wait = max(FIRST_WAIT_SECONDS * 2 ** (tries - 1), _asked_seconds(error))
            if fault.cause is not Cause.NETWORK or tries >= TRIES or wait > WAIT_SECONDS_MAX:
                # With its origin, unless that would print a secret in the log.
                raise fault from (None if _tells_secret(error) else error)
            text = f"{fault}; trying again in {wait:g} s"
        spool.event("HUB_RETRY", text, SEVERITY_WARNING, name=repository.key)
        time.sleep(wait)


def fault_of(repository: Repository, error: Exception) -> RunFailed | None:
    """The failure that `error` stands for; None: it is not the hub's, raise it as it is."""
    from huggingface_hub import errors

    for link in _chain(error):
        if _is_this_host(link):
            return None
        if isinstance(link, errors.GatedRepoError):
            return _no_access(repository)
        if isinstance(link, errors.RevisionNotFoundError):
            told = repository.revision or "the default one"
            return RunFailed(
                repository.cause,
                f"{repository.words} has no such revision on the hub: {told}",
                "Give a branch, a tag or a commit that it has.",
            )
        if isinstance(link, errors.RepositoryNotFoundError) or _is(link, "DatasetNotFoundError"):
            return RunFailed(
                repository.cause,
                f"{repository.words} is not on the hub ({endpoint()}), or this trainer may not"
                " see it",
                f"Check the name. If it is private or gated: {ACCESS_HINT}",
            )
        if isinstance(link, errors.HfHubHTTPError):
            return _of_status(repository, link)
        fault = _of_transport(repository, link)
        if fault is not None:
            return fault
    return RunFailed(
        repository.cause,
        f"{repository.words} from the hub cannot be used: {without_secrets(_innermost(error))}",
        "Look at the traceback in the log.",
    )


def bound_requests() -> None:
    """No request of the libraries waits for ever, and all waits for a hub are told ones."""
    from huggingface_hub import get_session, set_client_factory

    # Of whichever HTTP library it uses: they have the same hooks.
    session: Any = get_session()
    kind, theirs = type(session), session.event_hooks["request"]
    if bound_silence in theirs:
        return

    def client() -> Any:
        hooks = {"request": [*theirs, bound_silence], "response": [refuse_to_wait]}
        return kind(event_hooks=hooks, follow_redirects=True, timeout=None)

    set_client_factory(client)


def bound_silence(request: Any) -> None:
    """A hook of httpx: times that the library left open get a bound."""
    times = dict(request.extensions.get("timeout", {}))
    for phase in ("connect", "read", "write", "pool"):
        if times.get(phase) is None:
            times[phase] = SILENCE_SECONDS_MAX
    request.extensions["timeout"] = times


def refuse_to_wait(response: Any) -> None:
    """A hook of httpx. Raises HubBusy: the library would wait for as long as a hub likes, and
    takes a file that it cannot get for one that does not exist."""
    if response.status_code in BUSY:
        raise HubBusy(response.status_code, _waits(response))


def endpoint() -> str:
    """Where the hub is, for a person."""
    from huggingface_hub import constants

    return without_secrets(constants.ENDPOINT)


def without_secrets(text: str) -> str:
    """As one line, without tokens, passwords and signatures in addresses."""
    return " ".join(_secrets_hidden(text).split())[:MESSAGE_CHARACTERS_MAX]


def _secrets_hidden(text: str) -> str:
    for secret in _secrets():
        text = text.replace(secret, "…")
    text = re.sub(r"://[^/@\s]+@", "://", text)
    return re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", text)


def _of_status(repository: Repository, error: Any) -> RunFailed:
    status = error.response.status_code
    if status >= 500:
        return _unreachable(repository, f"it answers {status}")
    if status in (401, 403):
        return _no_access(repository)
    return RunFailed(
        repository.cause,
        f"{repository.words} cannot be had from the hub: {without_secrets(str(error))}",
        "Check the name and the revision.",
    )


def _of_transport(repository: Repository, link: BaseException) -> RunFailed | None:
    from huggingface_hub import errors

    if _is(link, "UnsupportedProtocol") or _is(link, "InvalidURL"):
        return _no_hub(without_secrets(str(link)))
    if isinstance(link, (errors.FileMetadataError, JSONDecodeError)):
        return _no_hub("what answers there does not speak like a hub")
    passing = (HubBusy, DownloadBroken, ConnectionError, TimeoutError, socket.gaierror)
    if (
        isinstance(link, passing)
        or (isinstance(link, OSError) and link.errno in UNREACHABLE)
        or any(_is(link, name) for name in ("TransportError", "XetDownloadError"))
        or "Consistency check failed" in str(link)
    ):
        return _unreachable(repository, without_secrets(str(link)) or type(link).__name__)
    return None


def _unreachable(repository: Repository, why: str) -> RunFailed:
    text = f"{repository.words} cannot be had from the hub ({endpoint()}) now: {why}"
    return RunFailed(Cause.NETWORK, text, NETWORK_HINT)


def _no_access(repository: Repository) -> RunFailed:
    text = f"{repository.words} is gated or private: this trainer may not read it"
    return RunFailed(repository.cause, text, ACCESS_HINT)


def _no_hub(why: str) -> RunFailed:
    return RunFailed(
        Cause.ENVIRONMENT_INVALID,
        f"there is no hub at {endpoint()}: {why}",
        "Correct HF_ENDPOINT in the trainer's environment, or the proxy before it.",
    )


def _is_this_host(link: BaseException) -> bool:
    """A full disk, a folder that may not be written: nothing that a hub can do about it."""
    if isinstance(link, (MemoryError, ImportError)):
        return True
    if isinstance(link, OSError) and link.errno in THIS_HOST:
        return True
    return re.search(r"os error 28\b|No space left on device", str(link)) is not None


def _waits(response: Any) -> float:
    """Seconds that an answer asks to wait, 0 if it does not say."""
    after = response.headers.get("Retry-After", "").strip()
    if after.isdecimal():
        return float(after)
    match = re.search(r";\s*t=(\d+)", response.headers.get("RateLimit", ""))
    return float(match[1]) if match and response.status_code == 429 else 0.0


def _asked_seconds(error: Exception) -> float:
    return next((link.seconds for link in _chain(error) if isinstance(link, HubBusy)), 0.0)


def _is(link: BaseException, name: str) -> bool:
    """By its name, or that of a type it inherits from: some are of libraries of libraries."""
    return any(kind.__name__ == name for kind in type(link).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(20):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def _innermost(error: BaseException) -> str:
    """A wrapper says that it failed, the one inside says why."""
    texts = [str(link) for link in _chain(error) if str(link).strip()]
    return f"{texts[0]} ({texts[-1]})" if len(texts) > 1 else (texts or [repr(error)])[0]


def _secrets() -> list[str]:
    from huggingface_hub import get_token

    token = get_token()
    return [token] if token else []


def _tells_secret(error: BaseException) -> bool:
    """Whether a text in the traceback has what is never told."""
    text = "\n".join(str(link) for link in _chain(error))
    return _secrets_hidden(text) != text
