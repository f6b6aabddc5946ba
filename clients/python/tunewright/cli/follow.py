"""Watching a job from the command line to its end, and the exit code that it leads to.

Ctrl-C ends the watching and never touches the job.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.cli import words
from tunewright.cli.exits import ExitCode
from tunewright.cli.output import note, say
from tunewright.cli.views import View
from tunewright.job import failure_text
from tunewright.jobs import Job
from tunewright.wire.times import moment

# What a person watches. Printed lines are many, and are in `jobs logs`.
KINDS_FOR_PEOPLE = ("state", "metrics", "event", "checkpoint")


def follow(job: Job, view: View, *, after_sequence: int = 0, kinds: Sequence[str] = ()) -> ExitCode:
    """Shows a job until it ends: OK only for SUCCEEDED."""
    try:
        with (
            view,
            job.watch(
                after_sequence=after_sequence, kinds=kinds, on_interruption=view.interrupted
            ) as watch,
        ):
            for entry in watch:
                view.show(entry)
        job.wait()
    except KeyboardInterrupt:
        note(f"\nNo longer watching. The job goes on: tunewright jobs watch {job.id}")
        return ExitCode.INTERRUPTED
    return ExitCode.OK if job.succeeded else ExitCode.FAILED


def print_outcome(job: Job) -> None:
    """The last words on a job that has ended."""
    if job.succeeded and job.output is not None:
        say(f"SUCCEEDED{_time_taken(job)}")
        say(f"  result    {job.output.path}")
        say(f"  manifest  {job.output.manifest_digest}")
    elif job.failure is not None:
        say(f"FAILED{_time_taken(job)}: {failure_text(job.failure)}")
        say(f"  what it printed: tunewright jobs logs {job.id}")
    else:
        say(job.state)


def _time_taken(job: Job) -> str:
    proto = job.proto
    if not (proto.HasField("start_time") and proto.HasField("end_time")):
        return ""
    seconds = (moment(proto.end_time) - moment(proto.start_time)).total_seconds()
    return f" in {words.span(seconds)}"
