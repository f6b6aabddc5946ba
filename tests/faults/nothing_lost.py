"""What must hold after every fault: nothing was lost, nothing was done twice, nothing is left.

Asked of the services themselves: the record of the scheduler, the feed of the
monitor; and of the disk and the kernel.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import grpc
from tunewright.jobs import Job
from tunewright.v1 import feed_pb2, job_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from tests.faults.harness import PATIENCE_SECONDS, Installation, processes_of
from tests.support.eventually import eventually_sync


def check_nothing_lost(
    installation: Installation,
    job: Job,
    state: str = "SUCCEEDED",
    attempts: int = 1,
    *,
    away: Collection[str] = (),
) -> list[feed_pb2.Entry]:
    """The job's whole feed, once everything else was found to be as it must be.

    away: trainers that have not come back; their slots may still be held.
    """
    installation.await_state(job, "SUCCEEDED", "FAILED", "CANCELLED")
    assert (job.state, job.attempt) == (state, attempts), job.proto
    entries = whole_feed(installation, job)
    check_published(installation, job, entries, attempts if state == "SUCCEEDED" else 0)
    check_nothing_held(installation, away)
    for name in installation.trainers:
        assert processes_of(installation.workspace(name)) == []
    assert job.refresh().state == state
    return entries


def whole_feed(installation: Installation, job: Job) -> list[feed_pb2.Entry]:
    """All entries of an ended job: gapless from 1, the terminal entry last."""
    final = job.proto.state

    def complete() -> list[feed_pb2.Entry] | None:
        entries = stored_entries(installation, job)
        return entries if any(one.state_change.to == final for one in entries) else None

    entries = eventually_sync(complete, PATIENCE_SECONDS, f"the end of {job.name} in the feed")
    assert entries is not None
    assert [one.sequence for one in entries] == list(range(1, len(entries) + 1))
    assert [one for one in entries if one.HasField("gap")] == []
    assert entries[-1].state_change.to == final, entries[-1]
    moves = [one.state_change for one in entries if one.HasField("state_change")]
    assert [one.to for one in moves].count(final) == 1
    begins = [getattr(one, "from") for one in moves]
    assert begins[1:] == [one.to for one in moves[:-1]], moves
    return entries


def await_whole_run(installation: Installation, trainer: str, job: Job, attempt: int = 1) -> None:
    """Returns once the monitor has all that an ended run has said, be it given away or not."""
    installation.await_file(trainer, job, "end.json", attempt)
    folder = installation.run(trainer, job, attempt)

    def whole() -> bool:
        files = [folder / name for name in ("spool.jsonl", "service.jsonl", "stdout.log")]
        said = sum(file.read_bytes().count(b"\n") for file in files if file.exists())
        stored = [
            one
            for one in stored_entries(installation, job)
            if one.attempt == attempt and not one.HasField("state_change")
        ]
        return len(stored) >= said

    eventually_sync(whole, PATIENCE_SECONDS, f"all of {job.name} on {trainer} in the feed")


def stored_entries(installation: Installation, job: Job) -> list[feed_pb2.Entry]:
    """What the monitor has of a job, read page by page."""
    with grpc.insecure_channel(installation.monitor.address) as channel:
        stub = monitor_service_pb2_grpc.MonitorServiceStub(channel)
        request = monitor_service_pb2.ListEntriesRequest(job=job.name, page_size=1000)
        entries: list[feed_pb2.Entry] = []
        while True:
            try:
                page = stub.ListEntries(request, timeout=10)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return []  # nothing of it has come to the monitor yet
                raise
            entries += page.entries
            if not page.next_page_token:
                return entries
            request.page_token = page.next_page_token


def check_published(
    installation: Installation, job: Job, entries: Sequence[feed_pb2.Entry], attempt: int
) -> None:
    """Exactly one publication, by this attempt; attempt 0: none at all."""
    output = installation.outputs / job.spec.output_dir
    runs = [installation.workspace(one) / "runs" / job.id for one in installation.trainers]
    records = [file for run in runs for file in run.glob("*/published.json")]
    told = [one for one in entries if one.event.type == "PUBLISHED"]
    if attempt == 0:
        assert (output.exists(), records, told) == (False, [], [])
        return
    assert [int(file.parent.name) for file in records] == [attempt]
    assert [one.attempt for one in told] == [attempt]
    manifest = json.loads((output / "manifest.json").read_text())
    assert (manifest["job"], manifest["attempt"]) == (job.name, attempt)
    assert sorted(manifest["files"]) == sorted(
        one.name for one in output.iterdir() if one.name != "manifest.json"
    )


def check_nothing_held(installation: Installation, away: Collection[str] = ()) -> None:
    """No slot of a trainer that is there is held."""

    def held() -> list[tuple[str, int, list[str]]]:
        return [
            (one.name, one.cpu_slots_used, list(one.jobs))
            for one in installation.client.trainers.list()
            if one.name.removeprefix("trainers/") not in away and (one.cpu_slots_used or one.jobs)
        ]

    eventually_sync(lambda: not held(), PATIENCE_SECONDS, "no slot is held")


def steps(entries: Sequence[feed_pb2.Entry], attempt: int = 1) -> list[int]:
    """The steps that an attempt logged, in the feed's order."""
    return [
        one.train_metrics.step
        for one in entries
        if one.HasField("train_metrics") and one.attempt == attempt
    ]


def events(entries: Sequence[feed_pb2.Entry], attempt: int = 0) -> list[str]:
    """The types of an attempt's events, or of all."""
    return [
        one.event.type for one in entries if one.HasField("event") and attempt in (0, one.attempt)
    ]


def moves(entries: Sequence[feed_pb2.Entry]) -> list[str]:
    """The states that the job went through, QUEUED first."""
    return [
        job_pb2.JobState.Name(one.state_change.to).removeprefix("JOB_STATE_")
        for one in entries
        if one.HasField("state_change")
    ]
