"""A GPU host below its trainer service: disk, kernel, process trees, and what training does.

This is the part that is modelled: shim and child behave as trainer_svc/child
does, seen from outside (which file appears when, what a signal leads to). A
killed service leaves all of it alone; a reboot ends every process and loses
what a child had written and nobody had synced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.v1 import feed_pb2

from tests.simulation.disk import ArtifactStore, OutputRoot, RunFiles
from tests.simulation.history import Event, History
from tests.simulation.virtual_time import Process, World
from tests.simulation.wall import WallClock
from trainer_svc.domain.classify import ExitRecord, ResultRecord
from trainer_svc.domain.runs import RunKey, StopMode
from trainer_svc.supervisor.processes import Identity

_SYNCED_AFTER_SECONDS = 6.0


@dataclass(frozen=True)
class Training:
    """What one child will do, drawn before it starts."""

    shim_seconds: float
    child_seconds: float
    step_seconds: float
    steps_total: int
    checkpoint_every: int
    fails_at_step: int | None
    failure: str
    """Cause that the child tells; "" for a death without a word."""
    ignores_sigterm: bool
    shim_dies_at_step: int | None


class Tree:
    """The processes of one run: shim and child."""

    def __init__(self, host: Host, key: RunKey, pid: int, training: Training) -> None:
        self.host = host
        self.key = key
        self.pid = pid
        self.training = training
        self.shim_lives = True
        self.child_lives = False
        self.has_lock = False
        self.exit_code: int | None = None
        self.step = 0
        self._stop: StopMode | None = None
        self._kill_at: float | None = None
        self._killed_by_shim = False
        self._first_step = True

    @property
    def alive(self) -> bool:
        """Whether any process of it lives."""
        return self.shim_lives or self.child_lives

    @property
    def files(self) -> RunFiles:
        """Its folder."""
        return self.host.files[self.key]

    def _after(self, seconds: float, step: Any) -> None:
        self.host.kernel.after(seconds, step)

    # --- the shim

    def begin(self) -> None:
        """Popen has returned."""
        self._after(self.training.shim_seconds, self._lock)

    def _lock(self) -> None:
        if not self.shim_lives:
            return
        other = any(one.has_lock for one in self.host.trees_of(self.key) if one is not self)
        if other or self.files.shim is not None or self.files.exit is not None:
            self.shim_lives = False
            self.exit_code = 3
            self.host.ended(self)
            return
        self.has_lock = True
        self.files.shim = self.host.identity(self.pid)
        self._after(self.training.child_seconds, self._start_child)

    def _start_child(self) -> None:
        if not self.shim_lives:
            return
        if self._stop is not None:
            self._finish(None, None)
            return
        self.child_lives = True
        self.files.child = self.host.identity(self.pid + 1)
        self.files.start_time = self.host.wall.now()
        spec = self.files.spec or {}
        if spec.get("resume"):
            self.step = self.host.store.steps.get(self.key.job_id, 0)
        self._say("started")
        self._after(self.training.step_seconds, self._train)

    def terminate(self) -> None:
        """SIGTERM came to the shim."""
        stop = self.files.stop
        if stop is None or not self.shim_lives:
            return
        now = self.host.world.now
        until = now + stop.grace_seconds
        self._kill_at = until if self._kill_at is None else min(self._kill_at, until)
        self._stop = stop.mode
        self.host.kernel.call_at(self._kill_at, self._force)
        if self.child_lives and not self.training.ignores_sigterm:
            saves = stop.mode in (StopMode.PAUSE, StopMode.TIMEOUT)
            self._after(1.5 if saves else 0.2, self._obey)

    def _obey(self) -> None:
        if not self.child_lives or self.files.result is not None:
            return
        if self._stop in (StopMode.PAUSE, StopMode.TIMEOUT) and self.step:
            self.host.store.save(self.key.job_id, self.step)
        self.files.result = ResultRecord("STOPPED")
        self._end_child(0, None)

    def _force(self) -> None:
        if self.shim_lives and self.alive and self._kill_at is not None:
            if self.host.world.now < self._kill_at:
                return
            self._killed_by_shim = True
            self._end_child(None, 9)

    def _end_child(self, code: int | None, signal: int | None) -> None:
        self.child_lives = False
        if self.shim_lives:
            self._after(0.05, lambda: self._finish(code, signal))
        else:
            self.host.ended(self)

    def _finish(self, code: int | None, signal: int | None) -> None:
        if not self.shim_lives or self.child_lives:
            return
        self.files.exit = ExitRecord(code, signal, self._killed_by_shim)
        self.files.exit_time = self.host.wall.now()
        self.shim_lives = False
        self.exit_code = 0
        self.host.ended(self)

    # --- the child

    def _train(self) -> None:
        if not self.child_lives or self.files.result is not None:
            return
        plan = self.training
        if self.step < plan.steps_total:
            self.step += 1
            self._say("metrics")
        if plan.shim_dies_at_step == self.step and self.shim_lives and not self._first_step:
            self.shim_lives = False
            self.host.history.fault("shim killed")
            self.host.ended(self)
        self._first_step = False
        if plan.fails_at_step == self.step:
            self._fail()
        elif self.step >= plan.steps_total:
            self._after(0.4, self._complete)
        else:
            if self.step % plan.checkpoint_every == 0:
                self.host.store.save(self.key.job_id, self.step)
            self._after(plan.step_seconds, self._train)

    def _fail(self) -> None:
        self.host.history.fault("child failed")
        if self.training.failure:
            told = {"cause": self.training.failure, "message": "as drawn"}
            self.files.result = ResultRecord("FAILED", told)
            self._end_child(1, None)
        else:
            self._end_child(None, 11)

    def _complete(self) -> None:
        if not self.child_lives or self.files.result is not None:
            return
        digest = f"sha256:{self.key.job_id}-{self.key.attempt}"
        self.host.outputs.staged[(self.key.job_id, self.key.attempt)] = digest
        self.files.digest = digest
        self.files.result = ResultRecord("COMPLETED")
        self._end_child(0, None)

    def _say(self, kind: str) -> None:
        number = len(self.files.spool) + 1
        mark = f"{self.host.name}/{self.key}/{number}"
        entry = feed_pb2.Entry()
        if kind == "metrics":
            entry.train_metrics.step = self.step
            entry.train_metrics.total_steps = self.training.steps_total
            # The rest of the mark, where a metric has room for a number.
            entry.train_metrics.tokens = number
        else:
            entry.event.type = "TRAINING_STARTED"
            entry.event.message = mark
        self.files.append("spool", entry, self.host.world.now)

    def kill_all(self) -> None:
        """SIGKILL to every process of it."""
        self.shim_lives = self.child_lives = False
        self.exit_code = -9
        self.host.ended(self)


class Host:
    """One machine."""

    def __init__(
        self,
        world: World,
        history: History,
        wall: WallClock,
        name: str,
        gpu_ids: tuple[str, ...],
        cpu_slots: int,
        store: ArtifactStore,
        outputs: OutputRoot,
    ) -> None:
        self.world = world
        self.history = history
        self.wall = wall
        self.name = name
        self.gpu_ids = gpu_ids
        self.cpu_slots = cpu_slots
        self.store = store
        self.outputs = outputs
        self.workspace: dict[str, Any] = {"uuid": f"workspace-{name}"}
        self.files: dict[RunKey, RunFiles] = {}
        self.trees: list[Tree] = []
        self.boot = 1
        self.up = True
        self.destroyed = False
        self.kernel = Process(world, f"{name} kernel 1")
        self._pid = 1000
        self._waiting: dict[int, list[Callable[[], object]]] = {}

    @property
    def boot_id(self) -> str:
        """New with each boot."""
        return f"boot-{self.name}-{self.boot}"

    def identity(self, pid: int) -> Identity:
        """Of a process of this boot."""
        return Identity(pid, pid, self.boot_id)

    def trees_of(self, key: RunKey) -> list[Tree]:
        """Living trees of one run folder."""
        return [tree for tree in self.trees if tree.key == key and tree.alive]

    def is_alive(self, shim: Identity) -> bool:
        """As trainer_svc.supervisor.processes.is_alive."""
        return shim.boot_id == self.boot_id and any(
            tree.pid == shim.pid and tree.shim_lives for tree in self.trees
        )

    def lock_is_held(self, key: RunKey) -> bool:
        """By a shim or by what it left behind."""
        return any(tree.has_lock for tree in self.trees_of(key))

    def spawn(self, key: RunKey, training: Training) -> Tree:
        """Popen of a shim."""
        self._pid += 10
        tree = Tree(self, key, self._pid, training)
        self.trees.append(tree)
        gpu_ids = (self.files[key].spec or {}).get("gpu_ids", [])
        self.history.add(
            Event(
                self.world.now,
                "tree_started",
                key.job_id,
                key.attempt,
                self.name,
                value=tree.pid,
                note=",".join(gpu_ids),
            )
        )
        tree.begin()
        return tree

    def terminate(self, shim: Identity) -> None:
        """SIGTERM to a shim that matches."""
        for tree in self.trees:
            if tree.pid == shim.pid and shim.boot_id == self.boot_id:
                tree.terminate()

    def when_gone(self, shim: Identity, tell: Callable[[], object]) -> None:
        """Calls back once this shim has ended; at once if it has."""
        if self.is_alive(shim):
            self._waiting.setdefault(shim.pid, []).append(tell)
        else:
            tell()

    def shim_ended(self, pid: int) -> None:
        """Tells who waits for it."""
        for tell in self._waiting.pop(pid, []):
            tell()

    def end_tree(self, key: RunKey) -> bool:
        """Kills whatever carries the run's marker."""
        for tree in self.trees_of(key):
            tree.kill_all()
        return True

    def ended(self, tree: Tree) -> None:
        """Called when something of a tree has ended; counts once nothing of it lives."""
        self.shim_ended(tree.pid)
        if tree.alive or tree not in self.trees:
            return
        self.trees.remove(tree)
        self.history.add(
            Event(
                self.world.now,
                "tree_ended",
                tree.key.job_id,
                tree.key.attempt,
                self.name,
                value=tree.pid,
            )
        )

    def power_off(self) -> None:
        """Everything that ran is gone, and so are lines that were never synced."""
        self.up = False
        self.kernel.kill()
        for tree in list(self.trees):
            tree.kill_all()
        for files in self.files.values():
            unsynced = [
                line for line in files.spool if line.time > self.world.now - _SYNCED_AFTER_SECONDS
            ]
            if unsynced:
                lost = self.world.rng.randint(0, len(unsynced))
                del files.spool[len(files.spool) - lost :]

    def power_on(self) -> None:
        """A new boot."""
        self.up = True
        self.boot += 1
        self.kernel = Process(self.world, f"{self.name} kernel {self.boot}")

    def folder_path(self, key: RunKey) -> Path:
        """A name for a run folder; nothing is there on this machine."""
        return Path(f"/simulated/{self.name}/runs/{key.job_id}/{key.attempt}")
