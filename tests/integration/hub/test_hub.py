"""Models from a hub: what comes, what does not come twice, and what a failure says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.hub.hub_runs import TOKEN, Downloader
from tests.support.eventually import eventually_sync
from tests.support.hub_server import HubServer, Served, running_hub
from tests.unit.child.run_folders import RunFolder, make_run_folder
from trainer_svc.child.hub import needed_files

MIB = 1 << 20
# The library writes 10 MiB at a time: what is less of a cut download does not count.
LARGE_BYTES = 32 * MIB
CUT_BYTES = 25 * MIB
KEPT_BYTES = 20 * MIB

SMALL = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights"}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with running_hub() as running:
        yield running


@pytest.fixture
def host(hub: HubServer, tmp_path: Path) -> Downloader:
    return Downloader(tmp_path / "host", hub.url)


@pytest.fixture(scope="module")
def large() -> dict[str, bytes]:
    return {"config.json": b"{}", "model.safetensors": os.urandom(LARGE_BYTES)}


def hub_run_folder(root: Path, model: str) -> RunFolder:
    """A run that may download, on a trainer without any roots."""
    run = make_run_folder(root, model, "acme/talk")
    spec = json.loads((run.path / "spec.json").read_text())
    (run.path / "spec.json").write_text(json.dumps({**spec, "allow_hub": True}))
    return run


def names_in(folder: str) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()
    )


def wait_until_kept(host: Downloader) -> None:
    """What the hub has sent before it held is on the host's disk, as far as it counts."""
    (partial,) = host.cache.glob("*/blobs/*.resumable.incomplete")
    eventually_sync(lambda: partial.stat().st_size >= KEPT_BYTES, 30, "it is on disk")


def test_a_model_comes_at_one_commit_with_the_files_that_training_reads(
    hub: HubServer, host: Downloader
) -> None:
    unread = {"README.md": b"#", "pytorch_model.bin": b"pickle", "onnx/model.safetensors": b"x"}
    commit = hub.publish("acme/tiny", {**SMALL, **unread, "modeling_tiny.py": b"pass"})

    got = host.run("acme/tiny")

    assert got["commit"] == commit
    assert names_in(got["folder"]) == sorted(SMALL)
    assert (Path(got["folder"]) / "model.safetensors").read_bytes() == b"weights"
    assert not [one for one in hub.downloads() if commit not in one.path], "all at that commit"


def test_a_look_at_data_leaves_the_weights_on_the_hub_and_a_run_brings_them(
    hub: HubServer, host: Downloader
) -> None:
    hub.publish("acme/tiny", SMALL)

    without = names_in(host.run("acme/tiny", weights=False)["folder"])
    again = host.run("acme/tiny", weights=False)
    withal = host.run("acme/tiny")

    assert without == sorted(SMALL.keys() - {"model.safetensors"})
    assert host.events("MODEL_CACHED"), "nothing is brought twice"
    assert again["folder"] == withal["folder"]
    assert names_in(withal["folder"]) == sorted(SMALL)


def test_a_model_without_weights_on_the_hub_is_refused_by_a_look_at_data_too(
    hub: HubServer, host: Downloader
) -> None:
    hub.publish("acme/none", {name: SMALL[name] for name in SMALL if "safetensors" not in name})

    got = host.run("acme/none", weights=False)

    assert got["cause"] == "MODEL_INVALID"
    assert "no safetensors weights" in got["message"]


