"""Who leads: the generation that this process took, and the database's identity.

Only the leader dispatches, expires and answers trainers; each of its
transactions checks the generation, so a leader that was replaced while it slept
changes nothing.
"""

from __future__ import annotations

from scheduler_svc.application.liveness import Liveness
from scheduler_svc.application.ports import Clock, Ids, Installation, Store
from scheduler_svc.domain.errors import NotLeader

POSITIONS_PER_SECOND = 1_000_000
"""More than events are ever written; 2 ** 53 positions last until the year 2255."""


class Lead:
    """The lead of this process. Not taken at first."""

    def __init__(self, store: Store, clock: Clock, ids: Ids, liveness: Liveness) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._liveness = liveness
        self._taken: Installation | None = None

    def take_lead(self) -> Installation:
        """Makes a new generation and grants every trainer a new lease. Call once, at start.

        A database that was put back to an older copy must not give out again what was
        given out since: trainers ignore a generation that they have passed, and monitors
        read on from a position that they have passed. So both go on from the wall clock.
        """
        seconds = self._clock.now().timestamp()
        with self._store.write() as tx:
            taken = tx.take_lead(
                self._ids.new_uuid(),
                generation_min=int(seconds),
                position_min=int(seconds * POSITIONS_PER_SECOND),
            )
            trainers = tx.trainers()
        self._liveness.restart(
            [one.trainer_id for one in trainers if one.lost_time is None], self._clock.monotonic()
        )
        self._taken = taken
        return taken

    @property
    def installation(self) -> Installation:
        """Raises NotLeader if the lead was never taken."""
        if self._taken is None:
            raise NotLeader(0, 0)
        return self._taken

    @property
    def generation(self) -> int:
        """Grows with each scheduler that takes the lead. Raises NotLeader."""
        return self.installation.generation

    @property
    def database_uuid(self) -> str:
        """The source of the feed, and the identity of this installation. Raises NotLeader."""
        return self.installation.database_uuid
