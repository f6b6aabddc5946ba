"""What the monitor needs of a store. Synchronous; callers make the hop to a thread.

Every method is one transaction. Refuses with DatabaseBusy or
DatabaseUnavailable; what was refused has not happened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence, Set
from typing import Protocol, TypeVar

from monitor_svc.domain.admission import Outcome
from monitor_svc.domain.records import (
    Appended,
    Arrival,
    Cursor,
    Head,
    Held,
    JobPage,
    Labels,
    LogPage,
    Retention,
    Source,
    Trimmed,
)

T = TypeVar("T")


class Hop(Protocol):
    """Runs a store's method on a thread."""

    def __call__(self, function: Callable[..., T], /, *args: object) -> Awaitable[T]:
        """As svckit.database.Database.run."""


class JobDirectory(Protocol):
    """Knows which jobs exist: the scheduler does, who makes them."""

    async def knows(self, job: str, timeout_seconds: float) -> bool | None:
        """Whether "jobs/{job}" exists; None if that cannot be found out in time."""


class LeaseStore(Protocol):
    """Sources and who reads them."""

    def know(self, addresses: Mapping[str, str]) -> None:
        """Keeps sources by their keys, with the address of each."""

    def sources(self) -> list[Source]:
        """All sources, by key."""

    def beat(self, instance: str) -> list[Source]:
        """Lets the beat of all leases of `instance` grow; answers with all sources."""

    def claim(self, seen: Source, instance: str, name: str, epoch_min: int) -> int | None:
        """Takes the lease if it still is as `seen`; the new epoch, or None.

        The epoch grows by one at least, and is `epoch_min` at least.
        """

    def give_back(self, instance: str) -> None:
        """Frees all leases of `instance`."""

    def bind(self, key: str, epoch: int, source: str) -> bool:
        """Notes the UUID that a source calls itself; False if the epoch is not current."""

    def cursors(self, source: str, ended_max: int) -> list[Cursor]:
        """Cursors of a source's streams: the open ones, and the latest `ended_max` ended ones."""


class WriteStore(Protocol):
    """The way in."""

    def append(self, arrivals: Sequence[Arrival], now: float) -> tuple[list[Outcome], Appended]:
        """Stores what arrived, with its cursors; one outcome for each arrival.

        `now` is wall-clock seconds, for retention.
        """

    def release_held(self, key: str, epoch: int, expired: Set[int], now: float) -> Appended | None:
        """Appends held entries that are complete or `expired`; None if the epoch is not current."""

    def held(self) -> list[Held]:
        """Entries that are held back, oldest first."""

    def set_labels(self, job: str, labels: Labels) -> None:
        """Sets a job's labels. The first time, its entries get new positions at the log's end:

        for those who select by label they happen now.
        """

    def jobs_without_labels(self, limit: int) -> list[str]:
        """Jobs whose labels are not known, or no longer right."""

    def trim(self, retention: Retention, now: float, jobs_max: int) -> int:
        """Removes what retention does not keep, of `jobs_max` jobs at most; how many it were."""


class ReadStore(Protocol):
    """The way out."""

    def position(self) -> int:
        """The position of the log's last entry."""

    def heads(self, jobs: Collection[str]) -> dict[str, Head]:
        """Heads of those of `jobs` that there are."""

    def read_job(self, job: str, after: int, limit: int, kinds: Collection[int] = ()) -> JobPage:
        """Entries of a job after a sequence, of some kinds or (empty) of all."""

    def read_log(
        self,
        after: int,
        limit: int,
        selector: Labels | None = None,
        kinds: Collection[int] = (),
    ) -> LogPage:
        """Entries after a position, of jobs whose labels are known and match `selector`.

        Without a selector: of all jobs.
        """

    def trimmed_since(self, position: int, selector: Labels) -> list[Trimmed]:
        """Matching jobs of which retention has removed entries after `position`."""

    def start_of_tail(self, job: str, kind: int, count: int) -> int:
        """The sequence after which the last `count` entries of a kind come."""


class Store(LeaseStore, WriteStore, ReadStore, Protocol):
    """All of it."""
