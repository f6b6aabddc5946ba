"""A scheduler's database with many queued jobs, filled in one transaction."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from scheduler_svc.application import entries
from scheduler_svc.domain.job import Job, JobId
from scheduler_svc.domain.states import JobState
from scheduler_svc.storage.schema import migrate
from scheduler_svc.storage.sql_store import SqlStore
from scheduler_svc.system import RandomIds, SystemClock
from svckit.database import Database
from svckit.spec import JobSpec


def store_jobs(file: Path, count: int) -> None:
    """Puts queued jobs into an SQLite database, each as CreateJob writes it."""
    database, clock, ids = Database(f"sqlite:///{file}"), SystemClock(), RandomIds()
    migrate(database)
    store = SqlStore(database)
    with store.write() as tx:
        tx.take_lead(ids.new_uuid())
        for index in range(count):
            job = _queued_job(JobId(ids.new_job_id()), f"runs/{index}", clock.now())
            tx.insert_job(job)
            tx.reserve_output_dir(job.spec.output_dir, job.job_id)
            tx.append_entry(job.job_id, entries.state_change(None, job, job.create_time))
    database.close()


def _queued_job(job_id: JobId, output_dir: str, now: datetime) -> Job:
    spec = JobSpec.from_mapping(
        {
            "model": {"name": "/models/tiny"},
            "train_data": [{"source": "/data/train.jsonl"}],
            "output_dir": output_dir,
        }
    )
    labels = {"team": "nlp"}
    return Job(job_id, spec, JobState.QUEUED, now, now, labels=labels, queue_time=now)
