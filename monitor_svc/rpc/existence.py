"""Whether the jobs that a caller names exist.

Owns the one rule: what is in the store exists; of everything else the
scheduler is asked, because its feed may be late. While nobody answers, both
are asked again for a bounded time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from monitor_svc.domain.ports import Hop, JobDirectory, ReadStore
from monitor_svc.domain.refusals import JobNotFound, SchedulerUnavailable

_CALL_SECONDS_MAX = 2.0
_CALLS_AT_ONCE = 16
_PAUSE_SECONDS = 0.25


class Existence:
    """Refuses jobs that do not exist."""

    def __init__(
        self, store: ReadStore, hop: Hop, directory: JobDirectory, wait_seconds: float
    ) -> None:
        self._store = store
        self._hop = hop
        self._directory = directory
        self._wait_seconds = wait_seconds

    async def require(self, *jobs: str) -> None:
        """Returns once every job is known to exist.

        Raises JobNotFound for the first that does not, SchedulerUnavailable if
        that cannot be found out within the wait.
        """
        deadline = time.monotonic() + self._wait_seconds
        unknown = await self._not_stored(jobs)
        while unknown:
            unknown = await self._not_known(unknown, deadline)
            if not unknown:
                return
            if time.monotonic() >= deadline:
                raise SchedulerUnavailable(unknown[0])
            await asyncio.sleep(_PAUSE_SECONDS)
            unknown = await self._not_stored(unknown)

    async def _not_stored(self, jobs: Sequence[str]) -> list[str]:
        heads = await self._hop(self._store.heads, tuple(jobs))
        return [job for job in jobs if job not in heads]

    async def _not_known(self, jobs: Sequence[str], deadline: float) -> list[str]:
        """Those of which the scheduler did not say that they exist; the first refused one ends it.

        A group that brings no answer at all is the last: nobody waits for each of a thousand.
        """
        for start in range(0, len(jobs), _CALLS_AT_ONCE):
            group = jobs[start : start + _CALLS_AT_ONCE]
            left = max(deadline - time.monotonic(), 0.0)
            timeout = max(min(_CALL_SECONDS_MAX, left), _PAUSE_SECONDS)
            answers = await asyncio.gather(*(self._directory.knows(job, timeout) for job in group))
            for job, exists in zip(group, answers, strict=True):
                if exists is False:
                    raise JobNotFound(job)
            if None in answers:
                silent = [job for job, known in zip(group, answers, strict=True) if known is None]
                return [*silent, *jobs[start + len(group) :]]
        return []
