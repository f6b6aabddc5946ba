"""Minutes of real processes under random faults: python -m tests.soak --minutes 10 [--seed N]

Three trainers with scripted children and one that trains tiny models for real,
under a load of jobs that people also cancel, pause, resume and delete; faults
of all kinds one after another. Then everything heals, every job must end, and
the checker asks the services what became of each. The exit code is 1 where
something was lost, doubled or stuck.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.faults.harness import QUICK_LOSS, Installation, installation_at
from tests.soak.checker import Checker, Verdict
from tests.soak.faults import Faults, small_disks
from tests.soak.load import Load
from tests.soak.watching import Memory, Probe, Watchers
from tests.support.assets import Assets, make_assets

LOOK_SECONDS = 1.0
SHOWN_MAX = 20


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    wanted = parser.parse_args()
    seed = wanted.seed if wanted.seed is not None else random.randrange(10**6)
    print(f"soak: {wanted.minutes:g} minutes, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tunewright-soak-") as folder:
        return soak(Path(folder), wanted.minutes * 60, random.Random(seed))


def soak(root: Path, seconds: float, rng: random.Random) -> int:
    """Runs it below `root`, prints what came of it; the exit code."""
    assets = make_assets(root / "assets")
    disks = [root / name for name in ("artifacts", "outputs", "trainer-a")]
    with ExitStack() as stack:
        mounted = stack.enter_context(small_disks(disks))
        if len(mounted) < len(disks):
            print("left out: full disks (mounting one needs root)")
        made = stack.enter_context(installation_at(root, trainers=(), scheduler_flags=QUICK_LOSS))
        _add_trainers(made, assets)
        return _run(made, assets, mounted, seconds, rng)


def _add_trainers(made: Installation, assets: Assets) -> None:
    made.add_trainers("a", "b", linked=True, flags=["--cpu-slots", "2"])
    real = made.trainer("real", flags=["--model-roots", str(assets.folder), "--data-roots",
                                       str(assets.folder)])  # fmt: skip
    real.module = "trainer_svc"
    real.start()


def _run(
    made: Installation, assets: Assets, disks: Sequence[Path], seconds: float, rng: random.Random
) -> int:
    load = Load(made.client, assets, random.Random(rng.random()))
    faults = Faults(made, disks, random.Random(rng.random()))
    probe, memory = Probe(made.scheduler.address), Memory()
    watchers = Watchers(made.scheduler.address)
    services = [made.scheduler, made.monitor, *made.trainers.values()]
    for thread in (load, faults, probe):
        thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end and faults.is_alive():
        for asked in list(load.jobs):
            watchers.follow(asked.name)
        memory.look(services)
        time.sleep(LOOK_SECONDS)
    faults.stop()
    load.stop()
    checker = Checker(made.client, made.monitor.address, made.outputs)
    stuck = checker.settle(load)
    probe.stop()
    memory.look(services)
    verdict = checker.verdict(load, stuck, watchers)
    if faults.error is not None:
        verdict.wrong.append(f"a service did not come back: {faults.error}")
    _print(load, faults.done, verdict, probe, memory)
    return 0 if verdict.sound else 1


def _print(
    load: Load, faults: Counter[str], verdict: Verdict, probe: Probe, memory: Memory
) -> None:
    real = sum(asked.real for asked in load.jobs)
    ends = ", ".join(f"{count} {state}" for state, count in sorted(verdict.outcomes.items()))
    grown = ", ".join(
        f"{name} {size / 2**20:.1f} MiB" for name, size in sorted(memory.growth_bytes().items())
    )
    print(f"jobs            {len(load.jobs)} ({real} trained for real): {ends}")
    print(f"verbs           {sum(len(asked.verbs) for asked in load.jobs)}, "
          f"{sum(asked.deleted for asked in load.jobs)} deleted")  # fmt: skip
    print(f"faults          {sum(faults.values())}")
    for name, count in sorted(faults.items()):
        print(f"                {count:4} {name}")
    print(f"longest outage  {probe.longest_outage_seconds:.1f} s ({probe.answers} answers)")
    print(f"memory growth   {grown}")
    for name in ("lost", "doubled", "stuck", "wrong"):
        found = getattr(verdict, name)
        print(f"{name:15} {len(found)}")
        for text in found[:SHOWN_MAX]:
            print(f"                {text}")
    print("sound" if verdict.sound else "NOT SOUND", flush=True)


if __name__ == "__main__":
    sys.exit(main())
