"""First tables: the log, its heads and cursors, the sources, what is held back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes all tables."""
    op.create_table(
        "entries",
        sa.Column("job", sa.String(length=160), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("gap", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("job", "sequence", name=op.f("pk_entries")),
        sa.UniqueConstraint("position", name=op.f("uq_entries_position")),
    )
    op.create_index(
        op.f("ix_entries_job_kind_sequence"), "entries", ["job", "kind", "sequence"], unique=False
    )
    op.create_table(
        "feed_cursors",
        sa.Column("source", sa.String(length=160), nullable=False),
        sa.Column("stream", sa.String(length=255), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("log_position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "stream", name=op.f("pk_feed_cursors")),
    )
    op.create_index(
        op.f("ix_feed_cursors_source_ended_log_position"),
        "feed_cursors",
        ["source", "ended", "log_position"],
        unique=False,
    )
    op.create_table(
        "feed_heads",
        sa.Column("job", sa.String(length=160), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("terminal_sequence", sa.BigInteger(), nullable=False),
        sa.Column("trimmed_position", sa.BigInteger(), nullable=False),
        sa.Column("append_time", sa.Double(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=True),
        sa.Column("labels_stale", sa.Boolean(), nullable=False),
        sa.Column("pending_gap", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_feed_heads")),
    )
    op.create_index(op.f("ix_feed_heads_append_time"), "feed_heads", ["append_time"], unique=False)
    op.create_index(
        op.f("ix_feed_heads_labels_stale"), "feed_heads", ["labels_stale"], unique=False
    )
    op.create_index(
        op.f("ix_feed_heads_trimmed_position"), "feed_heads", ["trimmed_position"], unique=False
    )
    op.create_table(
        "held_entries",
        sa.Column(
            "held_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("job", sa.String(length=160), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("held_id", name=op.f("pk_held_entries")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_held_entries_job"), "held_entries", ["job"], unique=False)
    op.create_table(
        "held_waits",
        sa.Column("held_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.String(length=160), nullable=False),
        sa.Column("stream", sa.String(length=255), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("held_id", "source", "stream", name=op.f("pk_held_waits")),
    )
    op.create_index(op.f("ix_held_waits_source"), "held_waits", ["source"], unique=False)
    op.create_table(
        "job_labels",
        sa.Column("job", sa.String(length=160), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("job", "label", name=op.f("pk_job_labels")),
    )
    op.create_index(
        op.f("ix_job_labels_label_value"), "job_labels", ["label", "value"], unique=False
    )
    clock = op.create_table(
        "log_clock",
        sa.Column("clock_id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("clock_id", name=op.f("pk_log_clock")),
    )
    op.create_table(
        "sources",
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=160), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("holder_name", sa.String(length=160), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sources")),
    )
    # Its one row: whoever appends locks it.
    op.bulk_insert(clock, [{"clock_id": 1, "position": 0}])


def downgrade() -> None:
    """Drops all tables."""
    op.drop_table("sources")
    op.drop_table("log_clock")
    op.drop_index(op.f("ix_job_labels_label_value"), table_name="job_labels")
    op.drop_table("job_labels")
    op.drop_index(op.f("ix_held_waits_source"), table_name="held_waits")
    op.drop_table("held_waits")
    op.drop_index(op.f("ix_held_entries_job"), table_name="held_entries")
    op.drop_table("held_entries")
    op.drop_index(op.f("ix_feed_heads_trimmed_position"), table_name="feed_heads")
    op.drop_index(op.f("ix_feed_heads_labels_stale"), table_name="feed_heads")
    op.drop_index(op.f("ix_feed_heads_append_time"), table_name="feed_heads")
    op.drop_table("feed_heads")
    op.drop_index(op.f("ix_feed_cursors_source_ended_log_position"), table_name="feed_cursors")
    op.drop_table("feed_cursors")
    op.drop_index(op.f("ix_entries_job_kind_sequence"), table_name="entries")
    op.drop_table("entries")
