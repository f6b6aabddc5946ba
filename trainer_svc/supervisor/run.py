"""A run in the service's memory: its folder, and what must not be read again each time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from trainer_svc.domain.runs import Ending, RunKey, RunOutcome, RunPhase
from trainer_svc.supervisor.progress import ProgressReader
from trainer_svc.supervisor.run_folder import STREAM_FILES, RunFolder
from trainer_svc.supervisor.service_log import ServiceLog


class Run:
    """One run. Everything here can be read again from its folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.key: RunKey = folder.key
        self.log = ServiceLog(folder.stream_file("service"))
        self.progress = ProgressReader(folder)
        self.gpu_ids: Sequence[str] = (folder.spec() or {}).get("gpu_ids", ())
        self.phase = folder.phase()
        self.ending: Ending | None = folder.ending()
        marks = folder.marks()
        self.tombstone: bool = "tombstone" in marks
        self.acknowledged: bool = bool(marks.get("acknowledged"))
        self.fenced: bool = bool(marks.get("fenced"))
        self.publication_refused: str = marks.get("publication_refused", "")
        self.collected: bool = bool(marks.get("collected"))
        self.acks: dict[str, int] = dict(marks.get("acks", {}))
        self.reported: RunPhase | None = None
        """The phase that the scheduler last took from this incarnation."""
        self.life: asyncio.Task[None] | None = None
        self.stopper: asyncio.Task[None] | None = None

    @property
    def holds_slot(self) -> bool:
        """True until the whole tree is gone."""
        return self.phase in (RunPhase.PREPARING, RunPhase.RUNNING)

    @property
    def unspawned(self) -> bool:
        """Its folder was made, and the service ended before it could start the shim."""
        return self.phase is RunPhase.PREPARING and self.life is None

    @property
    def awaits_publication(self) -> bool:
        """Its result is staged, and nobody has said yet that it must not be published."""
        return (
            self.phase is RunPhase.ENDED
            and self.ending is not None
            and self.ending.outcome is RunOutcome.COMPLETED
            and not self.fenced
            and not self.publication_refused
        )

    @property
    def final(self) -> bool:
        """Nothing will be added to it any more."""
        return not self.holds_slot and not self.awaits_publication

    @property
    def streams(self) -> Sequence[str]:
        """The feed streams that can still be read."""
        return () if self.tombstone or self.collected else tuple(STREAM_FILES)

    def stream_closed(self, stream: str) -> bool:
        """True if nothing will be added to a stream."""
        return self.final if stream == "service" else not self.holds_slot

    def end(self, ending: Ending, end_time: datetime | None = None) -> None:
        """Records how it ended, durably."""
        self.folder.write_ending(ending, end_time or datetime.now(UTC))
        self.ending = ending
        self.phase = RunPhase.ENDED
        self.keep_acks()

    def acknowledge(self) -> None:
        """The scheduler has recorded its end."""
        if self.final and not self.acknowledged:
            self.folder.mark(acknowledged=True)
            self.acknowledged = True

    def fence(self) -> None:
        """It must never be published."""
        if self.phase is not RunPhase.PUBLISHED and not self.fenced:
            self.folder.mark(fenced=True)
            self.fenced = True

    def refuse_publication(self, why: str) -> None:
        """The scheduler does not want its result any more (a cancel came first)."""
        self.folder.mark(publication_refused=why)
        self.publication_refused = why

    def ack(self, stream: str, position: int) -> None:
        """A monitor has stored a stream up to a position."""
        if position > self.acks.get(stream, -1):
            self.acks[stream] = position
            self.keep_acks()

    def keep_acks(self) -> None:
        """Only the acknowledgement of a whole stream matters after a restart."""
        if self.final and self.acks:
            self.folder.mark(acks=dict(self.acks))

    @property
    def fully_read(self) -> bool:
        """A monitor has stored each of its streams to the end."""
        return all(
            self.acks.get(stream, 0) >= self.folder.stream_size(stream) for stream in self.streams
        )
