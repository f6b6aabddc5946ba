"""The first tables.

Written out, not imported from tables.py: a revision says what was, whatever
the code says later.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    _create_installation()
    _create_feed_head()
    _create_feed_events()
    _create_feed_readers()
    _create_jobs()
    _create_attempts()
    _create_job_labels()
    _create_job_progress()
    _create_output_dirs()
    _create_requests()
    _create_trainers()


def downgrade() -> None:
    op.drop_table("trainers")
    op.drop_table("requests")
    op.drop_table("output_dirs")
    op.drop_table("job_progress")
    op.drop_table("job_labels")
    op.drop_table("attempts")
    op.drop_table("jobs")
    op.drop_table("feed_readers")
    op.drop_table("feed_events")
    op.drop_table("feed_head")
    op.drop_table("installation")


def _name(length: int) -> TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _text() -> TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _create_installation() -> None:
    op.create_table(
        "installation",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("database_uuid", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("one"),
    )


def _create_feed_head() -> None:
    op.create_table(
        "feed_head",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("one"),
    )
    op.execute("INSERT INTO feed_head (one, position) VALUES (1, 0)")


def _create_feed_events() -> None:
    op.create_table(
        "feed_events",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", _name(64), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_index("feed_events_by_job", "feed_events", ["job_id", "position"], unique=False)


def _create_feed_readers() -> None:
    op.create_table(
        "feed_readers",
        sa.Column("reader", _name(128), nullable=False),
        sa.Column("address", sa.String(length=512), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("heard_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reader"),
    )


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", _name(64), nullable=False),
        sa.Column("state", _name(40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("trainer_id", _name(64), nullable=True),
        sa.Column("incarnation", sa.String(length=128), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("queue_rank", sa.Integer(), nullable=False),
        sa.Column("requirement_key", _text(), nullable=False),
        sa.Column("display_name", _text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("backend", _name(40), nullable=False),
        sa.Column("model", _text(), nullable=False),
        sa.Column("output_dir", _text(), nullable=False),
        sa.Column("run_timeout_seconds", sa.Double(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("output_path", sa.Text(), nullable=True),
        sa.Column("output_digest", sa.String(length=128), nullable=True),
        sa.Column("retry_of", _name(64), nullable=True),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.Column("queue_time", sa.BigInteger(), nullable=True),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("start_time", sa.BigInteger(), nullable=True),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.Column("delete_time", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("jobs_by_create_time", "jobs", ["create_time", "job_id"], unique=False)
    op.create_index(
        "jobs_by_delete_time",
        "jobs",
        ["delete_time"],
        unique=False,
        sqlite_where=sa.text("delete_time IS NOT NULL"),
        postgresql_where=sa.text("delete_time IS NOT NULL"),
    )
    op.create_index("jobs_by_display_name", "jobs", ["display_name", "job_id"], unique=False)
    op.create_index("jobs_by_due", "jobs", ["state", "not_before"], unique=False)
    op.create_index("jobs_by_priority", "jobs", ["priority", "job_id"], unique=False)
    op.create_index(
        "jobs_by_queue",
        "jobs",
        ["state", "requirement_key", "queue_rank", "create_time", "job_id"],
        unique=False,
    )
    op.create_index("jobs_by_state", "jobs", ["state", "create_time", "job_id"], unique=False)
    op.create_index("jobs_by_update_time", "jobs", ["update_time", "job_id"], unique=False)


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("job_id", _name(64), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trainer_id", _name(64), nullable=False),
        sa.Column("incarnation", sa.String(length=128), nullable=False),
        sa.Column("gpu_ids", sa.Text(), nullable=False),
        sa.Column("assign_time", sa.BigInteger(), nullable=False),
        sa.Column("start_time", sa.BigInteger(), nullable=True),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("timed_out", sa.Boolean(), nullable=False),
        sa.Column("slot_held", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.job_id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt"),
    )
    op.create_index("attempts_by_slot", "attempts", ["slot_held", "trainer_id"], unique=False)


def _create_job_labels() -> None:
    op.create_table(
        "job_labels",
        sa.Column("job_id", _name(64), nullable=False),
        sa.Column("key", _name(128), nullable=False),
        sa.Column("value", _text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.job_id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "key"),
    )
    op.create_index("job_labels_by_value", "job_labels", ["key", "value", "job_id"], unique=False)


def _create_job_progress() -> None:
    op.create_table(
        "job_progress",
        sa.Column("job_id", _name(64), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )


def _create_output_dirs() -> None:
    op.create_table(
        "output_dirs",
        sa.Column("output_dir", _text(), nullable=False),
        sa.Column("job_id", _name(64), nullable=False),
        sa.PrimaryKeyConstraint("output_dir"),
    )
    op.create_index("output_dirs_by_job", "output_dirs", ["job_id"], unique=False)


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("request_id", _text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("job_id", _name(64), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index("requests_by_job", "requests", ["job_id"], unique=False)


def _create_trainers() -> None:
    op.create_table(
        "trainers",
        sa.Column("trainer_id", _name(64), nullable=False),
        sa.Column("address", sa.String(length=512), nullable=False),
        sa.Column("incarnation", sa.String(length=128), nullable=False),
        sa.Column("boot_id", sa.String(length=128), nullable=False),
        sa.Column("workspace_uuid", sa.String(length=128), nullable=False),
        sa.Column("capabilities", sa.Text(), nullable=False),
        sa.Column("gpus", sa.Text(), nullable=False),
        sa.Column("cordoned", sa.Boolean(), nullable=False),
        sa.Column("faulty_gpu_ids", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("lost_time", sa.BigInteger(), nullable=True),
        sa.Column("heartbeat_time", sa.BigInteger(), nullable=True),
        sa.Column("disk_bytes_free", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("trainer_id"),
    )
