"""What must hold after a soak, by the contract alone: RPCs, and the output root that users see.

Owns the verdict: lost, doubled, stuck. Knows nothing of how a service works.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from tunewright import Client
from tunewright.v1 import feed_pb2, job_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from tests.soak.load import Asked, Load
from tests.soak.watching import Watchers

SETTLE_SECONDS = 180.0
FEED_SECONDS = 60.0


@dataclass
class Verdict:
    """What was found; all lists are empty when all is well."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.doubled or self.stuck or self.wrong)


class Checker:
    """Asks about every job that was acknowledged."""

    def __init__(self, client: Client, monitor_address: str, outputs: Path) -> None:
        self._client = client
        self._monitor_address = monitor_address
        self._outputs = outputs

    def settle(self, load: Load) -> list[Asked]:
        """Waits until all jobs have ended; those that have not after SETTLE_SECONDS."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (left := load.look()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return left

    def verdict(self, load: Load, stuck: Sequence[Asked], watchers: Watchers) -> Verdict:
        """The whole verdict; jobs that somebody deleted are asked nothing."""
        found = Verdict(stuck=[self._words(one) for one in stuck])
        found.lost += load.vanished
        found.wrong += load.changed_ends + load.refused
        feeds: dict[str, list[feed_pb2.Entry]] = {}
        for asked in load.jobs:
            if asked.deleted or not asked.ended_as:
                continue
            found.outcomes[asked.ended_as] = found.outcomes.get(asked.ended_as, 0) + 1
            feeds[asked.name] = self._feed(asked, found)
            self._output(asked, found)
        found.wrong += watchers.broken(feeds)
        held = [one.name for one in self._client.trainers.list() if one.cpu_slots_used or one.jobs]
        if not stuck:
            found.stuck += [f"{name}: a slot is still held" for name in held]
        return found

    def _words(self, asked: Asked) -> str:
        job = self._client.jobs.get(asked.name)
        return f"{asked.name}: {job.state}, attempt {job.attempt}, {job.pending_reason!r}"

    def _feed(self, asked: Asked, found: Verdict) -> list[feed_pb2.Entry]:
        """The job's entries: numbered without a gap, one terminal entry, and that the last."""
        final = job_pb2.JobState.Value(f"JOB_STATE_{asked.ended_as}")
        deadline = time.monotonic() + FEED_SECONDS
        while True:
            entries = self._stored(asked.name)
            ends = [one for one in entries if one.state_change.to == final]
            if ends or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        if not ends:
            found.lost.append(f"{asked.name}: its end is not in the feed")
        if len(ends) > 1:
            found.doubled.append(f"{asked.name}: {len(ends)} terminal entries")
        numbers = [one.sequence for one in entries]
        if numbers != list(range(1, len(entries) + 1)):
            found.lost.append(f"{asked.name}: its sequence has a gap")
        return entries

    def _stored(self, job: str) -> list[feed_pb2.Entry]:
        with grpc.insecure_channel(self._monitor_address) as channel:
            stub = monitor_service_pb2_grpc.MonitorServiceStub(channel)
            request = monitor_service_pb2.ListEntriesRequest(job=job, page_size=1000)
            entries: list[feed_pb2.Entry] = []
            while True:
                page = stub.ListEntries(request, timeout=30)
                entries += page.entries
                if not page.next_page_token:
                    return entries
                request.page_token = page.next_page_token

    def _output(self, asked: Asked, found: Verdict) -> None:
        """A result where and only where the job SUCCEEDED, of the attempt that says so."""
        job = self._client.jobs.get(asked.name)
        manifest = self._outputs / job.spec.output_dir / "manifest.json"
        if not job.succeeded:
            if manifest.exists():
                found.doubled.append(f"{asked.name}: {job.state}, and its result is published")
            return
        if not manifest.exists():
            found.lost.append(f"{asked.name}: SUCCEEDED without a result")
            return
        written = json.loads(manifest.read_text())
        if (written["job"], written["attempt"]) != (job.name, job.attempt):
            found.doubled.append(f"{asked.name}: the result is attempt {written['attempt']}'s")
