"""The command that a job's training child would run, as far as it can be said beforehand.

Pure. The model and the data stand there as the spec has them, hub ids too: it is
what people know. The run gets the model's local folder and checked copies of the
data in their place. What only the run knows stands in angle brackets.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler_svc.domain.fleet import Host
from svckit.spec import Backend, JobSpec
from svckit.swift import MAJORS, SwiftRun, major_of, swift_argv

OUTPUT_DIR = "<run>/swift"


def planned_argv(spec: JobSpec, hosts: Iterable[Host]) -> tuple[str, ...]:
    """The argv, for the version of the first host that tells one, else for the newest known.

    Empty for a backend whose child runs no command.
    """
    if spec.backend is not Backend.SWIFT:
        return ()
    versions = (
        host.trainer.capabilities.backend_versions.get(Backend.SWIFT.value, "") for host in hosts
    )
    major = next(filter(None, map(major_of, versions)), max(MAJORS))
    return tuple(swift_argv(spec, SwiftRun(output_dir=OUTPUT_DIR), major))
