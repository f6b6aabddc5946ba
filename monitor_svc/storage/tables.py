"""The monitor's tables. What changes here needs a migration; a test compares both."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION_TABLE = "alembic_version_monitor"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite gives a row id only to INTEGER.
_ID = BigInteger().with_variant(Integer(), "sqlite")

# One row: the position of the log's last entry. Whoever appends locks it first, so that
# positions are in commit order and appends are one after the other.
log_clock = Table(
    "log_clock",
    metadata,
    Column("clock_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
)

# Feeds that the monitors read, each with the lease of the one that reads it.
sources = Table(
    "sources",
    metadata,
    Column("key", String(160), primary_key=True),
    Column("address", String(255), nullable=False),
    Column("source", String(160), nullable=False),
    Column("holder", String(64), nullable=False),
    Column("holder_name", String(160), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
)

# How far each stream of a source is stored; moved in the transaction that stores its entries.
feed_cursors = Table(
    "feed_cursors",
    metadata,
    Column("source", String(160), primary_key=True),
    Column("stream", String(255), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("ended", Boolean, nullable=False),
    # Log position of the last change: which ended ones are the latest.
    Column("log_position", BigInteger, nullable=False),
    Index(None, "source", "ended", "log_position"),
)

# One row a job: its sequence, what retention has left, its labels.
feed_heads = Table(
    "feed_heads",
    metadata,
    Column("job", String(160), primary_key=True),
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("terminal_sequence", BigInteger, nullable=False),
    # Position of the last entry that retention removed.
    Column("trimmed_position", BigInteger, nullable=False),
    # Wall clock of the last append, in seconds.
    Column("append_time", Double, nullable=False),
    # JSON object; NULL while they are not known.
    Column("labels", Text),
    # They are to be read again.
    Column("labels_stale", Boolean, nullable=False),
    # A gap that goes before the next entry.
    Column("pending_gap", LargeBinary),
    Index(None, "labels_stale"),
    Index(None, "trimmed_position"),
    Index(None, "append_time"),
)

job_labels = Table(
    "job_labels",
    metadata,
    Column("job", String(160), primary_key=True),
    Column("label", String(64), primary_key=True),
    Column("value", String(128), nullable=False),
    Index(None, "label", "value"),
)

# Everything that happened. `payload` is a serialised tunewright.v1.Entry.
entries = Table(
    "entries",
    metadata,
    Column("job", String(160), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    # When it happened, by the writer's clock: microseconds since 1970 UTC.
    Column("time_us", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    # Serialised gap that goes before it.
    Column("gap", LargeBinary),
    UniqueConstraint("position"),
    # Metrics for series, lines for logs.
    Index(None, "job", "kind", "sequence"),
)

# Entries of the scheduler that wait for a trainer's streams.
held_entries = Table(
    "held_entries",
    metadata,
    Column("held_id", _ID, primary_key=True, autoincrement=True),
    Column("job", String(160), nullable=False, index=True),
    Column("payload", LargeBinary, nullable=False),
    # An id must not come again after a delete: it orders, and timers are kept by it.
    sqlite_autoincrement=True,
)

held_waits = Table(
    "held_waits",
    metadata,
    Column("held_id", BigInteger, primary_key=True, autoincrement=False),
    Column("source", String(160), primary_key=True),
    Column("stream", String(255), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Index(None, "source"),
)
