"""The scheduler's tables.

Owns names, types and indexes; migrations/ brings a database to them, and a test
holds the two together. Times are microseconds since 1970 in UTC: one meaning on
both databases, whatever their session's time zone. Texts that are compared or
ordered use the C collation on PostgreSQL, as SQLite and Python do.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

VERSION_TABLE = "alembic_version_scheduler"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Micros(TypeDecorator[datetime]):
    """An aware datetime, stored as whole microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _MICROSECOND


def _name(length: int) -> String:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _text() -> Text:
    return Text().with_variant(Text(collation="C"), "postgresql")


metadata = MetaData()

installation = Table(
    "installation",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("database_uuid", String(64), nullable=False),
    Column("generation", BigInteger, nullable=False),
)

# A row of its own: the leader holds installation's for a whole transaction, and
# this one is taken last of all, so that no two transactions wait for each other.
feed_head = Table(
    "feed_head",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("position", BigInteger, nullable=False),
)

feed_events = Table(
    "feed_events",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", _name(64), nullable=False),
    Column("payload", LargeBinary, nullable=False),  # a serialised tunewright.v1.Entry
    Index("feed_events_by_job", "job_id", "position"),
)

feed_readers = Table(
    "feed_readers",
    metadata,
    Column("reader", _name(128), primary_key=True),
    Column("address", String(512), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("heard_time", Micros, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", _name(64), primary_key=True),
    Column("state", _name(40), nullable=False),
    Column("attempt", Integer, nullable=False),
    # Of the latest attempt.
    Column("trainer_id", _name(64)),
    Column("incarnation", String(128)),
    Column("priority", Integer, nullable=False),
    # Minus the priority, so that one ascending index gives the queue's order.
    Column("queue_rank", Integer, nullable=False),
    Column("requirement_key", _text(), nullable=False),
    Column("display_name", _text(), nullable=False),
    Column("labels", Text, nullable=False),  # JSON
    Column("spec", Text, nullable=False),  # JSON
    # Copies out of the spec, which never changes, for filters.
    Column("backend", _name(40), nullable=False),
    Column("model", _text(), nullable=False),
    # The default is that of the jobs that were there before there was the column.
    Column("model_kind", _name(40), nullable=False, server_default="MODEL_KIND_LLM"),
    Column("output_dir", _text(), nullable=False),
    Column("run_timeout_seconds", Double),
    Column("failure", Text),  # JSON
    Column("output_path", Text),
    Column("output_digest", String(128)),
    Column("retry_of", _name(64)),
    Column("recipe", _name(96)),  # "recipes/{recipe}@{version}"
    Column("create_time", Micros, nullable=False),
    Column("update_time", Micros, nullable=False),
    Column("queue_time", Micros),
    Column("not_before", Micros),
    Column("start_time", Micros),
    Column("end_time", Micros),
    Column("delete_time", Micros),
    # Dispatch: which requirements wait (skipping from key to key), and the first of each.
    Index("jobs_by_queue", "state", "requirement_key", "queue_rank", "create_time", "job_id"),
    Index("jobs_by_due", "state", "not_before"),
    # Lists, page by page.
    Index("jobs_by_create_time", "create_time", "job_id"),
    Index("jobs_by_update_time", "update_time", "job_id"),
    Index("jobs_by_priority", "priority", "job_id"),
    Index("jobs_by_display_name", "display_name", "job_id"),
    Index("jobs_by_state", "state", "create_time", "job_id"),
)

# Partial: else SQLite, which has no statistics at first, would answer "not deleted" with
# it and sort all jobs for one page.
Index(
    "jobs_by_delete_time",
    jobs.c.delete_time,
    sqlite_where=jobs.c.delete_time.is_not(None),
    postgresql_where=jobs.c.delete_time.is_not(None),
)

job_labels = Table(
    "job_labels",
    metadata,
    Column("job_id", _name(64), ForeignKey("jobs.job_id"), primary_key=True),
    Column("key", _name(128), primary_key=True),
    Column("value", _text(), nullable=False),
    Index("job_labels_by_value", "key", "value", "job_id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", _name(64), ForeignKey("jobs.job_id"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("trainer_id", _name(64), nullable=False),
    Column("incarnation", String(128), nullable=False),
    Column("gpu_ids", Text, nullable=False),  # JSON
    Column("assign_time", Micros, nullable=False),
    Column("start_time", Micros),
    Column("end_time", Micros),
    Column("failure", Text),  # JSON
    Column("timed_out", Boolean, nullable=False),
    Column("slot_held", Boolean, nullable=False),
    Index("attempts_by_slot", "slot_held", "trainer_id"),
)

output_dirs = Table(
    "output_dirs",
    metadata,
    Column("output_dir", _text(), primary_key=True),
    Column("job_id", _name(64), nullable=False),
    Index("output_dirs_by_job", "job_id"),
)

requests = Table(
    "requests",
    metadata,
    Column("request_id", _text(), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("job_id", _name(64), nullable=False),
    Index("requests_by_job", "job_id"),
)

# One row for each name that was ever used: its version only goes up, so that a name with a
# version never means two things.
recipes = Table(
    "recipes",
    metadata,
    Column("recipe_id", _name(64), primary_key=True),
    Column("version", Integer, nullable=False),  # the latest
    Column("deleted", Boolean, nullable=False),
    Column("create_time", Micros, nullable=False),
)

# Of recipes that are not deleted.
recipe_versions = Table(
    "recipe_versions",
    metadata,
    Column("recipe_id", _name(64), ForeignKey("recipes.recipe_id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("yaml", Text, nullable=False),
    Column("update_time", Micros, nullable=False),
)

# Not in jobs: it changes every few seconds, and the queue's indexes must not.
job_progress = Table(
    "job_progress",
    metadata,
    Column("job_id", _name(64), primary_key=True),
    Column("progress", Text, nullable=False),  # JSON
)

trainers = Table(
    "trainers",
    metadata,
    Column("trainer_id", _name(64), primary_key=True),
    Column("address", String(512), nullable=False),
    Column("incarnation", String(128), nullable=False),
    Column("boot_id", String(128), nullable=False),
    Column("workspace_uuid", String(128), nullable=False),
    Column("capabilities", Text, nullable=False),  # JSON
    Column("gpus", Text, nullable=False),  # JSON
    Column("cordoned", Boolean, nullable=False),
    Column("faulty_gpu_ids", Text, nullable=False),  # JSON
    Column("create_time", Micros, nullable=False),
    Column("lost_time", Micros),
    Column("heartbeat_time", Micros),
    Column("disk_bytes_free", BigInteger, nullable=False),
)
