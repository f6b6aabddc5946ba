"""When a schedule has settled, and how everything stands then: told to the history.

Looks at the disks of the nodes, which nobody in the schedule can; changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright.v1 import feed_pb2

from scheduler_svc.domain.job import JobId, TrainerId
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.states import TERMINAL, JobState
from tests.simulation import clients
from tests.simulation.history import Event

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

_TRAINER_EVENTS = ("TRAINING_STARTED", "RUN_FAILED", "PUBLISHED", "ADOPTED")


def unsettled(sim: Simulation) -> list[str]:
    """What still has to happen."""
    records = sim.database.records
    found = [
        f"jobs/{job_id} is {job.state.name}"
        for job_id, job in records.jobs.items()
        if job.state not in TERMINAL and not waits_for_a_person(sim, job_id)
    ]
    gone = {node.host.name for node in sim.trainers if node.host.destroyed}
    found += [
        f"slot of {slot.job_id}/{slot.attempt} on {slot.trainer_id}"
        for slot in records.slots.values()
        if slot.trainer_id not in gone
    ]
    living = [tree.key for node in sim.trainers for tree in node.host.trees]
    found += [f"processes of {key} live" for key in living]
    source = records.installation.get(1)
    if source is not None:
        stored = [one.position for one in sim.monitor_store.cursors(source.database_uuid, 10)]
        if (stored or [0])[0] < max(records.events, default=0):
            found.append("the monitor lacks events of the scheduler")
    found += [f"{held.job} is held back" for held in sim.monitor_store.held()]
    return found + _unread(sim)


def _unread(sim: Simulation) -> list[str]:
    positions = sim.monitor_store._positions()
    found = []
    for node in sim.trainers:
        if node.host.destroyed:
            continue
        source = node.host.workspace["uuid"]
        for key, files in node.host.files.items():
            for stream in ("spool", "service"):
                lines = files.stream(stream)
                name = f"runs/{key.job_id}/{key.attempt}/{stream}"
                if lines and positions.get((source, name), 0) < lines[-1].after:
                    found.append(f"the monitor lacks lines of {source} {name}")
    return found


def waits_for_a_person(sim: Simulation, job_id: JobId) -> bool:
    """HELD and PAUSED do; and a queued job that no host that is left could ever run."""
    job = sim.database.records.jobs[job_id]
    if job.state in (JobState.HELD, JobState.PAUSED):
        return True
    if job.state is not JobState.QUEUED:
        return False
    need = Requirement.of(job.spec)
    for node in sim.trainers:
        host = node.host
        fits = len(host.gpu_ids) >= need.gpu_count if not need.on_cpu else host.cpu_slots > 0
        named = need.trainer_id in (None, host.name)
        if fits and named and not host.destroyed:
            return False
    return True


def record_end(sim: Simulation) -> None:
    now, add = sim.world.now, sim.history.add
    records = sim.database.records
    for text in sim.world.problems:
        add(Event(now, "problem", note=text))
    for job_id, job in records.jobs.items():
        note = "ended" if job.state in TERMINAL else "goes on"
        if waits_for_a_person(sim, job_id):
            note = "waits for a person"
        add(Event(now, "final_job", job_id, job.attempt, state=job.state.value, note=note))
    gone = {node.host.name for node in sim.trainers if node.host.destroyed}
    for key, slot in records.slots.items():
        if slot.trainer_id not in gone:
            add(Event(now, "final_slot", key.job_id, key.attempt, slot.trainer_id))
    for node in sim.trainers:
        for tree in node.host.trees:
            add(Event(now, "final_tree", tree.key.job_id, tree.key.attempt, node.host.name))
    _record_fleet(sim, gone)
    _record_feeds(sim)
    _record_stored(sim)


def _record_fleet(sim: Simulation, gone: set[str]) -> None:
    assert sim.scheduler is not None  # it was started again when the faults stopped
    heard = {
        host.trainer_id: host.state.value for host in sim.scheduler.scheduler.fleet.list(1000).hosts
    }
    for node in sim.trainers:
        name = node.host.name
        if name not in gone:
            state = heard.get(TrainerId(name), "unknown")
            sim.history.add(Event(sim.world.now, "final_trainer", place=name, state=state))


def _record_feeds(sim: Simulation) -> None:
    now, add = sim.world.now, sim.history.add
    for _, (job_id, payload) in sorted(sim.database.records.events.items()):
        entry = feed_pb2.Entry.FromString(payload)
        add(Event(now, "feed", job_id, entry.attempt, note=clients.describe(entry)))
        if entry.WhichOneof("payload") == "state_change" and entry.state_change.final_cursors:
            add(Event(now, "end_was_reported", job_id, entry.attempt))
    for node in sim.trainers:
        if node.host.destroyed:
            continue
        for key, files in node.host.files.items():
            for line in files.spool:
                note = clients.describe(line.entry)
                add(Event(now, "line", key.job_id, key.attempt, node.host.name, note=note))


def _record_stored(sim: Simulation) -> None:
    now, add = sim.world.now, sim.history.add
    for name, known in sim.monitor_store._jobs.items():
        job = name.removeprefix("jobs/")
        for stored in known.entries:
            if stored.gap is not None:
                add(Event(now, "stored_gap", job, note=stored.gap.gap.reason))
            entry = stored.entry
            kind = entry.WhichOneof("payload")
            scheduler = kind == "state_change" or (
                kind == "event" and entry.event.type not in _TRAINER_EVENTS
            )
            add(
                Event(
                    now,
                    "stored",
                    job,
                    entry.attempt,
                    source="scheduler" if scheduler else "trainer",
                    value=stored.sequence,
                    note=clients.describe(entry),
                )
            )
