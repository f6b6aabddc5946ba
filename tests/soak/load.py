"""Jobs that come all the time, and what people do to them: cancel, pause, resume, delete.

Owns what was asked and what was acknowledged: only that can be lost. Uses the
SDK alone, as a user's program would, and takes an unreachable service for what
it is.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tunewright import Client
from tunewright.errors import TunewrightError, Unavailable
from tunewright.jobs import Job

from tests.faults.harness import training
from tests.support.assets import Assets

OPEN_MAX = 8
"""Jobs that have not ended, at most."""
REAL_EVERY = 6
"""One job in so many trains a tiny model for real."""
VERBS = ("cancel", "pause", "resume")


@dataclass
class Asked:
    """One acknowledged job, and what was asked of it."""

    name: str
    real: bool
    verbs: list[str] = field(default_factory=list)
    ended_as: str = ""
    """The first terminal state that was seen."""
    deleted: bool = False


class Load(threading.Thread):
    """Submits jobs and steers them, until it is stopped."""

    def __init__(self, client: Client, assets: Assets, rng: random.Random) -> None:
        super().__init__(daemon=True, name="load")
        self._client = client
        self._assets = assets
        self._rng = rng
        self._stopping = threading.Event()
        self._number = 0
        self.jobs: list[Asked] = []
        self.changed_ends: list[str] = []
        """Jobs of which two terminal states were seen, which must never be."""
        self.vanished: list[str] = []
        """Jobs that were acknowledged, not deleted, and are not there."""
        self.refused: list[str] = []
        """Answers that no fault explains."""

    def run(self) -> None:
        while not self._stopping.wait(self._rng.uniform(0.05, 0.4)):
            self._attempt(self._turn)

    def stop(self) -> None:
        """No more jobs and no more verbs; what is there goes on."""
        self._stopping.set()
        self.join(120)

    def look(self) -> list[Asked]:
        """The jobs that have not ended, as of now."""
        for asked in self.jobs:
            if not asked.ended_as and not asked.deleted:
                self._attempt(partial(self._see, asked))
        return [one for one in self.jobs if not one.ended_as and not one.deleted]

    def _turn(self) -> None:
        still_open = self.look()
        if len(still_open) < OPEN_MAX:
            self._submit()
        if still_open and self._rng.random() < 0.25:
            self._steer(self._rng.choice(still_open))
        ended = [one for one in self.jobs if one.ended_as and not one.deleted]
        if len(ended) > 20 and self._rng.random() < 0.2:
            self._remove(self._rng.choice(ended))

    def _submit(self) -> None:
        self._number += 1
        request_id = f"soak-{self._rng.getrandbits(64):016x}"
        real = self._number % REAL_EVERY == 0
        make = self._real if real else self._scripted
        # The same request id for every try: an answer that was lost makes no second job.
        job = self._insist(lambda: make(request_id))
        if job is not None:
            self.jobs.append(Asked(job.name, real))

    def _insist(self, call: Callable[[], Job]) -> Job | None:
        while not self._stopping.is_set():
            try:
                return call()
            except Unavailable:
                self._stopping.wait(0.2)
        return None

    def _scripted(self, request_id: str) -> Job:
        rng = random.Random(request_id)
        plan = training(steps=rng.randint(5, 60), save_every=rng.choice((0, 5)), pause_seconds=0.05)
        end = rng.choices(
            (["complete"], ["exit", 3], ["fail", "FAILURE_CAUSE_DATASET_INVALID", "bad"]),
            weights=(8, 1, 1),
        )[0]
        return self._client.jobs.create(
            model="some/model",
            train_data=["some/data"],
            accelerator="cpu",
            system_prompt=json.dumps([plan, end]),
            output_dir=f"soak/{request_id}",
            retry_backoff=0.1,
            labels={"kind": "scripted"},
            request_id=request_id,
        )

    def _real(self, request_id: str) -> Job:
        return self._client.jobs.create(
            model=self._assets.model,
            train_data=[self._assets.train],
            accelerator="cpu",
            trainer="trainers/real",
            hyperparameters={
                "max_steps": 60, "save_steps": 20, "logging_steps": 5, "learning_rate": 1e-3,
                "max_length": 128, "seed": random.Random(request_id).randint(0, 1000),
            },
            output_dir=f"soak/{request_id}",
            retry_backoff=0.1,
            labels={"kind": "real"},
            request_id=request_id,
        )  # fmt: skip

    def _steer(self, asked: Asked) -> None:
        job = self._client.jobs.get(asked.name)
        verb = "resume" if job.state == "PAUSED" else self._rng.choice(VERBS)
        getattr(job, verb)()
        asked.verbs.append(verb)

    def _remove(self, asked: Asked) -> None:
        self._client.jobs.delete(asked.name)
        asked.deleted = True

    def _see(self, asked: Asked) -> None:
        job = self._client.jobs.get(asked.name)
        if job.state == "PAUSED" and self._stopping.is_set():
            job.resume()
        if job.is_terminal:
            asked.ended_as = asked.ended_as or job.state
            if asked.ended_as != job.state:
                self.changed_ends.append(f"{asked.name}: {asked.ended_as}, then {job.state}")

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Unavailable:
            return
        except TunewrightError as error:
            reason = getattr(error, "reason", "")
            if reason == "JOB_NOT_FOUND":
                self.vanished.append(str(error))
            elif reason not in FORBIDDEN:
                self.refused.append(f"{type(error).__name__} {reason}: {error}")


FORBIDDEN = frozenset({"FORBIDDEN_MOVE", "STALE_ETAG"})
"""A verb that came too late for the job's state: nothing is wrong."""
