"""ms-swift jobs as a user meets them: handed in by command, watched, their results of use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import json_format
from tunewright import Client
from tunewright.v1 import job_pb2, spec_pb2
from tunewright.v1.feed_pb2 import Entry

from tests.support.assets import Assets, make_vlm_assets
from tests.support.eventually import eventually_sync
from tests.support.stack import Stack, running_stack
from tests.support.swift import swift_python

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]

STEPS = 40
LOGGING_STEPS = 8
SAVE_STEPS = 20
SETTINGS = [
    f"max_steps={STEPS}",
    f"logging_steps={LOGGING_STEPS}",
    f"save_steps={SAVE_STEPS}",
    f"eval_steps={SAVE_STEPS}",
    "learning_rate=5e-3",
    "per_device_train_batch_size=2",
    "gradient_accumulation_steps=1",
    "max_length=256",
]
ALPACA_ROWS = 40


@dataclass(frozen=True)
class Finished:
    """A job as it ended, and every entry of its feed."""

    job: job_pb2.Job
    entries: Sequence[Entry]

    def of_kind(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.WhichOneof("payload") == kind]


@pytest.fixture(scope="module")
def vlm_assets(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    """A tiny LLaVA, and dialogues about pictures."""
    return make_vlm_assets(tmp_path_factory.mktemp("vlm"))


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, assets: Assets, vlm_assets: Assets
) -> Iterator[Stack]:
    """One trainer that has ms-swift."""
    root = tmp_path_factory.mktemp("swift")
    with running_stack(
        root,
        roots=[assets.folder, vlm_assets.folder],
        trainer_flags=["--cpu-slots", "2", "--swift-python", str(swift_python())],
    ) as running:
        yield running


def tunewright(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as it is typed."""
    return subprocess.run(
        [sys.executable, "-m", "tunewright", *arguments, "--address", stack.address],
        capture_output=True,
        text=True,
        timeout=400,
    )


