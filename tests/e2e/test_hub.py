"""Jobs whose model and data come from a hub: a real one on loopback, that can have its faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tunewright import Client
from tunewright.jobs import Job
from tunewright.v1 import job_pb2
from tunewright.v1.feed_pb2 import Event

from tests.support.assets import Assets
from tests.support.eventually import eventually_sync
from tests.support.hub_server import HubServer, running_hub
from tests.support.stack import Stack, running_stack

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

TOKEN = "hf_thisIsNoRealTokenButOneToBeHidden"
MODEL, DATA = "acme/tiny", "acme/talk"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with running_hub() as running:
        yield running


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, hub: HubServer, assets: Assets
) -> Iterator[Stack]:
    root = tmp_path_factory.mktemp("stack")
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(root / "hf"), "HF_TOKEN": TOKEN}
    flags = ["--cpu-slots", "2", "--allow-hub"]
    with running_stack(root, trainer_flags=flags, trainer_environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def commits(hub: HubServer, assets: Assets) -> dict[str, str]:
    """A model and a data set on the hub, and the commits that they are."""
    rows = {"train.jsonl": Path(assets.train).read_bytes()}
    rows["valid.jsonl"] = Path(assets.evaluation).read_bytes()
    return {
        MODEL: hub.publish(MODEL, Path(assets.model)),
        f"datasets/{DATA}": hub.publish(DATA, rows, kind="datasets"),
    }


def hand_in(client: Client, output_dir: str, model: str, data: str) -> Job:
    return client.jobs.create(
        model=model,
        train_data=[data],
        output_dir=output_dir,
        accelerator="cpu",
        hyperparameters={"max_steps": 2, "per_device_train_batch_size": 2},
        attempts_max=3,
        retry_backoff=0.1,
    )


@pytest.fixture(scope="module")
def finished(
    stack: Stack, commits: dict[str, str], hub: HubServer
) -> tuple[job_pb2.Job, list[Event]]:
    """A job that has run to its end, and what it told."""
    with Client(stack.address) as client:
        job = client.jobs.create(
            model=MODEL,
            train_data=[f"{DATA}#20"],
            eval_data=[f"{DATA}#8"],
            output_dir="hub/result",
            accelerator="cpu",
            hyperparameters={"max_steps": 2, "per_device_train_batch_size": 2},
        )
        with job.watch() as watch:
            events = [entry.event for entry in watch if entry.HasField("event")]
        return job.wait(timeout=120).proto, events


def test_it_succeeds_with_model_and_data_from_the_hub(
    finished: tuple[job_pb2.Job, list[Event]],
) -> None:
    job, _ = finished

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.failure
    assert job.attempt == 1


def test_its_record_and_its_manifest_tell_the_commits(
    finished: tuple[job_pb2.Job, list[Event]], commits: dict[str, str]
) -> None:
    job, _ = finished

    manifest = json.loads((Path(job.output.path) / "manifest.json").read_bytes())

    assert dict(job.progress.revisions) == commits
    assert manifest["revisions"] == commits
    assert manifest["base_model"]["revision"] == commits[MODEL]
    assert [receipt["rows_read"] for receipt in manifest["data"]] == ["20", "8"]


def test_its_feed_tells_how_far_the_downloads_were(
    finished: tuple[job_pb2.Job, list[Event]], commits: dict[str, str]
) -> None:
    _, events = finished

    told = [event for event in events if event.type == "DOWNLOAD_PROGRESS"]

    assert {event.details["name"] for event in told} == set(commits)
    for event in told:
        assert event.details["revision"] == commits[event.details["name"]]
        assert int(event.details["bytes_done"]) == int(event.details["bytes_total"]) > 0


@pytest.mark.parametrize(
    ("model", "data", "cause", "missing"),
    [
        ("acme/none", DATA, "MODEL_INVALID", "acme/none"),
        (MODEL, "acme/none", "DATASET_INVALID", "acme/none"),
    ],
    ids=["model", "data"],
)
def test_an_unknown_id_fails_in_its_first_attempt(
    stack: Stack, commits: dict[str, str], model: str, data: str, cause: str, missing: str
) -> None:
    with Client(stack.address) as client:
        job = hand_in(client, f"hub/unknown-{cause}", model, data).wait(timeout=120).proto

    assert job.state == job_pb2.JOB_STATE_FAILED
    assert job_pb2.FailureCause.Name(job.failure.cause) == f"FAILURE_CAUSE_{cause}"
    assert missing in job.failure.message
    assert job.attempt == 1


def test_a_gated_model_fails_in_its_first_attempt_and_the_token_is_told_nowhere(
    stack: Stack, hub: HubServer, assets: Assets, commits: dict[str, str]
) -> None:
    hub.publish("acme/gated", Path(assets.model))
    hub.repository("acme/gated").token = "another"

    with Client(stack.address) as client:
        job = hand_in(client, "hub/gated", "acme/gated", DATA).wait(timeout=120).proto

    assert job.state == job_pb2.JOB_STATE_FAILED
    assert job.failure.cause == job_pb2.FAILURE_CAUSE_MODEL_INVALID
    assert "HF_TOKEN" in job.failure.hint
    assert job.attempt == 1
    assert any(one.authorization == f"Bearer {TOKEN}" for one in hub.seen), "it was sent"
    for path in stack.root.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_an_outage_is_tried_again_with_the_same_commit(
    stack: Stack, hub: HubServer, assets: Assets, commits: dict[str, str]
) -> None:
    commit = hub.publish("acme/away", Path(assets.model))
    hub.fail("model.safetensors", 503)
    with Client(stack.address) as client:
        job = hand_in(client, "hub/away", "acme/away", DATA)
        eventually_sync(
            lambda: any(
                one.HasField("failure") for one in client.jobs.get(job.name).proto.attempts
            ),
            60,
            "the first attempt fails",
        )
        hub.publish("acme/away", Path(assets.model))
        hub.heal()

        ended = job.wait(timeout=120).proto

    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED, ended.failure
    assert ended.attempts[0].failure.cause == job_pb2.FAILURE_CAUSE_NETWORK
    assert ended.progress.revisions["acme/away"] == commit
