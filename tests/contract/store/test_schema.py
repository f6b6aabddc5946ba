"""The migrated tables are those in the code, and the indexes are used.

Plans, not times: a plan says the same on every machine.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Select, insert, text
from sqlalchemy.dialects import postgresql, sqlite

from scheduler_svc.domain.query import Comparison, Field, JobQuery, Operator, Position
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.storage import rows, schema, tables
from scheduler_svc.storage.sql_reading import heads_statement, list_statement, shapes_statement
from scheduler_svc.storage.sql_store import SqlStore
from svckit.database import Database
from tests.unit.scheduler.builders import at, cpu, gpus, job, spec

JOBS = 3_000


def plan(database: Database, statement: Select[Any]) -> str:
    """How the database would run it."""
    dialect = sqlite.dialect() if database.is_sqlite else postgresql.dialect()
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    with database.read() as connection:
        escaped = str(compiled).replace(":", r"\:")
        rows = connection.execute(text(f"{explain} {escaped}")).all()
    return "\n".join(str(row[-1]) for row in rows)


@pytest.fixture
def full(database: Database) -> Database:
    """A database with a long queue of few shapes."""
    shapes = [cpu(), gpus(1), gpus(8, 24)]
    values = [rows.job_values(job(spec=spec("out", shape))) for shape in shapes]
    with database.write() as connection:
        connection.execute(
            insert(tables.jobs),
            [
                {**values[index % 3], "job_id": f"j{index}", "create_time": at(index)}
                for index in range(JOBS)
            ],
        )
    # SQLite is left without statistics, as it is in use.
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("VACUUM ANALYZE jobs"))
    return database


def test_migrated_tables_are_those_in_the_code(database: Database) -> None:
    found = schema.drift(database)

    assert found == []


def test_drift_is_seen(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("DROP INDEX jobs_by_due"))

    found = schema.drift(database)

    with database.write() as connection:
        connection.execute(text("CREATE INDEX jobs_by_due ON jobs (state, not_before)"))
    assert "jobs_by_due" in str(found)


def test_migrating_twice_is_migrating_once(database: Database) -> None:
    schema.migrate(database)

    assert schema.drift(database) == []


def test_the_queue_s_requirements_are_found_by_skipping_through_the_index(full: Database) -> None:
    with SqlStore(full).read() as tx:
        shapes = tx.queue_shapes()

    how = plan(full, shapes_statement())

    assert len(shapes) == 3
    assert "jobs_by_queue" in how
    assert "Seq Scan on jobs" not in how
    assert "SCAN jobs" not in how


def test_the_queue_s_heads_come_from_the_index_in_order(full: Database) -> None:
    how = plan(full, heads_statement(Requirement.of(spec()).key, 5))

    assert "jobs_by_queue" in how
    assert "Sort" not in how
    assert "TEMP B-TREE" not in how


def test_a_page_comes_from_the_index_in_order(full: Database) -> None:
    query = JobQuery(50, after=Position((at(1500),), job("j1500").job_id))

    how = plan(full, list_statement(query))

    assert "jobs_by_create_time" in how
    assert "Sort" not in how
    assert "TEMP B-TREE" not in how


def test_a_page_of_a_rare_state_comes_from_an_index(full: Database) -> None:
    rare = Comparison(Field.STATE, Operator.EQUAL, "JOB_STATE_FAILED")

    how = plan(full, list_statement(JobQuery(50, rare)))

    assert "jobs_by" in how
    assert "Seq Scan" not in how
