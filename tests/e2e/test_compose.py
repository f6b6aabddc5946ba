"""What deploy/ and docker-compose.yml say is run as it stands there, but for the containers."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from tunewright import Client
from tunewright.errors import Unauthenticated

from monitor_svc.config import MonitorConfig
from scheduler_svc.config import SchedulerConfig
from svckit.config import ServiceConfig, is_loopback, load_config
from tests.support.assets import make_assets
from tests.support.compose import FILE, ROOT, Containers, compose_file, containers, tcp_of
from tests.support.postgres import postgres_server
from trainer_svc.config import TrainerConfig

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
KINDS: Mapping[str, type[ServiceConfig]] = {
    "scheduler": SchedulerConfig,
    "monitor": MonitorConfig,
    "trainer": TrainerConfig,
    "trainer-gpu": TrainerConfig,
}


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    return compose_file()


def make_secrets(folder: Path) -> None:
    subprocess.run(
        ["sh", str(ROOT / "deploy" / "make-secrets.sh"), str(folder)],
        check=True,
        capture_output=True,
    )


def prepare_postgres(url: str, password: str) -> Path:
    """What the image's entrypoint does; the socket. The role needs its password."""
    admin = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(admin, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        rules = Path(connection.execute(text("SHOW hba_file")).scalar_one())
        rules.write_text("local all tunewright scram-sha-256\n" + rules.read_text())
        connection.execute(text("SELECT pg_reload_conf()"))
        connection.execute(text(f"CREATE ROLE tunewright SUPERUSER LOGIN PASSWORD '{password}'"))
        connection.execute(text("CREATE DATABASE scheduler OWNER tunewright"))
        for script in sorted((ROOT / "deploy" / "postgres").glob("*.sql")):
            connection.execute(text(script.read_text()))
        folder = connection.execute(text("SHOW unix_socket_directories")).scalar_one()
        port = connection.execute(text("SHOW port")).scalar_one()
    engine.dispose()
    return Path(folder) / f".s.PGSQL.{port}"


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, compose: Mapping[str, Any]
) -> Iterator[Containers]:
    """`docker compose up`: in the order of depends_on, each healthy before the next."""
    folder = tmp_path_factory.mktemp("compose")
    secrets = folder / "run" / "secrets"
    make_secrets(secrets)
    with postgres_server() as url:
        unix_socket = prepare_postgres(url, (secrets / "postgres-password").read_text())
        with tcp_of(unix_socket) as database, containers(folder, compose, database) as made:
            pgpass = secrets / "pgpass"
            pgpass.write_text(made.mapped(pgpass.read_text()))
            for name in ("scheduler", "monitor", "trainer"):
                before = {**compose["services"][name]["depends_on"]}
                assert set(before) <= {"postgres", *made.processes}
                assert {one["condition"] for one in before.values()} == {"service_healthy"}
                made.start(name)
                made.await_healthy(name)
            yield made


