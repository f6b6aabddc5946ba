"""Watches `swift` train: what it prints, what it logs, what it saves.

Owns the turns of that watch, what is told of it, and how a stop reaches the
processes that train. A run that is to pause is asked to save after its step;
one that has done its work and does not end is ended. Refuses nothing itself.
"""

import json
import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from tunewright.v1.feed_pb2 import SEVERITY_WARNING, TrainMetrics

from trainer_svc.child.spool import Spool
from trainer_svc.child.stopping import StopRequests
from trainer_svc.child.swift.intake import Intake
from trainer_svc.child.swift.metrics_log import GrowingLog, Translation, step_of
from trainer_svc.child.swift.output import Line, Sign, Stage, sign_of
from trainer_svc.child.swift.process import Program, Tree
from trainer_svc.child.swift.relay import Relay

TURN_SECONDS = 0.05
TOLD_EVERY_SECONDS = 10.0
MEMORY_EVERY_SECONDS = 1.0
# How long it may take to end once its last checkpoint is kept: it plots, and says goodbye.
END_SECONDS = 60.0
MILLION = 1_000_000
LOG, ARGUMENTS = "logging.jsonl", "args.json"


@dataclass(frozen=True)
class Hands:
    """What the watch works with. `devices` is how many processes train."""

    spool: Spool
    stop: StopRequests
    tree: Tree
    intake: Intake
    devices: int = 1
    end_seconds: float = END_SECONDS


