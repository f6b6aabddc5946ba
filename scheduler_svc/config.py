"""The scheduler's configuration: the only reader of its environment and flags.

Refuses, with one line and exit code 2, what is broken, and a password on the
command line, where every user of the host could read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, model_validator

from scheduler_svc.application.settings import Settings
from svckit.config import ServiceConfig, fail_configuration, load_config, service_settings

_URL_ON_ARGV = (
    "database_url: a password on the command line can be read by every user of this host; "
    "set TUNEWRIGHT_SCHEDULER_DATABASE_URL instead"
)


class SchedulerConfig(ServiceConfig):
    """What the scheduler can be told: TUNEWRIGHT_SCHEDULER_* or --kebab-case flags."""

    model_config = service_settings("SCHEDULER")

    listen: str = Field("127.0.0.1:7400", description="host:port to serve on; 0 takes a free port")
    database_url: str = Field(
        "sqlite:///./tunewright.db", description="sqlite:///FILE or postgresql://..."
    )
    database_wait_seconds: float = Field(
        30.0, ge=0, description="how long a start waits for its database"
    )
    heartbeat_interval_seconds: float = Field(5.0, gt=0, description="between heartbeats")
    suspect_seconds: float = Field(20.0, gt=0, description="silence before no new work goes there")
    lost_seconds: float = Field(120.0, gt=0, description="silence before its jobs are given up")
    reservation_after_seconds: float = Field(
        600.0, ge=0, description="wait after which a large job gets a trainer kept free"
    )
    backoff_seconds_max: float = Field(3600.0, gt=0, description="longest wait before a retry")
    pause_grace_seconds: float | None = Field(
        None, gt=0, description="from a pause to the end by force; else the trainer's own"
    )
    cancel_grace_seconds: float | None = Field(
        None, gt=0, description="from a cancel to the end by force; else the trainer's own"
    )
    queue_max: int = Field(100_000, ge=1, description="jobs that may wait")
    dispatch_moves_max: int = Field(1000, ge=1, description="assignments in one round")
    labels_max: int = Field(64, ge=0, description="labels of a job")
    label_value_characters_max: int = Field(128, ge=1, description="length of a label's value")
    display_name_characters_max: int = Field(128, ge=1, description="length of a display name")
    page_max: int = Field(1000, ge=1, le=1000, description="resources on a page")
    dispatch_tick_seconds: float = Field(2.0, gt=0, description="dispatch, if nothing wakes it")
    upkeep_tick_seconds: float = Field(1.0, gt=0, description="between looks at leases and retries")
    progress_flush_seconds: float = Field(
        5.0, gt=0, description="progress is kept in memory so long"
    )
    health_tick_seconds: float = Field(2.0, gt=0, description="between looks at the database")
    collect_deleted_after_seconds: float = Field(
        0.0, ge=0, description="a deleted job's record stays at least so long"
    )
    feed_poll_seconds: float = Field(1.0, gt=0, description="a feed's look, if nothing wakes it")
    feed_keepalive_seconds: float = Field(10.0, gt=0, description="silence on a feed")
    trainer_call_seconds_max: float = Field(5.0, gt=0, description="deadline of calls to trainers")

    @model_validator(mode="after")
    def _times_in_order(self) -> Self:
        if not self.heartbeat_interval_seconds < self.suspect_seconds < self.lost_seconds:
            raise ValueError(
                "heartbeat_interval_seconds < suspect_seconds < lost_seconds must hold; got "
                f"{self.heartbeat_interval_seconds:g}, {self.suspect_seconds:g}, "
                f"{self.lost_seconds:g}"
            )
        return self

    @classmethod
    def load(cls, argv: Sequence[str]) -> Self:
        """Reads environment and flags; exits with 2 and one line if they are broken."""
        if any(_has_password(url) for url in _database_urls(argv)):
            fail_configuration(_URL_ON_ARGV)
        return load_config(cls, argv)

    def settings(self) -> Settings:
        """The numbers that the use cases need."""
        return Settings(
            heartbeat_seconds=self.heartbeat_interval_seconds,
            suspect_after_seconds=self.suspect_seconds,
            lost_after_seconds=self.lost_seconds,
            reservation_after_seconds=self.reservation_after_seconds,
            backoff_seconds_max=self.backoff_seconds_max,
            queue_jobs_max=self.queue_max,
            dispatch_moves_max=self.dispatch_moves_max,
            pause_grace_seconds=self.pause_grace_seconds,
            cancel_grace_seconds=self.cancel_grace_seconds,
            flush_after_seconds=self.progress_flush_seconds,
            collect_deleted_after_seconds=self.collect_deleted_after_seconds,
        )


def _database_urls(argv: Sequence[str]) -> Iterator[str]:
    for place, flag in enumerate(argv):
        name, equals, value = flag.partition("=")
        if name in ("--database-url", "--database_url"):
            yield value if equals else "".join(argv[place + 1 : place + 2])


def _has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.password) or "password" in parse_qs(parts.query)