@pytest.mark.training
@pytest.mark.timeout(300)
def test_the_stack_trains_a_job_and_lets_nobody_in_without_a_token(
    running: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_assets(running.path("/models"))
    data = running.path("/data") / "train.jsonl"
    Path(model.train).rename(data)
    address = running.addresses["scheduler:7400"]

    with Client(address) as stranger, pytest.raises(Unauthenticated):
        stranger.jobs.list().__next__()
    monkeypatch.setenv("TUNEWRIGHT_TOKEN_FILE", str(running.path("/run/secrets/client-token")))
    with Client(address) as client:
        job = client.jobs.create(
            model=model.model,
            train_data=str(data),
            output_dir="first",
            accelerator="cpu",
            hyperparameters={"max_steps": 3, "logging_steps": 1},
        )
        with job.watch() as watch:
            sequences = [entry.sequence for entry in watch if entry.sequence]
        job.refresh()
        [trainer] = client.trainers.list()

    assert job.succeeded, job.failure
    assert sequences == list(range(1, len(sequences) + 1))
    assert (running.path("/outputs") / "first" / "adapter_model.safetensors").is_file()
    assert list((running.path("/artifacts") / "jobs").iterdir())
    assert trainer.name == "trainers/cpu"


@pytest.mark.training
@pytest.mark.timeout(300)
def test_the_doctor_of_the_first_lines_finds_it_well(running: Containers) -> None:
    [line] = re.findall(r"docker compose exec trainer (tunewright doctor .*)", FILE.read_text())

    done = running.run("trainer", line.split())

    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ training: 5 steps on trainers/cpu" in done.stdout
    assert "✗" not in done.stdout
    assert not list(running.path("/trial").iterdir())


@pytest.mark.training
@pytest.mark.timeout(300)
def test_secrets_are_on_no_command_line_and_in_no_environment(running: Containers) -> None:
    secrets = [
        line.rpartition(":")[2].strip()
        for file in running.path("/run/secrets").iterdir()
        for line in file.read_text().splitlines()
    ]

    seen = b"".join(
        Path(f"/proc/{process.pid}/{what}").read_bytes()
        for process in running.processes.values()
        for what in ("cmdline", "environ")
    )

    assert len(set(secrets)) == 3
    assert b"/run/secrets/tokens" in seen
    assert not [one for one in secrets if one.encode() in seen]


def test_the_file_is_a_compose_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(KINDS))
def test_each_service_takes_its_settings_as_they_stand(
    name: str, compose: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = dict(compose["services"][name]["environment"])
    for key in environment:
        if key.endswith("_ROOTS"):  # mounted there, and a trainer refuses those that are missing
            environment[key] = environment[key].replace('"/', f'"{tmp_path}/')
            for root in json.loads(environment[key]):
                Path(root).mkdir(parents=True, exist_ok=True)
    prefix = f"TUNEWRIGHT_{name.partition('-')[0].upper()}_"
    for key, value in environment.items():
        if value is not None:
            monkeypatch.setenv(key, value)

    config = load_config(KINDS[name], [])

    told = {key.removeprefix(prefix).lower() for key in environment if key.startswith(prefix)}
    assert told <= set(type(config).model_fields)
    assert config.token_file == Path("/run/secrets/tokens")
    assert config.listen.startswith("0.0.0.0:")


def test_ports_are_published_on_loopback_alone(compose: Mapping[str, Any]) -> None:
    published = [port for one in compose["services"].values() for port in one.get("ports", ())]

    assert published == ["127.0.0.1:7400:7400", "127.0.0.1:7401:7401"]
    assert all(is_loopback(port.split(":")[0]) for port in published)


def test_every_secret_is_made_and_for_its_owner_alone(
    compose: Mapping[str, Any], tmp_path: Path
) -> None:
    make_secrets(tmp_path)
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    make_secrets(tmp_path)

    wanted = {Path(one["file"]).name for one in compose["secrets"].values()}
    used = {one for service in compose["services"].values() for one in service.get("secrets", ())}
    assert used == set(compose["secrets"])
    assert wanted | {"client-token"} == set(before)
    assert before == {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_the_secrets_folder_is_of_the_user_of_the_containers(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets")

    owner = os.getuid() or 1000
    assert (tmp_path / "secrets").stat().st_uid == owner
    assert (tmp_path / "secrets" / "client-token").stat().st_uid == owner


def test_no_secret_is_better_than_an_empty_one(tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "od"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 00\n")
    broken.chmod(0o755)

    done = subprocess.run(
        ["sh", str(ROOT / "deploy" / "make-secrets.sh"), str(tmp_path / "secrets")],
        env={**os.environ, "PATH": f"{broken.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "No secret for service-token can be made" in done.stderr
    assert not list((tmp_path / "secrets").iterdir())


def test_hubs_are_allowed_by_a_variable_and_their_token_stands_nowhere(
    compose: Mapping[str, Any],
) -> None:
    for name in ("trainer", "trainer-gpu"):
        environment = compose["services"][name]["environment"]
        assert environment["TUNEWRIGHT_TRAINER_ALLOW_HUB"] == "false"
        assert (environment["HF_TOKEN"], environment["HF_ENDPOINT"]) == (None, None)
        caches = (environment["HF_HOME"], environment["MODELSCOPE_CACHE"])
        mounts = [volume.split(":")[1] for volume in compose["services"][name]["volumes"]]
        assert all(f"/{cache.split('/')[1]}" in mounts for cache in caches)
    assert "${TUNEWRIGHT_ALLOW_HUB:-false}" in FILE.read_text(encoding="utf-8")


def test_no_image_is_built_twice_and_each_target_has_its_own(compose: Mapping[str, Any]) -> None:
    ours = {
        name: one
        for name, one in compose["services"].items()
        if one["image"].startswith("tunewright")
    }
    built = [one["image"] for one in ours.values() if "build" in one]

    assert len(built) == len(set(built))
    for one in ours.values():
        assert "build" in one or (one["image"] in built and one["pull_policy"] == "never")
    assert "image: tunewright-${TUNEWRIGHT_TRAINER_TARGET:-trainer}\n" in FILE.read_text()


def instructions(word: str) -> list[str]:
    """The Dockerfile's lines of a kind, continued ones joined."""
    joined = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.partition(" ")[2] for line in joined.splitlines() if line.startswith(f"{word} ")]


def test_what_is_copied_into_the_images_is_there_and_not_kept_from_the_builder() -> None:
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    sources = {
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }

    assert len(sources) > 8
    assert not [source for source in sources if not (ROOT / source).exists()]
    assert not [source for source in sources if f"!{source}" not in ignored]
    assert "*" in ignored


def test_what_is_installed_into_the_images_is_pinned_and_has_the_extras() -> None:
    projects = {
        ".": tomllib.loads((ROOT / "pyproject.toml").read_text()),
        "./clients/python": tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text()),
    }

    installs = [line for line in instructions("RUN") if "pip install" in line]
    named = [
        found
        for line in installs
        for found in re.findall(r"'?(\.(?:/clients/python)?)(?:\[([\w,]+)\])?'?(?=\s|$)", line)
    ]

    pinned = r"--constraint constraints\.txt|--requirement constraints-swift\.txt"
    assert len(installs) == 4
    assert all(re.search(pinned, line) for line in installs)
    assert sorted(named) == [
        (".", ""), (".", "train"), ("./clients/python", "cli"), ("./clients/python", "cli"),
    ]  # fmt: skip
    for source, extra in named:
        extras = projects[source]["project"].get("optional-dependencies", {})
        assert not extra or extra in extras


def test_images_run_as_nobody_in_particular_and_their_targets_exist(
    compose: Mapping[str, Any],
) -> None:
    stages = dict.fromkeys(line.split(" AS ")[1] for line in instructions("FROM"))
    built = [one["build"]["target"] for one in compose["services"].values() if "build" in one]

    assert {*built, "trainer-swift"} <= set(stages)
    assert instructions("USER") == ["tunewright", "tunewright"]
    [swift] = [line for line in instructions("ENV") if "SWIFT" in line]
    assert swift == "TUNEWRIGHT_TRAINER_SWIFT_PYTHON=/opt/swift/bin/python"
    assert "swift_python" in TrainerConfig.model_fields
    assert not [line for line in instructions("COPY") if line.startswith("--from=build-trainer")][
        1:
    ]


def test_systemd_ends_the_trainer_service_and_not_its_runs() -> None:
    units = {file.stem: file.read_text() for file in (ROOT / "deploy/systemd").glob("*.service")}

    assert set(units) == {"tunewright-scheduler", "tunewright-monitor", "tunewright-trainer"}
    trainer = units["tunewright-trainer"].splitlines()
    assert {"KillMode=process", "OOMPolicy=continue"} <= set(trainer)
    [told] = [line for line in trainer if line.startswith("Environment=")]
    caches = dict(one.split("=") for one in told.removeprefix("Environment=").split())
    assert set(caches) == {"HF_HOME", "MODELSCOPE_CACHE"}
    assert all(folder.startswith("/var/lib/tunewright/") for folder in caches.values())
    for name, unit in units.items():
        [command] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
        assert command.endswith(f"-m {name.removeprefix('tunewright-')}_svc")
