"""One schedule: the nodes, what befalls them, and how it all stands when it has settled.

Everything is drawn from the seed. After a while the faults stop; then every job
has a bounded time to come to its end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from scheduler_svc.domain.job import JobId
from scheduler_svc.domain.run import RunKey as SchedulerRunKey
from scheduler_svc.domain.states import JobState
from tests.simulation import invariants, settled
from tests.simulation.clients import Client, Subscriber, Wishes
from tests.simulation.database import Database
from tests.simulation.disk import ArtifactStore, OutputRoot
from tests.simulation.history import Event, History
from tests.simulation.host import Host, Training
from tests.simulation.monitor_node import MonitorService
from tests.simulation.network import Network, Weather
from tests.simulation.parts import Outcome, Parts
from tests.simulation.scheduler_node import Interlopers, SchedulerService, SimIds
from tests.simulation.trainer_node import TrainerService
from tests.simulation.virtual_time import Process, World
from tests.simulation.wall import WallClock
from trainer_svc.domain.runs import RunKey
from trainer_svc.supervisor.workspace import incarnation_of

SETTLE_SECONDS_MAX = 1_500.0
_SETTLE_STEP_SECONDS = 10.0
_FAILURES = (
    "",
    "",
    "FAILURE_CAUSE_CRASHED",
    "FAILURE_CAUSE_HUNG",
    "FAILURE_CAUSE_DATASET_INVALID",
)


@dataclass
class TrainerNode:
    """A host and the service that runs on it."""

    host: Host
    process: Process | None = None
    service: TrainerService | None = None
    starts: int = 0


class Simulation:
    """Nodes and the verbs that faults use on them."""

    def __init__(self, seed: int, parts: Parts) -> None:
        self.seed = seed
        self.parts = parts
        self.rng = random.Random(seed)
        self.history = History()
        self.world = World(self.rng)
        self.air = Process(self.world, "air")
        self.network = Network(self.world, self.history, self.air)
        self.database = Database(self.world, self.history)
        self.outputs = OutputRoot(self.history, self.world)
        self.monitor_store = parts.monitor_store_class()
        self.wall = WallClock(self.world)
        self.calm = False
        self.hazard_chance = 0.0
        self.interlopers = Interlopers(self.rng, self._interloped)
        self.scheduler: SchedulerService | None = None
        self.scheduler_process: Process | None = None
        self.monitor: MonitorService | None = None
        self.monitor_process: Process | None = None
        self.trainers = self._hosts()
        self._clients_process = Process(self.world, "clients")
        self.clients = [
            Client(self.world, self.history, self.network, self._clients_process, f"client-{index}")
            for index in range(2)
        ]
        self.subscribers: list[Subscriber] = []
        self.jobs_created = 0
        self._jobs_named = 0
        self._starts = 0

    # --- nodes

    def _hosts(self) -> list[TrainerNode]:
        shared = ArtifactStore("store-shared")
        is_shared = self.rng.random() < 0.75
        nodes = []
        for number in range(1, self.rng.choice((1, 2, 2, 3, 3, 4)) + 1):
            name = f"t{number}"
            store = shared if is_shared else ArtifactStore(f"store-{name}")
            gpus = self.rng.choice((0, 0, 1, 2))
            gpu_ids = tuple(str(index) for index in range(gpus))
            cpu_slots = self.rng.choice((1, 2)) if not gpus else self.rng.choice((0, 1))
            host = Host(
                self.world,
                self.history,
                WallClock(self.world),
                name,
                gpu_ids,
                cpu_slots,
                store,
                self.outputs,
            )
            nodes.append(TrainerNode(host))
            self.history.add(
                Event(self.world.now, "host", place=name, value=cpu_slots, note=",".join(gpu_ids))
            )
        return nodes

    def _process(
        self, name: str, restart: Callable[[], None], least: float, most: float
    ) -> Process:
        """A service under a supervisor: if it dies, it is started again after a while."""
        self._starts += 1
        process = Process(self.world, f"{name} {self._starts}")
        process.hazard = lambda point: self._hazard(process, point)
        process.hop_delay = self._hop_delay

        def again() -> None:
            delay = 1.0 if self.calm else self.rng.uniform(least, most)
            self.air.after(delay, restart)

        process.on_death = again
        self.history.add(Event(self.world.now, "started", place=process.name))
        return process

    def _hazard(self, process: Process, point: str) -> None:
        if self.hazard_chance and self.rng.random() < self.hazard_chance:
            self.history.fault(f"killed {point}")
            self.history.add(Event(self.world.now, "killed", place=process.name, note=point))
            process.die()

    def _hop_delay(self) -> float:
        return 0.0 if self.rng.random() < 0.9 else 0.2 * self.rng.random()

    def start_scheduler(self) -> None:
        """Starts one, unless one runs."""
        if self.scheduler_process is not None and self.scheduler_process.alive:
            return
        self.replace_scheduler()

    def replace_scheduler(self) -> None:
        """Starts another one, whatever became of the one before."""
        process = self._process("scheduler", self.start_scheduler, 0.5, 25.0)
        store = self.parts.store_class(self.database, process)
        ids = SimIds(self.rng, self._job_number)
        self.scheduler_process = process
        service = SchedulerService(
            store, process, self.network, self.wall, ids, self.parts.wrap_scheduler
        )
        self.scheduler = service
        store.interloper = lambda job_id: self.interlopers.come_between(service.scheduler, job_id)

    def _job_number(self) -> int:
        self._jobs_named += 1
        return self._jobs_named

    def start_monitor(self) -> None:
        """Starts one, unless one runs."""
        if self.monitor_process is not None and self.monitor_process.alive:
            return
        self.replace_monitor()

    def replace_monitor(self) -> None:
        """Starts another one, whatever became of the one before."""
        process = self._process("monitor", self.start_monitor, 0.5, 20.0)
        self.monitor_process = process
        self.monitor = MonitorService(self.monitor_store, process, self.network, process.name)

    def start_trainer(self, node: TrainerNode) -> None:
        """Starts the service if its host is up and none runs there."""
        if not node.host.up or (node.process is not None and node.process.alive):
            return
        node.starts += 1
        node.process = self._process(node.host.name, lambda: self.start_trainer(node), 0.5, 70.0)
        node.service = TrainerService(
            node.host,
            node.process,
            self.network,
            incarnation_of(node.starts, node.host.name),
            self.training,
            self.parts.upstream_class,
        )

    def training(self, _key: RunKey) -> Training:
        """What a child will do."""
        rng = self.rng
        total = rng.randint(4, 10)
        fails = not self.calm and rng.random() < 0.2
        shim_dies = not self.calm and rng.random() < 0.06
        return Training(
            shim_seconds=rng.uniform(0.05, 0.6),
            child_seconds=rng.uniform(0.2, 1.5),
            step_seconds=rng.uniform(0.8, 4.0),
            steps_total=total,
            checkpoint_every=rng.randint(1, 4),
            fails_at_step=rng.randint(1, total) if fails else None,
            failure=rng.choice(_FAILURES),
            ignores_sigterm=rng.random() < 0.1,
            shim_dies_at_step=rng.randint(1, total) if shim_dies else None,
        )

    def _interloped(self, verb: str, job_id: JobId) -> None:
        self.history.fault("transaction between")
        self.history.add(Event(self.world.now, "asked", job_id, note=f"{verb} between"))

    # --- the course of a schedule

    def every(self, seconds: Callable[[], float], step: Callable[[], None]) -> None:
        """Calls `step` again and again until the faults stop."""

        def turn() -> None:
            if not self.calm:
                step()
                self.air.after(seconds(), turn)

        self.air.after(seconds(), turn)

    def create_job(self) -> None:
        """Somebody hands in a job."""
        rng = self.rng
        self.jobs_created += 1
        hosts = [node.host for node in self.trainers]
        on_gpu = rng.random() < 0.5 and any(host.gpu_ids for host in hosts)
        gpus_most = max(len(host.gpu_ids) for host in hosts)
        wishes = Wishes(
            on_gpu=on_gpu,
            gpu_count=rng.randint(1, gpus_most) if on_gpu else 0,
            attempts_max=rng.randint(2, 8),
            run_timeout_seconds=rng.choice((0, 0, 0, 15, 60)),
            priority=rng.choice((0, 0, 0, 5)),
            trainer=rng.choice(hosts).name if rng.random() < 0.1 else "",
        )
        client = rng.choice(self.clients)
        client.create(self.jobs_created, wishes, hold=rng.random() < 0.05)

    def steer_job(self) -> None:
        """Somebody wants something of a job."""
        rng = self.rng
        client = rng.choice(self.clients)
        if not client.known:
            return
        job = rng.choice(client.known)
        verb = rng.choice(_VERBS)
        self.history.add(Event(self.world.now, "asked", job, note=f"{verb}Job"))
        if verb == "Retry":
            client.retry(job, self.jobs_created * 100 + len(self.history.events) % 7)
        elif verb == "Update":
            client.reprioritise(job, rng.randint(-5, 5))
        else:
            client.steer(f"{verb}Job", job)

    def watch_subscribers(self) -> None:
        """Subscribers come, and come back."""
        for subscriber in self.subscribers:
            subscriber.watch(self.monitor)
        if self.calm or len(self.subscribers) >= 4 or self.rng.random() < 0.5:
            return
        client = self.rng.choice(self.clients)
        if client.known:
            self.subscribe(self.rng.choice(client.known))

    def subscribe(self, job: str) -> None:
        """One more follows a job from its beginning."""
        name = f"subscriber-{len(self.subscribers) + 1}"
        subscriber = Subscriber(
            self.world,
            self.history,
            self.network,
            self._clients_process,
            name,
            job,
            random.Random(f"{self.seed} {name}"),
        )
        self.history.add(Event(self.world.now, "subscribed", job, place=name))
        self.subscribers.append(subscriber)
        subscriber.connect(self.monitor)

    def begin(self) -> None:
        """Starts every node."""
        self.start_scheduler()
        self.start_monitor()
        for node in self.trainers:
            self.start_trainer(node)

    def stop_faults(self) -> None:
        """From here on nothing goes wrong any more, and what is down comes up."""
        self.calm = True
        self.hazard_chance = 0.0
        self.interlopers.chance = 0.0
        self.network.weather = Weather()
        self.network.heal_all()
        self.history.add(Event(self.world.now, "faults_stopped"))
        self.start_scheduler()
        self.start_monitor()
        for process in (self.scheduler_process, self.monitor_process):
            if process is not None and process.frozen:
                process.thaw()
        for node in self.trainers:
            if node.host.destroyed:
                continue
            if not node.host.up:
                self.power_on(node)
            if node.process is not None and node.process.frozen:
                node.process.thaw()
            self.start_trainer(node)
        self._uncordon()

    def _uncordon(self) -> None:
        for node in self.trainers:
            self.clients[0].cordon(node.host.name, off=True)

    def power_on(self, node: TrainerNode) -> None:
        """A host boots, and its service with it."""
        if node.host.up or node.host.destroyed:
            return
        node.host.power_on()
        self.network.set_up(node.host.name, is_up=True)
        self.start_trainer(node)

    def settle(self) -> None:
        """Lets everything come to its end, within a bound."""
        end = self.world.now + SETTLE_SECONDS_MAX
        begin = self.world.now
        abandoned = False
        left = ["not looked at"]
        while left and self.world.now < end:
            self.world.run_until(self.world.now + _SETTLE_STEP_SECONDS)
            self.watch_subscribers()
            left = settled.unsettled(self)
            if not abandoned and self.world.now - begin > 60.0:
                abandoned = True
                self._abandon_lost()
                self._uncordon()
        for text in left[:3]:
            self.history.add(Event(self.world.now, "unsettled", note=text))
        # Streams have what they still lack.
        self.world.run_until(self.world.now + 10.0)
        for subscriber in self.subscribers:
            subscriber.connect(self.monitor)
        self.world.run_until(self.world.now + 25.0)

    def _abandon_lost(self) -> None:
        """An administrator gives up publications of hosts that will never come back."""
        gone = {node.host.name for node in self.trainers if node.host.destroyed}
        for job_id, job in self.database.records.jobs.items():
            key = SchedulerRunKey(job_id, job.attempt)
            current = self.database.records.attempts.get(key)
            if job.state is JobState.PUBLISHING and current and current.trainer_id in gone:
                self.clients[0].steer("AbandonJob", job_id)

    def run(self, plan: Callable[[Simulation], float]) -> Outcome:
        """The whole schedule."""
        start = self.world.now
        self.begin()
        fault_seconds = plan(self)
        self.every(lambda: 5.0, self.watch_subscribers)
        self.world.run_until(start + fault_seconds)
        self.stop_faults()
        self.settle()
        settled.record_end(self)
        events = self.history.events
        outcome = Outcome(self.seed, invariants.check(events), self.history, self.world.now - start)
        self._end_processes()
        return outcome

    def _end_processes(self) -> None:
        nodes = [node.process for node in self.trainers]
        for process in (
            *nodes,
            self.scheduler_process,
            self.monitor_process,
            self._clients_process,
        ):
            if process is not None:
                process.on_death = lambda: None
                process.kill()


_VERBS = (
    "Cancel",
    "Cancel",
    "Pause",
    "Pause",
    "Resume",
    "Resume",
    "Resume",
    "Start",
    "Retry",
    "Delete",
    "Update",
    "Abandon",
)