def finish(stack: Stack, *arguments: str) -> Finished:
    """`tunewright jobs create ... --watch` to its end."""
    settings = [word for one in SETTINGS for word in ("--set", one)]
    done = tunewright(
        stack, "jobs", "create", "--backend", "swift", "--cpu", *settings, *arguments,
        "--watch", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    created, *lines = done.stdout.splitlines()
    name = json.loads(created)["name"]
    with Client(stack.address) as client:
        job = client.jobs.get(name).proto
    return Finished(job, [json_format.Parse(line, Entry()) for line in lines])


@pytest.fixture(scope="module")
def llm(stack: Stack, assets: Assets) -> Finished:
    """A tiny Qwen3 on rows in the Alpaca format, one of which is empty."""
    rows = [
        {"instruction": f"Say {number}", "input": "", "output": f"It is {number}."}
        for number in range(ALPACA_ROWS - 1)
    ]
    rows.insert(7, {"instruction": "", "input": "", "output": ""})
    data = stack.root / "alpaca.json"
    data.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return finish(
        stack, "--model", assets.model, "--data", str(data), "--eval-data", assets.evaluation,
        "--output-dir", "llm", "--swift", "model_type=qwen3", "--swift", "template=qwen3",
    )  # fmt: skip


@pytest.fixture(scope="module")
def vlm(stack: Stack, vlm_assets: Assets) -> Finished:
    """A tiny LLaVA on dialogues about pictures."""
    return finish(
        stack, "--model", vlm_assets.model, "--data", vlm_assets.train, "--model-kind", "vlm",
        "--output-dir", "vlm", "--swift", "model_type=llava1_5_hf",
        "--swift", "template=llava1_5_hf",
    )  # fmt: skip


@pytest.fixture(params=["llm", "vlm"])
def finished(request: pytest.FixtureRequest) -> Finished:
    """Each of the two."""
    found: Finished = request.getfixturevalue(request.param)
    return found


def test_it_succeeds_in_its_first_attempt(finished: Finished) -> None:
    job = finished.job

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.failure
    assert job.attempt == 1
    assert job.progress.step == job.progress.total_steps == STEPS


def test_the_feed_has_one_entry_for_each_logged_step(finished: Finished) -> None:
    metrics = [entry.train_metrics for entry in finished.of_kind("train_metrics")]

    # ms-swift logs the first step too.
    assert [one.step for one in metrics] == [1, *range(LOGGING_STEPS, STEPS + 1, LOGGING_STEPS)]
    assert {one.total_steps for one in metrics} == {STEPS}
    assert all(one.HasField("loss") and one.HasField("learning_rate") for one in metrics)
    assert metrics[-1].loss < metrics[0].loss
    assert [one.sequence for one in finished.entries] == [*range(1, len(finished.entries) + 1)]


def test_total_steps_are_known_before_the_first(finished: Finished) -> None:
    first = finished.of_kind("train_metrics")[0]

    started = next(one for one in finished.entries if one.event.type == "TRAINING_STARTED")
    assert started.sequence < first.sequence
    assert started.event.details["total_steps"] == str(STEPS)


def test_what_comes_before_the_first_step_is_told_too(finished: Finished) -> None:
    kinds = [entry.event.type for entry in finished.of_kind("event")]

    assert kinds.index("DATA_PREPARING") < kinds.index("MODEL_LOADING")
    assert kinds.index("MODEL_LOADING") < kinds.index("TRAINING_STARTED")


def test_checkpoints_are_durable_and_rotated(finished: Finished) -> None:
    saved = [entry.checkpoint_saved for entry in finished.of_kind("checkpoint_saved")]

    assert [(one.step, one.record_only) for one in saved] == [(SAVE_STEPS, False), (STEPS, False)]
    for one in saved:
        assert (Path(one.path) / "manifest.json").is_file()
        assert not (Path(one.path) / "training_args.bin").exists(), "a pickle nobody reads"


def test_the_manifest_says_the_command_the_versions_and_the_receipt(finished: Finished) -> None:
    manifest = json.loads((Path(finished.job.output.path) / "manifest.json").read_text())

    assert {"adapter_model.safetensors", "adapter_config.json"} <= manifest["files"].keys()
    assert manifest["library_versions"]["ms-swift"].startswith("4.")
    assert manifest["argv"][1] == "sft"
    assert manifest["data"][0]["rows_read"]
    kept = finished.of_kind("data_prepared")[0].data_prepared
    assert int(manifest["data"][0]["rows_kept"]) == kept.rows_kept > 0


def test_every_row_is_accounted_for(llm: Finished) -> None:
    receipts = {one.data_prepared.part: one.data_prepared for one in llm.of_kind("data_prepared")}

    train = receipts["train"]
    assert (train.rows_read, train.rows_kept) == (ALPACA_ROWS, ALPACA_ROWS - 1)
    assert [(one.reason, one.count) for one in train.dropped] == [("empty", 1)]
    assert "alpaca.json" in train.dropped[0].places[0]
    assert 0 < train.supervised_tokens < train.tokens
    assert receipts["eval"].rows_kept > 0


def test_it_is_evaluated_at_the_steps_asked_for(llm: Finished) -> None:
    evaluations = [entry.eval_metrics for entry in llm.of_kind("eval_metrics")]

    assert [one.step for one in evaluations] == [SAVE_STEPS, STEPS]
    assert all(one.loss > 0 for one in evaluations)


def test_the_adapter_loads_on_its_base_model_and_answers(llm: Finished, assets: Assets) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "trainer_svc.child.try_adapter", "--model", assets.model,
            "--adapter", llm.job.output.path, "--prompt", "Say 3",
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip

    assert json.loads(done.stdout.splitlines()[-1])["reply"].strip()


def test_one_list_holds_both_kinds_and_filters_tell_them_apart(
    stack: Stack, llm: Finished, vlm: Finished
) -> None:
    with Client(stack.address) as client:
        every = {job.name for job in client.jobs.list()}
        of_pictures = [job.name for job in client.jobs.list(filter="model_kind = VLM")]
        of_text = [job.name for job in client.jobs.list(filter="model_kind = LLM")]

    assert {llm.job.name, vlm.job.name} <= every
    assert vlm.job.spec.model_kind == spec_pb2.MODEL_KIND_VLM
    assert vlm.job.name in of_pictures
    assert llm.job.name in of_text
    assert not set(of_pictures) & set(of_text)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("tiny-cpu-qlora", []),
        ("tiny-cpu-swift", ["--swift", "model_type=qwen3", "--swift", "template=qwen3"]),
    ],
)
def test_a_shipped_recipe_for_a_cpu_trains(
    stack: Stack, assets: Assets, recipe: str, options: list[str]
) -> None:
    done = tunewright(
        stack, "jobs", "create", "--recipe", recipe, "--model", assets.model,
        "--data", assets.train, "--output-dir", recipe, "--set", "max_steps=4", "--watch",
        *options,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    with Client(stack.address) as client:
        (job,) = client.jobs.list(filter=f'output_dir = "{recipe}"')
    assert job.proto.recipe == f"recipes/{recipe}@1"
    assert job.proto.progress.step == 4
    assert (stack.outputs / recipe / "adapter_model.safetensors").is_file()


def test_validate_only_prints_the_command(stack: Stack) -> None:
    done = tunewright(
        stack, "jobs", "create", "--recipe", "llm-swift", "--gpu", "0", "--output-dir", "llm_test",
        "--validate-only",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "swift sft" in done.stdout
    assert "--model Qwen/Qwen2.5-7B-Instruct" in done.stdout
    assert "--tuner_type lora" in done.stdout


def test_a_trainer_without_ms_swift_gets_no_such_job_and_says_why(
    tmp_path: Path, assets: Assets
) -> None:
    with running_stack(tmp_path, roots=[assets.folder]) as plain:
        with Client(plain.address) as client:
            job = client.jobs.create(
                model=assets.model,
                train_data=[assets.train],
                output_dir="waiting",
                accelerator="cpu",
                backend="swift",
            )
            eventually_sync(lambda: list(client.trainers.list()), 30, "the trainer is known")

            waiting = client.jobs.get(job.name)

            assert waiting.state == "QUEUED"
            assert "swift" in waiting.pending_reason
            assert "--swift-python" in waiting.pending_reason
            job.cancel()
