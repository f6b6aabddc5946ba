"""Alembic's entry: runs revisions on the connection that svckit.migrations gives it."""

from alembic import context

from scheduler_svc.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
)
with context.begin_transaction():
    context.run_migrations()
