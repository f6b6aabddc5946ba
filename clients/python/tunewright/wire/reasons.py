"""The catalogue of errors: every `ErrorInfo.reason`, and the gRPC code it travels with.

Pure: importing this brings in neither grpc nor protobuf, so that domains may
name a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

DOMAIN = "tunewright.dev"


class Reason(StrEnum):
    """Why a call was refused; stable words for programs."""

    INVALID_REQUEST = "INVALID_REQUEST"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    TRAINER_NOT_FOUND = "TRAINER_NOT_FOUND"
    RUN_NOT_FOUND = "RUN_NOT_FOUND"
    RECIPE_NOT_FOUND = "RECIPE_NOT_FOUND"
    RECIPE_EXISTS = "RECIPE_EXISTS"
    RECIPE_READ_ONLY = "RECIPE_READ_ONLY"
    RECIPE_CHANGED = "RECIPE_CHANGED"
    FORBIDDEN_MOVE = "FORBIDDEN_MOVE"
    STALE_ATTEMPT = "STALE_ATTEMPT"
    STALE_GENERATION = "STALE_GENERATION"
    STALE_INCARNATION = "STALE_INCARNATION"
    STALE_READER = "STALE_READER"
    NOT_LEADER = "NOT_LEADER"
    OUTPUT_DIR_TAKEN = "OUTPUT_DIR_TAKEN"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    JOB_ID_TAKEN = "JOB_ID_TAKEN"
    QUEUE_FULL = "QUEUE_FULL"
    TRAINER_FULL = "TRAINER_FULL"
    TRAINER_UNAVAILABLE = "TRAINER_UNAVAILABLE"
    TOO_MANY_CHECKS = "TOO_MANY_CHECKS"
    CHECK_TIMED_OUT = "CHECK_TIMED_OUT"
    CHECK_CRASHED = "CHECK_CRASHED"
    SLOW_SUBSCRIBER = "SLOW_SUBSCRIBER"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    STORAGE_FULL = "STORAGE_FULL"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    DATABASE_BUSY = "DATABASE_BUSY"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    NOT_REGISTERED = "NOT_REGISTERED"
    NO_MONITOR = "NO_MONITOR"
    SCHEDULER_UNAVAILABLE = "SCHEDULER_UNAVAILABLE"
    DRAINING = "DRAINING"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True)
class Violation:
    """One bad field: its path under the request, and what is wrong with it."""

    field: str
    description: str


# gRPC code names, in the spelling of grpc.StatusCode.
CODES: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.INVALID_REQUEST: "INVALID_ARGUMENT",
        Reason.JOB_NOT_FOUND: "NOT_FOUND",
        Reason.TRAINER_NOT_FOUND: "NOT_FOUND",
        Reason.RUN_NOT_FOUND: "NOT_FOUND",
        Reason.RECIPE_NOT_FOUND: "NOT_FOUND",
        Reason.RECIPE_EXISTS: "ALREADY_EXISTS",
        Reason.RECIPE_READ_ONLY: "FAILED_PRECONDITION",
        Reason.RECIPE_CHANGED: "ABORTED",
        Reason.FORBIDDEN_MOVE: "FAILED_PRECONDITION",
        Reason.STALE_ATTEMPT: "FAILED_PRECONDITION",
        Reason.STALE_GENERATION: "FAILED_PRECONDITION",
        Reason.STALE_INCARNATION: "FAILED_PRECONDITION",
        Reason.STALE_READER: "FAILED_PRECONDITION",
        Reason.NOT_LEADER: "FAILED_PRECONDITION",
        Reason.OUTPUT_DIR_TAKEN: "ALREADY_EXISTS",
        Reason.REQUEST_ID_REUSED: "ALREADY_EXISTS",
        Reason.JOB_ID_TAKEN: "ALREADY_EXISTS",
        Reason.QUEUE_FULL: "RESOURCE_EXHAUSTED",
        Reason.TRAINER_FULL: "RESOURCE_EXHAUSTED",
        Reason.TRAINER_UNAVAILABLE: "UNAVAILABLE",
        Reason.TOO_MANY_CHECKS: "RESOURCE_EXHAUSTED",
        Reason.CHECK_TIMED_OUT: "DEADLINE_EXCEEDED",
        Reason.CHECK_CRASHED: "INTERNAL",
        Reason.SLOW_SUBSCRIBER: "RESOURCE_EXHAUSTED",
        Reason.MESSAGE_TOO_LARGE: "RESOURCE_EXHAUSTED",
        Reason.STORAGE_FULL: "RESOURCE_EXHAUSTED",
        Reason.UNAUTHENTICATED: "UNAUTHENTICATED",
        Reason.DATABASE_BUSY: "UNAVAILABLE",
        Reason.DATABASE_UNAVAILABLE: "UNAVAILABLE",
        Reason.NOT_REGISTERED: "UNAVAILABLE",
        Reason.NO_MONITOR: "UNAVAILABLE",
        Reason.SCHEDULER_UNAVAILABLE: "UNAVAILABLE",
        Reason.DRAINING: "UNAVAILABLE",
        Reason.INTERNAL: "INTERNAL",
    }
)