def test_code_comes_only_where_it_is_allowed(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/own", {**SMALL, "modeling_own.py": b"pass"})

    without = host.run("acme/own")
    got = names_in(without["folder"])
    withal = host.run("acme/own", with_code=True)

    assert "modeling_own.py" not in got
    assert "modeling_own.py" in names_in(withal["folder"])


def test_the_feed_tells_the_commit_and_how_far_the_download_is(
    hub: HubServer, host: Downloader
) -> None:
    commit = hub.publish("acme/tiny", SMALL)

    host.run("acme/tiny")

    assert [event["type"] for event in host.events()] == [
        "HUB_PINNED",
        "MODEL_DOWNLOADING",
        "DOWNLOAD_PROGRESS",
    ]
    for event in host.events():
        assert (event["details"]["name"], event["details"]["revision"]) == ("acme/tiny", commit)
    last = host.events("DOWNLOAD_PROGRESS")[-1]["details"]
    size = str(sum(map(len, SMALL.values())))
    assert (last["bytes_done"], last["bytes_total"]) == (size, size)
    assert (last["files_done"], last["files_total"]) == ("3", "3")


def test_progress_is_told_now_and_then_while_a_download_goes_on(
    hub: HubServer, host: Downloader, large: dict[str, bytes]
) -> None:
    hub.publish("acme/large", large)
    release = hub.hold("model.safetensors", CUT_BYTES)

    process = host.start("acme/large")
    assert hub.holding.acquire(timeout=30)
    eventually_sync(lambda: host.events("DOWNLOAD_PROGRESS"), 30, "progress is told")
    release.set()
    process.communicate(timeout=30)

    first, last = host.events("DOWNLOAD_PROGRESS")[0], host.events("DOWNLOAD_PROGRESS")[-1]
    assert int(first["details"]["bytes_done"]) in range(KEPT_BYTES, CUT_BYTES + 1)
    assert last["details"]["bytes_done"] == str(LARGE_BYTES + 2)


def test_a_second_job_downloads_nothing(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/tiny", SMALL)
    first = host.run("acme/tiny")
    before = len(hub.seen)
    host.pins.unlink()

    second = host.run("acme/tiny")

    assert second["folder"] == first["folder"]
    asked = [(one.method, one.path) for one in hub.seen[before:]]
    assert asked == [("GET", "/api/models/acme/tiny")], "only what its name means now"
    assert host.events("MODEL_CACHED")


def test_a_later_attempt_needs_no_hub_for_what_is_there(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/tiny", SMALL)
    first = host.run("acme/tiny")
    before = len(hub.seen)
    hub.fail("", 503)

    second = host.run("acme/tiny")

    assert second["folder"] == first["folder"]
    assert len(hub.seen) == before


def test_each_attempt_uses_the_same_commit_although_the_branch_moved(
    hub: HubServer, host: Downloader, tmp_path: Path
) -> None:
    commit = hub.publish("acme/tiny", SMALL)
    host.run("acme/tiny")
    moved = hub.publish("acme/tiny", {**SMALL, "model.safetensors": b"others"})
    # Another host, with the same artifact store.
    other = Downloader(tmp_path / "other", hub.url)
    other.pins.parent.mkdir(parents=True)
    host.pins.rename(other.pins)

    second = other.run("acme/tiny")
    anew = Downloader(tmp_path / "anew", hub.url).run("acme/tiny")

    assert second["commit"] == commit
    assert (Path(second["folder"]) / "model.safetensors").read_bytes() == b"weights"
    assert json.loads(other.pins.read_text()) == {"acme/tiny": commit}
    assert anew["commit"] == moved, "a new job follows the branch"


def test_a_revision_may_be_a_branch_a_tag_or_a_commit(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.publish("acme/tiny", SMALL, branch="release/1")
    hub.repository("acme/tiny").names["v1"] = commit
    hub.publish("acme/tiny", {**SMALL, "model.safetensors": b"others"})

    got = {
        Downloader(tmp_path / str(number), hub.url).run("acme/tiny", revision)["commit"]
        for number, revision in enumerate(["release/1", "v1", commit])
    }

    assert got == {commit}


def test_a_cut_download_goes_on_where_it_was(
    hub: HubServer, host: Downloader, large: dict[str, bytes]
) -> None:
    hub.publish("acme/large", large)
    hub.cut("model.safetensors", CUT_BYTES)

    got = host.run("acme/large")

    cut, rest = hub.downloads("model.safetensors")
    assert (cut.range, cut.body_bytes) == ("", CUT_BYTES)
    assert rest.range == f"bytes={KEPT_BYTES}-"
    assert rest.body_bytes == LARGE_BYTES - KEPT_BYTES
    weights = (Path(got["folder"]) / "model.safetensors").read_bytes()
    assert weights == large["model.safetensors"]


def test_a_download_goes_on_where_it_was_when_its_process_was_killed(
    hub: HubServer, host: Downloader, large: dict[str, bytes]
) -> None:
    hub.publish("acme/large", large)
    release = hub.hold("model.safetensors", CUT_BYTES)
    process = host.start("acme/large")
    assert hub.holding.acquire(timeout=30)
    wait_until_kept(host)
    process.kill()
    process.communicate()
    release.set()

    got = host.run("acme/large")

    (rest,) = [one for one in hub.downloads("model.safetensors") if one.range]
    assert rest.range == f"bytes={KEPT_BYTES}-"
    assert rest.body_bytes == LARGE_BYTES - KEPT_BYTES
    weights = (Path(got["folder"]) / "model.safetensors").read_bytes()
    assert weights == large["model.safetensors"]
    assert not list(host.cache.glob("*/blobs/*.incomplete"))


def test_what_lies_there_broken_is_downloaded_anew(
    hub: HubServer, host: Downloader, large: dict[str, bytes]
) -> None:
    hub.publish("acme/large", large)
    sha256 = hub.repository("acme/large").find("main")[1]["model.safetensors"].sha256  # type: ignore[index]
    blobs = host.cache / "models--acme--large" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256}.resumable.incomplete").write_bytes(b"\0" * KEPT_BYTES)

    got = host.run("acme/large")

    weights = (Path(got["folder"]) / "model.safetensors").read_bytes()
    assert weights == large["model.safetensors"]
    assert "another hash" in host.events("HUB_RETRY")[0]["message"]


def test_two_runs_at_once_download_a_file_once(
    hub: HubServer, host: Downloader, large: dict[str, bytes]
) -> None:
    hub.publish("acme/large", large)
    release = hub.hold("model.safetensors", CUT_BYTES)

    first = host.start("acme/large")
    assert hub.holding.acquire(timeout=30)
    second = host.start("acme/large")
    eventually_sync(lambda: len(host.events("MODEL_DOWNLOADING")) == 2, 30, "both are at it")
    release.set()
    told = [json.loads(one.communicate(timeout=30)[0]) for one in (first, second)]

    assert told[0] == told[1]
    assert len(hub.downloads("model.safetensors")) == 1


def test_too_little_space_is_said_before_anything_comes(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/huge", SMALL, claimed_bytes={"model.safetensors": 1 << 60})

    told = host.run("acme/huge")

    assert told["cause"] == "DISK_FULL"
    assert f"{1 << 60:,}"[:3] in told["message"]
    assert str(host.cache) in told["message"]
    assert not hub.downloads()


def test_a_disk_that_fills_up_meanwhile_is_disk_full(
    hub: HubServer, host: Downloader, large: dict[str, bytes]
) -> None:
    hub.publish("acme/large", large)
    sha256 = hub.repository("acme/large").find("main")[1]["model.safetensors"].sha256  # type: ignore[index]
    blobs = host.cache / "models--acme--large" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256}.resumable.incomplete").symlink_to("/dev/full")

    told = host.run("acme/large")

    assert told["cause"] == "DISK_FULL"
    assert "No space left on device" in told["message"]


def test_an_unknown_model_is_named_and_not_tried_again(hub: HubServer, host: Downloader) -> None:
    told = host.run("acme/none")

    assert told["cause"] == "MODEL_INVALID"
    assert "acme/none" in told["message"]
    assert hub.url in told["message"]
    assert len(hub.seen) == 1


def test_an_unknown_revision_is_named(hub: HubServer, host: Downloader, tmp_path: Path) -> None:
    hub.publish("acme/tiny", SMALL)

    branch = host.run("acme/tiny", "v9")
    commit = Downloader(tmp_path / "other", hub.url).run("acme/tiny", "0" * 40)

    for told, revision in ((branch, "v9"), (commit, "0" * 40)):
        assert told["cause"] == "MODEL_INVALID"
        assert "acme/tiny" in told["message"]
        assert revision in told["message"]


@pytest.mark.parametrize("hidden", [False, True], ids=["gated", "private"])
def test_what_may_not_be_read_says_what_to_do(
    hub: HubServer, host: Downloader, tmp_path: Path, hidden: bool
) -> None:
    hub.publish("acme/closed", SMALL)
    repository = hub.repository("acme/closed")
    repository.token, repository.hidden = TOKEN, hidden

    anonymous = host.run("acme/closed")
    stranger = Downloader(tmp_path / "b", hub.url, {"HF_TOKEN": "hf_other"}).run("acme/closed")
    friend = Downloader(tmp_path / "c", hub.url, {"HF_TOKEN": TOKEN}).run("acme/closed")

    for told in (anonymous, stranger):
        assert told["cause"] == "MODEL_INVALID"
        assert "acme/closed" in told["message"]
        assert "HF_TOKEN" in told["hint"]
        assert "licence" in told["hint"]
    assert names_in(friend["folder"]) == sorted(SMALL)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "safetensors"),
        ({"model.safetensors": b"x"}, "config.json"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_not_downloaded(
    hub: HubServer, host: Downloader, files: dict[str, bytes], what: str
) -> None:
    hub.publish("acme/pickled", files)

    told = host.run("acme/pickled")

    assert told["cause"] == "MODEL_INVALID"
    assert f"has no {what}" in told["message"]
    assert not hub.downloads()


def test_a_fault_that_passes_is_borne_and_told(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/tiny", SMALL)
    hub.fail("/acme/tiny", 503, times=1)
    hub.fail("config.json", 500, times=1)

    got = host.run("acme/tiny")

    assert names_in(got["folder"]) == sorted(SMALL)
    assert "503" in host.events("HUB_RETRY")[0]["message"]


def test_a_hub_that_stays_away_is_a_fault_of_the_network(
    hub: HubServer, host: Downloader, tmp_path: Path
) -> None:
    hub.publish("acme/tiny", SMALL)
    hub.fail("/acme/tiny", 502)
    with running_hub() as gone:
        nobody = Downloader(tmp_path / "nobody", gone.url)

    processes = [one.start("acme/tiny") for one in (host, nobody)]
    busy, away = [json.loads(one.communicate(timeout=50)[0]) for one in processes]

    assert (busy["cause"], away["cause"]) == ("NETWORK", "NETWORK")
    assert "502" in busy["message"]
    assert len(hub.seen) == 4
    assert len(nobody.events("HUB_RETRY")) == 3


def test_a_hub_says_how_long_to_wait_within_reason(
    hub: HubServer, host: Downloader, tmp_path: Path
) -> None:
    hub.publish("acme/tiny", SMALL)
    hub.fail("/acme/tiny", 429, times=1, Retry_After="2")
    patient = host.run("acme/tiny")
    hub.fail("model.safetensors", 429, Retry_After="3600")

    told = Downloader(tmp_path / "other", hub.url).run("acme/tiny")

    assert "folder" in patient
    assert "again in 2 s" in host.events("HUB_RETRY")[0]["message"]
    assert told["cause"] == "NETWORK"
    assert "3600" in told["message"]


def test_an_address_that_is_no_hub_is_told_as_that(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/acme/tiny", 200)  # a page, as of a proxy that wants a login

    page = Downloader(tmp_path / "page", hub.url).run("acme/tiny")
    nonsense = Downloader(tmp_path / "nonsense", "nonsense").run("acme/tiny")

    for told in (page, nonsense):
        assert told["cause"] == "ENVIRONMENT_INVALID"
        assert "HF_ENDPOINT" in told["hint"]


def test_a_token_is_told_nowhere(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/tiny", SMALL)
    host.environment["HF_TOKEN"] = TOKEN
    # A proxy that says in its answer what it was sent.
    echoed = f"Bearer {TOKEN} is not welcome"
    hub.fail("model.safetensors", 418, X_Error_Message=echoed)

    told = host.run("acme/tiny")

    assert any(one.authorization == f"Bearer {TOKEN}" for one in hub.seen), "it was sent"
    assert "is not welcome" in told["message"]
    assert TOKEN not in json.dumps(told)
    for path in host.root.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_a_signed_address_is_told_nowhere(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/tiny", SMALL)
    signed = "https://cdn.example/blob?X-Amz-Signature=0ff1ce&X-Amz-Expires=9"
    hub.fail("model.safetensors", 418, X_Error_Message=f"{signed} is not welcome")

    told = host.run("acme/tiny")

    assert "https://cdn.example/blob is not welcome" in told["message"]
    assert "0ff1ce" not in json.dumps(told)


def test_a_body_longer_than_listed_is_not_taken_to_its_end(
    hub: HubServer, host: Downloader, large: dict[str, bytes]
) -> None:
    hub.publish("acme/large", large, claimed_bytes={"model.safetensors": MIB})

    told = host.run("acme/large")

    assert told["cause"] == "NETWORK"
    assert "model.safetensors is longer than the 1,048,576 bytes" in told["message"]
    assert all(one.body_bytes < LARGE_BYTES for one in hub.downloads("model.safetensors"))
    for partial in host.cache.glob("*/blobs/*.incomplete"):
        assert partial.stat().st_size <= MIB


class ListedElsewhere(Served):
    """A large file whose listing names a path where its hash belongs."""

    @property
    def sha256(self) -> str:
        return "../../../../elsewhere"


def test_a_listing_whose_hash_is_a_path_is_refused(hub: HubServer, host: Downloader) -> None:
    commit = hub.publish("acme/tiny", SMALL)
    lying = {**hub.repository("acme/tiny").commits[commit]}
    lying["model.safetensors"] = ListedElsewhere(b"weights", True)
    hub.repository("acme/tiny").commits[commit] = lying

    told = host.run("acme/tiny")

    assert told["cause"] == "ENVIRONMENT_INVALID"
    assert "no SHA-256 for model.safetensors" in told["message"]
    assert not list(host.root.rglob("elsewhere*"))


def test_what_is_no_commit_is_not_pinned(hub: HubServer, host: Downloader) -> None:
    commit = hub.publish("acme/tiny", SMALL)
    repository = hub.repository("acme/tiny")
    repository.commits["None"] = repository.commits[commit]
    repository.names["main"] = "None"

    told = host.run("acme/tiny")

    assert told["cause"] == "ENVIRONMENT_INVALID"
    assert "names no commit of model acme/tiny" in told["message"]
    assert not host.pins.exists()


def test_weights_that_are_there_twice_come_once() -> None:
    paths = ["config.json", "consolidated.safetensors", "model-00001-of-00001.safetensors"]

    assert needed_files(paths) == ["config.json", "model-00001-of-00001.safetensors"]
    assert needed_files(paths[:2]) == paths[:2]


def test_templates_and_processors_are_needed() -> None:
    paths = [
        "additional_chat_templates/tool_use.jinja",
        "chat_template.jinja",
        "preprocessor_config.json",
        "tokenizer.model",
        "vocab.txt",
    ]

    assert needed_files(paths) == paths


def test_a_stop_does_not_wait_for_a_download_which_goes_on_with_the_next_attempt(
    hub: HubServer, host: Downloader, large: dict[str, bytes], tmp_path: Path
) -> None:
    hub.publish("acme/large", large)
    hub.hold("model.safetensors", CUT_BYTES)
    run = hub_run_folder(tmp_path, "acme/large")
    process = host.train(run.path)
    assert hub.holding.acquire(timeout=30)
    wait_until_kept(host)

    (run.path / "stop.json").write_text(json.dumps({"mode": "PAUSE", "grace_seconds": 30.0}))
    process.terminate()
    process.communicate(timeout=5)
    host.run("acme/large")

    assert (process.returncode, run.result["outcome"]) == (0, "STOPPED")
    assert "DOWNLOAD_PROGRESS" not in run.event_types(), "it ended before it came to that"
    assert hub.downloads("model.safetensors")[-1].range == f"bytes={KEPT_BYTES}-"