class Watch:
    """One run of `swift`. `step` and `total_steps` are true at any time."""

    def __init__(
        self, program: Program, output: Path, hands: Hands, step: int, total_steps: int
    ) -> None:
        self._program = program
        self._relay = Relay(program)
        self._output = output
        self._hands = hands
        self._log = GrowingLog(output / LOG)
        self._told: dict[Stage, float] = {}
        self._stack = ExitStack()
        self._began_at: int | None = None
        self._written: int | None = None
        self._memory: tuple[float, int | None] = (float("-inf"), None)
        self._asked_at: float | None = None
        self._kept_at: float | None = None
        self.translation = Translation()
        self.step = step
        self.total_steps = total_steps
        self.ended_by_us = False

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def follow(self) -> int:
        """Returns when nothing of it runs any more; the exit code. Inside, from the first step
        on, PAUSE and TIMEOUT let it save; that ends with the context of this object.

        Raises StopNow, RunFailed, OSError.
        """
        while (code := self._program.poll()) is None:
            self._turn()
            self._steer()
        # `swift` itself may be gone, and what it ran not.
        self._hands.tree.end()
        self._hear(self._relay.drain())
        self._take_in(ended_well=code == 0)
        return code

    def _turn(self) -> None:
        self._hear(self._relay.pump(TURN_SECONDS))
        self._take_in(ended_well=False)

    def _take_in(self, ended_well: bool) -> None:
        # The first process says that it has written; when they have all gone on, all have.
        if self._written is not None and (self._hands.devices == 1 or self.step > self._written):
            self._hands.intake.heard_of(self._written)
        # In this order: an evaluation is logged before the checkpoint of its step is written.
        found = self._hands.intake.whole(ended_well)
        self._read_log()
        before = self._hands.intake.last
        self._hands.intake.take_all(found, self.translation.eval_losses)
        last = self._hands.intake.last
        if last is not None and last is not before:
            self.step = max(self.step, last.step)
            self._kept_at = time.monotonic()

    # --- what it logs

    def _read_log(self) -> None:
        for entry in self._log.read():
            at = step_of(entry)
            if at is not None:
                self._begin(*at)
                self._correct_total(at[1])
                self.step = max(self.step, at[0])
            told = self.translation.of(entry, time.monotonic())
            if isinstance(told, TrainMetrics):
                memory = self._memory_bytes()
                if memory is not None:
                    told.host_memory_bytes = memory
                self._hands.spool.train_metrics(told)
            elif told is not None:
                self._hands.spool.eval_metrics(told)

    def _memory_bytes(self) -> int | None:
        now = time.monotonic()
        if now - self._memory[0] > MEMORY_EVERY_SECONDS:  # it takes a look at every process
            self._memory = (now, self._program.memory_bytes())
        return self._memory[1]

    # --- what it prints

    def _hear(self, lines: list[Line]) -> None:
        for line in lines:
            sign = sign_of(line.text)
            if sign is not None:
                self._tell(sign)

    def _tell(self, sign: Sign) -> None:
        if sign.stage is Stage.CHECKPOINT_WRITTEN:
            if self._is_of_this_run(sign):
                self._written = int(sign.done)
        elif sign.stage is Stage.TRAINING:
            self._tell_training(sign)
        elif sign.stage is Stage.MODEL_LOADED:
            self._tell_loaded(sign)
        elif self._began_at is None and self._is_time_to_tell(sign.stage):
            self._tell_waiting(sign)

    def _is_of_this_run(self, sign: Sign) -> bool:
        expected = self._output / f"checkpoint-{int(sign.done)}"
        return os.path.realpath(sign.what) == os.path.realpath(expected)

    def _tell_training(self, sign: Sign) -> None:
        # Before the model is loaded, it is a row of the data that is printed.
        is_known = self._began_at is not None or Stage.MODEL_LOADED in self._told
        if is_known and sign.done.isdecimal() and sign.total.isdecimal():
            self._begin(int(sign.done), int(sign.total))
            self.step = max(self.step, int(sign.done))

    def _is_time_to_tell(self, stage: Stage) -> bool:
        now = time.monotonic()
        if now - self._told.get(stage, float("-inf")) < TOLD_EVERY_SECONDS:
            return False
        self._told[stage] = now
        return True

    def _tell_waiting(self, sign: Sign) -> None:
        kinds = {
            Stage.DOWNLOADING: ("DOWNLOADING", "downloading"),
            Stage.LOADING_MODEL: ("MODEL_LOADING", "loading the model"),
            Stage.TOKENISING: ("DATA_TOKENISING", "making rows to tokens"),
        }
        if sign.stage not in kinds:
            return
        kind, text = kinds[sign.stage]
        if sign.total:
            text = f"{text}: {sign.what} {sign.done} of {sign.total}"
        self._hands.spool.event(kind, text, done=sign.done, total=sign.total)

    def _tell_loaded(self, sign: Sign) -> None:
        if Stage.MODEL_LOADED in self._told:
            return
        self._told[Stage.MODEL_LOADED] = time.monotonic()
        total, trained = round(float(sign.total) * MILLION), round(float(sign.done) * MILLION)
        self._hands.spool.event(
            "MODEL_LOADED",
            f"loaded: about {total:,} parameters, about {trained:,} of them trained",
            parameters=total,
            parameters_trainable=trained,
        )

    def _begin(self, step: int, total_steps: int) -> None:
        """Training is under way."""
        if self._began_at is not None:
            return
        # From here on a stop may wait for a step to be saved.
        self._stack.enter_context(self._hands.stop.finishing_steps())
        self._began_at = step
        self.translation.overflows = self._trains_in_half_precision()
        self._correct_total(total_steps)
        self._hands.spool.event(
            "TRAINING_STARTED",
            f"training from step {self.step} to {total_steps}",
            step=self.step,
            total_steps=total_steps,
        )

    def _correct_total(self, total_steps: int) -> None:
        """What ms-swift says counts; its log more than its bar, since only it writes there."""
        if total_steps != self.total_steps:
            text = f"ms-swift makes {total_steps} steps of it, {self.total_steps} were expected"
            self._hands.spool.event("TOTAL_STEPS_CHANGED", text, SEVERITY_WARNING)
            self.total_steps = total_steps

    def _trains_in_half_precision(self) -> bool:
        with suppress(OSError, ValueError):
            return bool(json.loads((self._output / ARGUMENTS).read_bytes()).get("fp16"))
        return False

    # --- how it is stopped

    def _steer(self) -> None:
        now = time.monotonic()
        if self._hands.stop.mode is not None and self._asked_at is None:
            self._asked_at = now
            if not self._program.ask_to_stop():
                self._end()
        if self._has_done_its_work() and now - (self._kept_at or now) > self._hands.end_seconds:
            text = "ms-swift has done its work and did not end by itself; it was ended"
            self._hands.spool.event("SWIFT_ENDED", text, SEVERITY_WARNING)
            self._end()

    def _has_done_its_work(self) -> bool:
        last = self._hands.intake.last
        if last is None:
            return False
        saved_as_asked = self._asked_at is not None and (self._kept_at or 0.0) > self._asked_at
        return last.step >= self.total_steps or saved_as_asked

    def _end(self) -> None:
        self.ended_by_us = True
        self._hands.tree.end()
