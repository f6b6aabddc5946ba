"""`tunewright demo`: a whole run on this machine, and the proof that its result is of use.

Nothing is downloaded: a tiny model and its dialogues are made by code. Exit
code 0 only if the job SUCCEEDED, its loss fell to under half, every hash in
its manifest holds, and the adapter answers.
"""

from __future__ import annotations

import json
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli.exits import ExitCode
from tunewright.cli.follow import KINDS_FOR_PEOPLE, follow, print_outcome
from tunewright.cli.local.child import DemoAssets, ask_adapter, make_assets
from tunewright.cli.local.demo_page import DemoPage
from tunewright.cli.local.layout import LocalOptions, StateFolder
from tunewright.cli.local.proof import manifest_problems
from tunewright.cli.local.signals import stopping_signals
from tunewright.cli.local.stack import LocalStack
from tunewright.cli.local.up import farewell
from tunewright.cli.local.verdict import Verdict, loss_problems
from tunewright.cli.options import AsJson
from tunewright.cli.output import note, say
from tunewright.cli.values import new_output_dir
from tunewright.cli.views import PlainView, view_for
from tunewright.client import Client
from tunewright.jobs import Job

DEFAULT_STATE = Path("demo-state")
PROMPT = "Where can I find the wrench?"
# Few steps, large ones: the model has two layers and random weights.
HYPERPARAMETERS = {
    "max_steps": 100,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-3,
    "max_length": 128,
    "logging_steps": 2,
    "eval_steps": 25,
    "save_steps": 50,
}


def demo(
    state: Annotated[
        Path, typer.Option(help="Folder for everything that the demo makes.")
    ] = DEFAULT_STATE,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the services running until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Train a tiny model through the three services and verify the result."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = StateFolder(state.absolute())
    page = DemoPage(quiet=as_json)
    stack = LocalStack(folder, _options(folder), threading.Event(), note)
    try:
        page.title("Tunewright demo: QLoRA on this machine, nothing downloaded")
        folder.make()
        with page.step("a tiny Qwen3 and dialogues made by code") as step:
            assets = make_assets(folder.path / "assets")
            step.told = assets.model
        with page.step("scheduler, monitor and trainer started") as step:
            stack.start()
            step.told = stack.address
        code = _train_and_prove(stack.address, assets, page)
        page.where(folder, code == ExitCode.OK)
        if keep:
            _keep(stack, folder, page)
        return code
    except KeyboardInterrupt:
        note("\nStopped. A job that is training continues; the next demo takes it back.")
        return ExitCode.INTERRUPTED
    finally:
        stack.stop()


def _train_and_prove(address: str, assets: DemoAssets, page: DemoPage) -> ExitCode:
    with Client(address) as client:
        with page.step("job submitted") as step:
            job = client.jobs.create(
                model=assets.model,
                train_data=assets.train,
                eval_data=assets.evaluation,
                output_dir=new_output_dir("demo", datetime.now(UTC)),
                hyperparameters=HYPERPARAMETERS,
                accelerator="cpu",
                display_name="tunewright demo",
            )
            step.told = job.name
        view = PlainView(note) if page.quiet else view_for(False, job.id)
        code = follow(job, view, kinds=KINDS_FOR_PEOPLE)
        if code != ExitCode.OK:
            if code == ExitCode.FAILED and not page.quiet:
                print_outcome(job)
            return code
        verdict = _verdict(job, assets, page)
    if page.quiet:
        say(json.dumps(verdict.record(), ensure_ascii=False))
    else:
        page.verdict(verdict)
    return ExitCode.FAILED if verdict.problems else ExitCode.OK


def _verdict(job: Job, assets: DemoAssets, page: DemoPage) -> Verdict:
    output = job.proto.output
    losses = [(point.step, point.value) for point in job.metrics("loss").points]
    evaluated = [(point.step, point.value) for point in job.metrics("eval_loss").points]
    problems = [
        *loss_problems(losses),
        *manifest_problems(Path(output.path), output.manifest_digest),
    ]
    with page.step("adapter loaded on its base model, and asked") as step:
        reply = ask_adapter(assets.model, output.path, PROMPT)
        step.told = PROMPT
    if not reply:
        problems.append("the adapter replied nothing")
    return Verdict(job.name, losses, evaluated, output.path, PROMPT, reply, problems)


def _options(folder: StateFolder) -> LocalOptions:
    free = "127.0.0.1:0"
    roots = [folder.path / "assets"]
    # Under its usual name: `up` on the same folder is the same trainer, not a second one.
    return LocalOptions(free, free, free, model_roots=roots, data_roots=roots)


def _keep(stack: LocalStack, folder: StateFolder, page: DemoPage) -> None:
    page.say(f"\nThe services go on at {stack.address}; Ctrl-C stops them.")
    with stopping_signals() as stopping:
        stack.tend(stopping)
    farewell(stack, folder)
