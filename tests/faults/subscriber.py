"""A subscriber in a thread of its own: what a user's program sees of a job."""

from __future__ import annotations

import threading

from tunewright import Client
from tunewright.v1.feed_pb2 import Entry


class Subscriber(threading.Thread):
    """Watches a job to its end, by the SDK, on a connection of its own."""

    def __init__(self, address: str, job: str, *, after_sequence: int = 0) -> None:
        super().__init__(daemon=True)
        self._address, self._job, self._after = address, job, after_sequence
        self.entries: list[Entry] = []
        self.start()

    def run(self) -> None:
        with Client(self._address) as client:
            job = client.jobs.get(self._job)
            with job.watch(after_sequence=self._after) as watch:
                for entry in watch:
                    self.entries.append(entry)

    def ended(self, timeout_seconds: float = 60.0) -> list[Entry]:
        """All that it has seen, once the stream has ended by itself."""
        self.join(timeout_seconds)
        assert not self.is_alive(), f"the stream does not end; {len(self.entries)} entries so far"
        return self.entries

    def sequences(self) -> list[int]:
        """The sequences of what it has seen; 0 for a gap."""
        return [entry.sequence for entry in list(self.entries)]
