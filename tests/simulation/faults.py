"""What befalls the nodes of a schedule, and when: drawn from the seed, counted by kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.history import Event
from tests.simulation.network import Weather
from tests.simulation.simulation import Simulation, TrainerNode
from tests.simulation.virtual_time import Process


def draw_plan(sim: Simulation) -> float:
    """Sets up clients, weather and faults; how long they go on, in seconds."""
    rng = sim.rng
    end = rng.uniform(80.0, 180.0)
    rough = rng.choice((0.0, 0.01, 0.04))
    sim.network.weather = Weather(
        lost=rough, doubled=rng.choice((0.0, 0.03)), slow=rough, slow_seconds_max=12.0
    )
    sim.hazard_chance = rng.choice((0.0, 0.0003, 0.001, 0.002))
    sim.interlopers.chance = rng.choice((0.0, 0.03))
    for _ in range(rng.randint(2, 6)):
        sim.air.after(rng.uniform(0.0, 0.6 * end), sim.create_job)
    sim.every(lambda: rng.expovariate(1 / 12.0), sim.steer_job)
    injector = Injector(sim)
    pause = rng.choice((6.0, 12.0, 25.0))
    sim.every(lambda: rng.expovariate(1 / pause), injector.inject)
    if rng.random() < 0.04:
        injector.plan_restore(end)
    return end


@dataclass
class Injector:
    """Chooses faults and carries them out."""

    sim: Simulation
    wall_may_jump: bool = True

    def inject(self) -> None:
        """One fault."""
        kind, act = self.sim.rng.choice(self._faults())
        if act():
            self.sim.history.fault(kind)
            self.sim.history.add(Event(self.sim.world.now, "fault", note=kind))

    def _faults(self) -> tuple[tuple[str, Callable[[], bool]], ...]:
        return (
            ("scheduler killed", self.kill_scheduler),
            ("scheduler stopped", self.freeze_scheduler),
            ("scheduler replaced while stopped", self.replace_scheduler),
            ("monitor killed", self.kill_monitor),
            ("monitor stopped", self.freeze_monitor),
            ("monitor replaced while stopped", self.replace_monitor),
            ("trainer service killed", self.kill_trainer),
            ("trainer service killed", self.kill_trainer),
            ("trainer service stopped", self.freeze_trainer),
            ("host rebooted", self.reboot),
            ("host destroyed", self.destroy),
            ("partition", self.partition),
            ("partition", self.partition),
            ("one-way partition", self.partition_one_way),
            ("wall clock jumped", self.jump),
            ("trainer cordoned", self.cordon),
            ("child killed", self.kill_child),
        )

    def _later(self, least: float, most: float, step: Callable[[], None]) -> None:
        self.sim.air.after(self.sim.rng.uniform(least, most), step)

    # --- services

    def kill_scheduler(self) -> bool:
        return _kill(self.sim.scheduler_process)

    def kill_monitor(self) -> bool:
        return _kill(self.sim.monitor_process)

    def freeze_scheduler(self) -> bool:
        return self._freeze(self.sim.scheduler_process, 3.0, 60.0)

    def freeze_monitor(self) -> bool:
        return self._freeze(self.sim.monitor_process, 3.0, 40.0)

    def _freeze(self, process: Process | None, least: float, most: float) -> bool:
        if process is None or not process.alive or process.frozen:
            return False
        process.freeze()
        self._later(least, most, process.thaw)
        return True

    def replace_scheduler(self) -> bool:
        """The old one sleeps, another takes the lead, the old one wakes and must do nothing."""
        old = self.sim.scheduler_process
        if not self._freeze(old, 3.0, 20.0):
            return False
        assert old is not None
        old.on_death = lambda: None
        self.sim.replace_scheduler()
        self._later(25.0, 40.0, old.kill)
        return True

    def replace_monitor(self) -> bool:
        old = self.sim.monitor_process
        if not self._freeze(old, 3.0, 20.0):
            return False
        assert old is not None
        old.on_death = lambda: None
        self.sim.replace_monitor()
        self._later(25.0, 40.0, old.kill)
        return True

    # --- hosts

    def _node(self) -> TrainerNode:
        return self.sim.rng.choice(self.sim.trainers)

    def kill_trainer(self) -> bool:
        return _kill(self._node().process)

    def freeze_trainer(self) -> bool:
        return self._freeze(self._node().process, 3.0, 90.0)

    def kill_child(self) -> bool:
        trees = [tree for tree in self._node().host.trees if tree.child_lives]
        if not trees:
            return False
        trees[0]._end_child(None, 9)
        return True

    def reboot(self) -> bool:
        node = self._node()
        if not self._power_off(node):
            return False
        self._later(2.0, 90.0, lambda: self.sim.power_on(node))
        return True

    def destroy(self) -> bool:
        """It never comes back. Seldom, and never the last one."""
        node = self._node()
        left = [one for one in self.sim.trainers if not one.host.destroyed]
        if len(left) < 2 or self.sim.rng.random() < 0.7 or not self._power_off(node):
            return False
        node.host.destroyed = True
        return True

    def _power_off(self, node: TrainerNode) -> bool:
        if not node.host.up:
            return False
        self.sim.network.set_up(node.host.name, is_up=False)
        if node.process is not None:
            node.process.on_death = lambda: None
            node.process.kill()
        node.host.power_off()
        return True

    def jump(self) -> bool:
        if not self.wall_may_jump:
            return False
        seconds = self.sim.rng.choice((-3600.0, 3600.0, -30.0, 30.0))
        walls = [self.sim.wall, *(node.host.wall for node in self.sim.trainers)]
        self.sim.rng.choice(walls).jump(seconds)
        return True

    def cordon(self) -> bool:
        node = self._node()
        self.sim.clients[0].cordon(node.host.name)
        back = self.sim.clients[0]
        self._later(5.0, 40.0, lambda: back.cordon(node.host.name, off=True))
        return True

    # --- links

    def _ends(self) -> tuple[str, str]:
        rng = self.sim.rng
        source = rng.choice(("scheduler", "scheduler", "monitor", "client-0"))
        names = [node.host.name for node in self.sim.trainers]
        targets = names if source in ("scheduler", "monitor") else ["scheduler"]
        if source == "monitor":
            targets = [*names, "scheduler", "subscriber-1"]
        return source, rng.choice(targets)

    def partition(self) -> bool:
        one, other = self._ends()
        self._cut(one, other, self.sim.rng.uniform(2.0, 100.0), both=True)
        return True

    def partition_one_way(self) -> bool:
        one, other = self._ends()
        if self.sim.rng.random() < 0.5:
            one, other = other, one
        self._cut(one, other, self.sim.rng.uniform(2.0, 100.0), both=False)
        return True

    def _cut(self, one: str, other: str, seconds: float, *, both: bool) -> None:
        network = self.sim.network
        links = [(one, other), (other, one)] if both else [(one, other)]

        def heal() -> None:
            for link in links:
                network.heal(*link)

        for link in links:
            network.cut(*link)
        self.sim.air.after(seconds, heal)

    # --- the database

    def plan_restore(self, end: float) -> None:
        """At some time the scheduler comes up on an older, or an empty, database."""
        sim = self.sim
        # A generation is no lower than the wall clock's seconds: that is what makes trainers
        # follow an older database. An operator who also sets the clock back has to wait.
        self.wall_may_jump = False
        empty = sim.rng.random() < 0.4
        backup_at = sim.rng.uniform(0.2, 0.5) * end
        copies = []

        def back_up() -> None:
            copies.append(sim.database.backup())

        def restore() -> None:
            sim.history.fault("empty database" if empty else "older database")
            if sim.scheduler_process is not None:
                sim.scheduler_process.kill()
            sim.database.restore(type(copies[0])() if empty else copies[0])

        sim.air.after(backup_at, back_up)
        # Others lead meanwhile: what trainers are bound to is newer than the backup.
        for _ in range(sim.rng.choice((0, 3))):
            sim.air.after(sim.rng.uniform(backup_at, 0.55 * end), self.kill_scheduler)
        sim.air.after(sim.rng.uniform(0.55, 0.9) * end, restore)


def _kill(process: Process | None) -> bool:
    if process is None or not process.alive:
        return False
    process.kill()
    return True
