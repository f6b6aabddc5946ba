"""Row 49: a second trainer service is started on a workspace that has one."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.faults.harness import ENVIRONMENT, Installation
from tests.faults.nothing_lost import check_nothing_lost, steps


def test_49_the_second_refuses_to_start(installation: Installation) -> None:
    go = installation.root / "go"
    job = installation.submit(["entries_until", str(go)], ["complete"])
    seen = installation.await_steps("a", job, 3)
    first = installation.trainers["a"]
    argv = [sys.executable, "-m", first.module, "--listen", "127.0.0.1:0", *first.arguments]

    for name in ("a", "other"):  # by the same name, and by another one
        second = subprocess.run(
            [*argv, "--name", name],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, **ENVIRONMENT},
            check=False,
        )

        assert second.returncode == 2
        said = second.stderr.splitlines()
        assert len(said) == 1, second.stderr
        assert str(installation.workspace("a")) in said[0]
    installation.await_steps("a", job, seen + 5)
    go.touch()

    taken = steps(check_nothing_lost(installation, job))
    assert taken == list(range(1, len(taken) + 1))
    assert [one.name for one in installation.client.trainers.list()] == ["trainers/a"]
