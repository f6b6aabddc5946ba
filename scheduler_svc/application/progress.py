"""The latest progress of running jobs: in memory, stored every few seconds.

For a display only: what is lost with a killed scheduler comes back with the next
heartbeat, and the monitor has the full account. Keeps a heartbeat from writing
to the database. Safe to call from several threads.
"""

from __future__ import annotations

from collections.abc import Collection
from threading import Lock

from scheduler_svc.application.ports import Reading, Store
from scheduler_svc.domain.job import JobId, Progress


class ProgressBoard:
    """Progress that is newer than the database's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._latest: dict[JobId, Progress] = {}

    def note(self, job_id: JobId, progress: Progress | None) -> None:
        """What the current attempt reported; None says nothing."""
        if progress is None:
            return
        with self._lock:
            self._latest[job_id] = progress

    def read(self, tx: Reading, job_ids: Collection[JobId]) -> dict[JobId, Progress]:
        """The latest of each of these that has some."""
        with self._lock:
            noted = {one: self._latest[one] for one in job_ids if one in self._latest}
        stored = tx.progress([one for one in job_ids if one not in noted])
        return {**stored, **noted}

    def flush(self) -> int:
        """Stores what is new; says how much."""
        with self._lock:
            taken = dict(self._latest)
        if not taken:
            return 0
        with self._store.write() as tx:
            tx.put_progress(taken)
        with self._lock:
            for job_id, progress in taken.items():
                if self._latest.get(job_id) is progress:
                    del self._latest[job_id]
        return len(taken)
