"""`tunewright jobs ...`: inspect and control jobs.

Thin: the service judges what is asked. `jobs create` is in `tunewright.cli.new_job`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli.exits import CommandError, ExitCode
from tunewright.cli.follow import KINDS_FOR_PEOPLE, follow, print_outcome
from tunewright.cli.job_pages import job_page, job_row
from tunewright.cli.new_job import create
from tunewright.cli.options import Address, AsJson, JobName, client_for
from tunewright.cli.output import json_line, note, print_fields, print_table, say
from tunewright.cli.receipts import receipt_fields, receipt_title
from tunewright.cli.values import filter_with_states, pairs
from tunewright.cli.views import view_for
from tunewright.errors import ApiError
from tunewright.jobs import Job
from tunewright.stream import Lines
from tunewright.subscription import line_text

# How long `get` waits for a monitor, which only adds to what it shows.
RECEIPT_SECONDS = 3.0

app = typer.Typer(no_args_is_help=True, help="Submit, inspect and control jobs.")
# What is left over is refused by the command, which knows what was probably meant.
app.command("create", context_settings={"allow_extra_args": True})(create)


@app.command("list")
def list_jobs(
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE", help="List only jobs in this state, such as running. Repeatable."
        ),
    ] = None,
    filter_: Annotated[
        str,
        typer.Option("--filter", help="AIP-160 filter, such as: priority > 0 AND labels.team = a"),
    ] = "",
    order_by: Annotated[
        str, typer.Option(help="Sort order, such as: priority desc, create_time")
    ] = "",
    limit: Annotated[
        int, typer.Option(min=0, help="Maximum number of jobs to list. 0 lists all.")
    ] = 50,
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """List jobs, newest first."""
    asked = filter_with_states(filter_, state or ())
    with client_for(address) as client:
        found: list[Job] = []
        page_size = min(limit, 1000) if limit else 1000
        for job in client.jobs.list(filter=asked, order_by=order_by, page_size=page_size):
            found.append(job)
            if as_json:
                say(json_line(job.proto))
            if limit and len(found) == limit:
                break
    if as_json:
        return
    if found:
        header = ("JOB", "STATE", "PROGRESS", "LOSS", "MADE", "KIND", "MODEL", "RECIPE", "NOTE")
        print_table(header, [job_row(job) for job in found])
    else:
        note("no jobs" if not asked else "no jobs match")


@app.command()
def get(job: JobName, as_json: AsJson = False, address: Address = None) -> None:
    """Show one job and the receipts of its data."""
    with client_for(address) as client:
        found = client.jobs.get(job)
    if as_json:
        say(json_line(found.proto))
        return
    print_fields(job_page(found))
    if found.attempt:
        _print_receipts(found.name, address)


@app.command()
def watch(
    job: JobName,
    after: Annotated[int, typer.Option(min=0, help="Show only entries after this sequence.")] = 0,
    logs: Annotated[
        bool, typer.Option("--logs", help="Also show what the training process prints.")
    ] = False,
    as_json: AsJson = False,
    address: Address = None,
) -> ExitCode:
    """Watch a job until it ends. Exit code 0 only for SUCCEEDED. Ctrl-C leaves the job running."""
    with client_for(address) as client:
        found = client.jobs.get(job)
        kinds = () if as_json or logs else KINDS_FOR_PEOPLE
        code = follow(found, view_for(as_json, found.id), after_sequence=after, kinds=kinds)
    if not as_json and code != ExitCode.INTERRUPTED:
        print_outcome(found)
    return code


@app.command()
def logs(
    job: JobName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the job ends.")
    ] = False,
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=0, help="Show only the last N lines. 0 shows all.")
    ] = 0,
    as_json: AsJson = False,
    address: Address = None,
) -> ExitCode:
    """Print the output of the training process."""
    with client_for(address) as client:
        found = client.jobs.get(job)
        try:
            with found.logs(follow=follow, tail=tail) as lines:
                _print_lines(lines, as_json)
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
    return ExitCode.OK


@app.command()
def start(job: JobName, as_json: AsJson = False, address: Address = None) -> None:
    """Queue a held job."""
    with client_for(address) as client:
        _answer(client.jobs.start(job), as_json)


@app.command()
def cancel(job: JobName, as_json: AsJson = False, address: Address = None) -> None:
    """Cancel a job. It publishes no result."""
    with client_for(address) as client:
        _answer(client.jobs.cancel(job), as_json)


@app.command()
def pause(job: JobName, as_json: AsJson = False, address: Address = None) -> None:
    """Save a checkpoint and stop a job, to resume it later."""
    with client_for(address) as client:
        _answer(client.jobs.pause(job), as_json)


@app.command()
def resume(job: JobName, as_json: AsJson = False, address: Address = None) -> None:
    """Queue a paused job again. It continues from its last checkpoint."""
    with client_for(address) as client:
        _answer(client.jobs.resume(job), as_json)


@app.command()
def retry(
    job: JobName,
    output_dir: Annotated[
        str, typer.Option(help="Folder of the new result, relative to the output root.")
    ] = "",
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Submit a new job with the spec of one that has ended."""
    with client_for(address) as client:
        _answer(client.jobs.retry(job, output_dir=output_dir), as_json)


@app.command()
def update(
    job: JobName,
    priority: Annotated[
        int | None, typer.Option(help="Jobs with a higher priority start first.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="Label to set; replaces all labels. Repeatable."),
    ] = None,
    display_name: Annotated[str | None, typer.Option("--name", help="Display name.")] = None,
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Change the priority, labels or display name of a job."""
    labels = None if label is None else pairs(label, "--label")
    if priority is None and labels is None and display_name is None:
        raise CommandError("give at least one of --priority, --label, --name")
    with client_for(address) as client:
        changed = client.jobs.update(
            job, priority=priority, labels=labels, display_name=display_name
        )
        _answer(changed, as_json)


@app.command()
def delete(job: JobName, as_json: AsJson = False, address: Address = None) -> None:
    """Mark an ended job for removal. Its published result stays."""
    with client_for(address) as client:
        _answer(client.jobs.delete(job), as_json)


@app.command()
def abandon(job: JobName, as_json: AsJson = False, address: Address = None) -> None:
    """End a job whose publishing host is permanently lost. It becomes FAILED with cause LOST."""
    with client_for(address) as client:
        _answer(client.jobs.abandon(job), as_json)


def _answer(job: Job, as_json: bool) -> None:
    if as_json:
        say(json_line(job.proto))
    else:
        deleted = " (marked for removal)" if job.proto.HasField("delete_time") else ""
        say(f"{job.name}  {job.state}{deleted}")


def _print_receipts(job: str, address: str | None) -> None:
    """Read from the monitor. Without it, the record alone is shown."""
    try:
        with client_for(address, RECEIPT_SECONDS) as client:
            receipts = client.jobs.get(job).receipts()
    except ApiError as error:
        note(f"receipt of the data: not available ({error})")
        return
    for data in receipts:
        say(receipt_title(data))
        print_fields(receipt_fields(data), indent="  ")


def _print_lines(lines: Lines, as_json: bool) -> None:
    for entry in lines.entries:
        say(json_line(entry) if as_json else line_text(entry))
