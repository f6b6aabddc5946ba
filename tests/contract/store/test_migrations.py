"""Databases of earlier versions come over with what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from scheduler_svc.domain.job import JobId
from scheduler_svc.domain.query import Comparison, Field, JobQuery, Operator
from scheduler_svc.domain.recipe import RecipeId
from scheduler_svc.domain.states import JobState
from scheduler_svc.storage import schema
from scheduler_svc.storage.sql_store import SqlStore
from scheduler_svc.storage.tables import VERSION_TABLE
from svckit.database import Database
from svckit.spec import JobSpec, ModelKind
from tests.support.postgres import fresh_database
from tests.unit.scheduler.builders import at, job

# A spec as it was written before there were kinds, ms-swift's options and strictness.
OLD_SPEC = {
    "backend": "BACKEND_QLORA",
    "eval_data": [],
    "hyperparameters": {
        "assistant_only_loss": True,
        "bf16": None,
        "dataloader_num_workers": 0,
        "eval_steps": None,
        "gradient_accumulation_steps": 4,
        "gradient_checkpointing": False,
        "learning_rate": 0.0002,
        "load_in_4bit": True,
        "logging_steps": 10,
        "lora_alpha": 32.0,
        "lora_dropout": 0.05,
        "lora_r": 16,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 1.0,
        "max_length": 1024,
        "max_steps": -1,
        "num_train_epochs": 3.0,
        "optim": "adamw_torch",
        "packing": False,
        "per_device_eval_batch_size": 2,
        "per_device_train_batch_size": 2,
        "save_steps": 500,
        "save_total_limit": 2,
        "seed": 42,
        "target_modules": ["all-linear"],
        "warmup_ratio": 0.03,
        "weight_decay": 0.0,
    },
    "model": {"name": "Qwen/Qwen3-0.6B", "revision": ""},
    "output_dir": "runs/old",
    "resources": {
        "accelerator": "ACCELERATOR_CPU",
        "gpu_count": 0,
        "gpu_ids": [],
        "gpu_memory_bytes_min": 0,
        "trainer": "",
    },
    "retry_policy": {"attempts_max": 3, "backoff_seconds": 10.0},
    "run_timeout_seconds": None,
    "system_prompt": "",
    "train_data": [{"format": "DATA_FORMAT_LCCC", "source": "/data/a.json#9", "split": ""}],
}
_MICROS = 1_767_225_600_000_000  # 2026-01-01, as at(0)


@pytest.fixture(params=["sqlite", "postgres"])
def first_tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database at revision 0001, with a job and all that belongs to it."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    if request.param == "postgres":
        url = fresh_database(request.getfixturevalue("postgres_url"))
    database = Database(url)
    config = Config()
    config.set_main_option("script_location", str(schema.SCRIPTS))
    with database.write() as connection:
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.upgrade(config, "0001")
    _fill(database)
    yield database
    database.close()


def _fill(database: Database) -> None:
    values = {
        "job_id": "old",
        "state": "JOB_STATE_RUNNING",
        "attempt": 1,
        "trainer_id": "a",
        "incarnation": "i1",
        "priority": 5,
        "queue_rank": -5,
        "requirement_key": "x",
        "display_name": "ein Name",
        "labels": '{"team":"nlp"}',
        "spec": json.dumps(OLD_SPEC),
        "backend": "BACKEND_QLORA",
        "model": "Qwen/Qwen3-0.6B",
        "output_dir": "runs/old",
        "create_time": _MICROS,
        "update_time": _MICROS,
        "queue_time": _MICROS,
        "start_time": _MICROS,
    }
    names = ", ".join(values)
    bound = ", ".join(f":{name}" for name in values)
    with database.write() as connection:
        connection.execute(text(f"INSERT INTO jobs ({names}) VALUES ({bound})"), values)
        connection.execute(
            text("INSERT INTO job_labels (job_id, key, value) VALUES ('old', 'team', 'nlp')")
        )
        connection.execute(
            text("INSERT INTO output_dirs (output_dir, job_id) VALUES ('runs/old', 'old')")
        )
        connection.execute(
            text(
                "INSERT INTO attempts (job_id, attempt, trainer_id, incarnation, gpu_ids,"
                " assign_time, start_time, timed_out, slot_held)"
                " VALUES ('old', 1, 'a', 'i1', '[]', :now, :now, :no, :yes)"
            ),
            {"now": _MICROS, "no": False, "yes": True},
        )


def test_a_database_of_the_first_version_comes_over_with_its_jobs(first_tables: Database) -> None:
    schema.migrate(first_tables)

    store = SqlStore(first_tables)
    with store.read() as tx:
        found = tx.job(JobId("old"))
        kinds = Comparison(Field.MODEL_KIND, Operator.EQUAL, "MODEL_KIND_LLM")
        listed = tx.list_jobs(JobQuery(10, kinds))
    assert schema.drift(first_tables) == []
    assert found is not None
    assert listed == [found]
    assert (found.state, found.create_time, found.recipe) == (JobState.RUNNING, at(0), "")
    assert found.current is not None
    assert found.current.slot_held
    assert found.spec.model_kind is ModelKind.LLM


def test_a_database_that_came_over_takes_recipes_and_new_jobs(first_tables: Database) -> None:
    schema.migrate(first_tables)
    store, new = SqlStore(first_tables), job("new", recipe="recipes/r@1")

    with store.write() as tx:
        tx.insert_job(new)
        tx.insert_recipe(RecipeId("r"), "text", at(1))

    with store.read() as tx:
        assert tx.job(JobId("new")) == new


def test_a_spec_of_the_first_version_is_read_with_defaults_for_what_it_lacks() -> None:
    spec = JobSpec.from_json(json.dumps(OLD_SPEC))

    assert (spec.model_kind, spec.strict, spec.max_dropped_fraction) == (ModelKind.LLM, True, 0.1)
    assert spec.swift is None
    assert spec.hyperparameters.load_in_4bit is True


def test_a_swift_spec_of_the_first_version_gets_ms_swift_s_options() -> None:
    spec = JobSpec.from_json(json.dumps({**OLD_SPEC, "backend": "BACKEND_SWIFT"}))

    assert spec.swift is not None
    assert not spec.swift.use_hf
