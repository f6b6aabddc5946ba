"""Many schedules: run, counted, and each violation told so that it can be replayed."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from tests.simulation.faults import draw_plan
from tests.simulation.parts import Outcome, Parts
from tests.simulation.simulation import Simulation

_EVENTS_TOLD = 40
_EXPECTED_ERRORS = ("most trainers are silent",)


@dataclass
class Tally:
    """What a number of schedules came to."""

    schedules: int = 0
    virtual_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    """One text for each schedule that broke an invariant."""

    def add(self, other: Tally) -> None:
        """Sums up."""
        self.schedules += other.schedules
        self.virtual_seconds += other.virtual_seconds
        self.faults.update(other.faults)
        self.violations += other.violations


def run_seed(seed: int, parts: Parts | None = None) -> Outcome:
    """One schedule, from its seed to the verdict."""
    simulation = Simulation(seed, parts or Parts())

    def record(text: str) -> None:
        if not text.startswith(_EXPECTED_ERRORS):
            simulation.world.problem(f"logged as an error: {text}")

    quiet_logs(record)
    return simulation.run(draw_plan)


def run_seeds(seeds: Sequence[int], parts: Parts | None = None) -> Tally:
    """Each of these."""
    tally = Tally()
    gc.disable()  # collected between schedules, where nothing waits for it
    try:
        for number, seed in enumerate(seeds):
            outcome = run_seed(seed, parts)
            tally.schedules += 1
            tally.virtual_seconds += outcome.virtual_seconds
            tally.faults.update(outcome.history.faults)
            if outcome.violations:
                tally.violations.append(story(outcome))
            if number % 20 == 19:
                gc.collect()
    finally:
        gc.enable()
    return tally


def story(outcome: Outcome, events_told: int = _EVENTS_TOLD) -> str:
    """The seed, what was broken, what came before, and how to see it again."""
    first = outcome.violations[0]
    events = outcome.history.events[: first.at + 1][-events_told:]
    names = Counter(one.invariant for one in outcome.violations)
    lines = [
        f"seed {outcome.seed} breaks {first.invariant}: {first.text}",
        f"  all of it: {', '.join(f'{name} {count}x' for name, count in names.items())}",
        *(f"  {event}" for event in events),
        f"  replay: python -m tests.simulation --seed {outcome.seed} --verbose",
    ]
    return "\n".join(lines)


def first_violation(seeds: Sequence[int], parts: Parts) -> tuple[int, Outcome] | None:
    """How many seeds it took to find one, and what it was; None if there is none."""
    for count, seed in enumerate(seeds, 1):
        outcome = run_seed(seed, parts)
        if outcome.violations:
            return count, outcome
    return None


def quiet_logs(record: Callable[[str], None]) -> None:
    """Production's log lines go nowhere, but for errors, which are mistakes."""

    def take(_logger: object, _name: str, event: structlog.types.EventDict) -> str:
        record(str(event.get("event")))
        raise structlog.DropEvent

    structlog.configure(processors=[take], wrapper_class=structlog.make_filtering_bound_logger(40))
