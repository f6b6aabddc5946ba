"""Alembic's way to the connection that svckit.migrations gives it."""

from __future__ import annotations

from alembic import context

from monitor_svc.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    target_metadata=metadata,
    # Each script writes explicit batch operations where SQLite needs them.
    render_as_batch=False,
)
context.run_migrations()
