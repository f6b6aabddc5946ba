"""`python -m tests.simulation`: runs schedules by seed on all cores, and says what they came to."""

from __future__ import annotations

import argparse
import sys
import time
from multiprocessing import get_context
from os import cpu_count

from tests.simulation.campaign import Tally, run_seed, run_seeds

_SEEDS_AT_ONCE = 50
_STORIES_TOLD = 5


def main() -> int:
    """0 if no schedule broke an invariant."""
    asked = _arguments()
    if asked.planted:
        from tests.simulation.planted import print_table

        return print_table(asked.start)
    if asked.seed is not None:
        return _one(asked.seed, verbose=asked.verbose)
    return _many(range(asked.start, asked.start + asked.seeds), asked.jobs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules")
    parser.add_argument("--start", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--jobs", type=int, default=cpu_count() or 1, help="processes")
    parser.add_argument("--verbose", action="store_true", help="with --seed: the whole history")
    parser.add_argument(
        "--planted", action="store_true", help="how many seeds each planted mistake takes"
    )
    return parser.parse_args()


def _one(seed: int, *, verbose: bool) -> int:
    outcome = run_seed(seed)
    if verbose:
        for event in outcome.history.events:
            print(event)
    print(f"seed {seed}: {len(outcome.history.events)} events, hash {outcome.history.digest()}")
    for violation in outcome.violations:
        print(f"  {violation.invariant}: {violation.text} (event {violation.at})")
    return 1 if outcome.violations else 0


def _many(seeds: range, jobs: int) -> int:
    began = time.monotonic()
    tally = Tally()
    parts = [seeds[at : at + _SEEDS_AT_ONCE] for at in range(0, len(seeds), _SEEDS_AT_ONCE)]
    with get_context("spawn").Pool(min(jobs, len(parts)) or 1) as pool:
        for done in pool.imap_unordered(run_seeds, parts):
            for text in done.violations[: max(0, _STORIES_TOLD - len(tally.violations))]:
                print(text, flush=True)
            tally.add(done)
            if sys.stderr.isatty():
                print(f"\r{tally.schedules} of {len(seeds)}", end="", file=sys.stderr, flush=True)
    _print(tally, time.monotonic() - began)
    return 1 if tally.violations else 0


def _print(tally: Tally, seconds: float) -> None:
    for kind, count in sorted(tally.faults.items()):
        print(f"{count:>9}  {kind}")
    print(
        f"{tally.schedules} schedules, {sum(tally.faults.values())} faults, "
        f"{tally.virtual_seconds / 3600:.1f} simulated hours in {seconds:.0f} s "
        f"({tally.schedules / seconds * 60:.0f} schedules a minute), "
        f"{len(tally.violations)} with a violation"
    )


if __name__ == "__main__":
    sys.exit(main())
