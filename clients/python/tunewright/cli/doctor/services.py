"""What the replies of scheduler, monitors and trainers say of the installation as a whole. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from google.protobuf.message import Message

from tunewright.cli import words
from tunewright.cli.doctor.findings import Finding, broken, odd, well
from tunewright.cli.doctor.probes import Reply
from tunewright.errors import ApiError, DeadlineExceeded, PermissionDenied, Unauthenticated
from tunewright.v1 import job_pb2, trainer_pb2

CLOCK_ODD_SECONDS = 5.0
CLOCK_BROKEN_SECONDS = 60.0
_REASONS_SHOWN = 3
_ANY_ADDRESS = ("0.0.0.0:", "[::]:")
# What a TLS server does to a caller that does not speak it, in gRPC's words.
_HUNG_UP = "Socket closed"
_WHO_YOU_ARE = "name a file with a token that it knows in TUNEWRIGHT_TOKEN_FILE"


def reached(subject: str, reply: Reply[Message], start_it: str, expected: str = "") -> Finding:
    """Whether a service answers, and how fast. `expected` is the reason of a refusal that shows
    as well as an answer that all is well; every other error is what is wrong with it."""
    if reply.error is None or (expected and reply.error.reason == expected):
        told = f"answers at {reply.address} in {1000 * reply.took_seconds:.0f} ms"
        return well(subject, f"{told}, version {reply.version}" if reply.version else told)
    return broken(subject, str(reply.error), remedy(reply.error, start_it))


def remedy(error: ApiError, start_it: str) -> str:
    """What to do about a service that does not answer as it should."""
    if isinstance(error, Unauthenticated | PermissionDenied):
        return _WHO_YOU_ARE
    if error.reason:
        return "it runs; its log says more"
    if isinstance(error, DeadlineExceeded):
        return "see its log, and what is between it and here; --timeout gives it longer"
    if _HUNG_UP in error.message:
        return f"if it serves TLS, name its CA in TUNEWRIGHT_CA_FILE; else {start_it}"
    return start_it


def advertised(subject: str, address: str) -> Iterator[Finding]:
    """An address that only works on the service's own host."""
    if address.startswith(_ANY_ADDRESS):
        told = f"says that it is at {address}, which is no address of a host"
        yield odd(subject, told, "start it with --advertise-address HOST:PORT")


def versions(client: str, services: Mapping[str, str]) -> Iterator[Finding]:
    """Whether client and services are of one version; "" is a service that did not tell."""
    if not services:
        return
    differing = {name: told for name, told in services.items() if told != client}
    if not differing:
        yield well("versions", f"client and {_count(len(services), 'service')}: all {client}")
    for name, told in differing.items():
        is_told = f"is of version {told}" if told else "does not tell its version: it is older"
        yield odd(name, f"{is_told}; this client is {client}", "upgrade the older one")


def clocks(ahead: Mapping[str, tuple[float, float]]) -> Iterator[Finding]:
    """Whether all clocks agree. Seconds ahead of this machine, and the measure's uncertainty."""
    worst = 0.0
    wrong = False
    for name, (seconds, give_or_take) in ahead.items():
        sure = abs(seconds) - give_or_take
        worst = max(worst, abs(seconds))
        if sure > CLOCK_ODD_SECONDS:
            wrong = True
            yield _off(name, "this machine's", seconds, sure)
    if ahead and not wrong:
        near = f"{math.ceil(10 * worst) / 10:.1f} s"
        yield well(
            "clocks", f"this machine and {_count(len(ahead), 'service')} agree within {near}"
        )


def clock_of_trainer(
    name: str, scheduler: tuple[float, float] | None, trainer: tuple[float, float] | None
) -> Iterator[Finding]:
    """Whether a trainer's clock and the scheduler's agree."""
    if scheduler is None or trainer is None:
        return
    apart = trainer[0] - scheduler[0]
    sure = abs(apart) - trainer[1] - scheduler[1]
    if sure > CLOCK_ODD_SECONDS:
        yield _off(name, "the scheduler's", apart, sure)


def fleet(trainers: Sequence[trainer_pb2.Trainer]) -> Iterator[Finding]:
    """What is to be said of all trainers together."""
    if not trainers:
        advice = "start one: python -m trainer_svc --scheduler HOST:PORT"
        yield broken("trainers", "none has registered, so no job can run", advice)
        return
    stores = Counter(one.capabilities.artifact_store for one in trainers)
    if len(trainers) == 1:
        return
    if len(stores) == 1:
        yield well("artifact store", f"shared by {len(trainers)} trainers")
    else:
        told = f"{len(trainers)} trainers have {len(stores)} of them: a job whose host is lost "
        advice = "mount one folder on all of them and give it with --artifacts"
        yield odd("artifact store", f"{told}starts over on another", advice)


def waiting(jobs: Iterable[job_pb2.Job], more: bool) -> Finding:
    """How many jobs wait, and for what; `more` if these are not all of them."""
    reasons = Counter(job.pending_reason or "no reason is known" for job in jobs)
    total = sum(reasons.values())
    if not total:
        return well("queue", "no job waits")
    shown = [f"{reason} ({count})" for reason, count in reasons.most_common(_REASONS_SHOWN)]
    rest = len(reasons) - len(shown)
    told = "; ".join([*shown, *([f"and {rest} more reasons"] if rest else [])])
    are = "waits" if total == 1 else "wait"
    head = f"{_count(total, 'job')}{' or more' if more else ''} {are}: {told}"
    return odd("queue", head, "give them what they wait for, or wait with them")


def _off(name: str, other: str, seconds: float, sure: float) -> Finding:
    side = "ahead of" if seconds > 0 else "behind"
    told = f"its clock is {words.span(abs(seconds))} {side} {other}"
    advice = "let NTP set the clocks (timedatectl set-ntp true)"
    if sure > CLOCK_BROKEN_SECONDS:
        return broken(name, told, advice)
    return odd(name, told, advice)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
