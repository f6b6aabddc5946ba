"""`tunewright doctor` against an installation that is ill in each way it can be."""

# ruff: noqa: N802 # the contract names the methods
from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tunewright
from tunewright.cli.app import run
from tunewright.v1 import (
    fleet_service_pb2,
    job_pb2,
    monitor_service_pb2,
    spec_pb2,
    trainer_pb2,
    trainer_service_pb2,
    trainer_service_pb2_grpc,
)
from tunewright.wire.reasons import Reason
from tunewright.wire.status import RichError, make_error

from tests.integration.sdk.fake_services import FakeMonitor, FakeScheduler, Served, abort

GIB = 1024**3
VERSION = tunewright.__version__
NOBODY = "127.0.0.1:1"
NO_DATABASE = make_error(Reason.DATABASE_UNAVAILABLE, "the database does not answer")


def say(context: Any, version: str, ahead_seconds: float = 0.0) -> None:
    """What real services say of themselves with each answer."""
    told = (("tunewright-version", version), ("tunewright-time", f"{time.time() + ahead_seconds}"))
    context.set_trailing_metadata(told)


@dataclass
class Scheduler(FakeScheduler):
    version: str = VERSION
    ahead_seconds: float = 0.0
    refuses: bool = False
    endpoints_error: RichError | None = None
    trainers_error: RichError | None = None

    def GetEndpoints(self, request: Any, context: Any) -> fleet_service_pb2.Endpoints:
        if self.refuses:
            abort(context, make_error(Reason.UNAUTHENTICATED, "a known bearer token is needed"))
        if self.endpoints_error:
            abort(context, self.endpoints_error)
        say(context, self.version, self.ahead_seconds)
        return fleet_service_pb2.Endpoints(monitors=self.monitors, version=self.version)

    def ListTrainers(self, request: Any, context: Any) -> fleet_service_pb2.ListTrainersResponse:
        if self.trainers_error:
            abort(context, self.trainers_error)
        return super().ListTrainers(request, context)


@dataclass
class Monitor(FakeMonitor):
    version: str = VERSION
    error: RichError | None = None

    def ListEntries(self, request: Any, context: Any) -> monitor_service_pb2.ListEntriesResponse:
        if self.version:
            say(context, self.version)
        if self.error:
            abort(context, self.error)
        return monitor_service_pb2.ListEntriesResponse()


@dataclass
class Trainer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Tells `system`; with `hangs` it answers only when it is let go."""

    system: trainer_service_pb2.SystemInfo
    ahead_seconds: float = 0.0
    hangs: bool = False
    error: RichError | None = None
    let_go: threading.Event = field(default_factory=threading.Event)

    def serve(self) -> Served:
        return Served(
            lambda server: trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(
                self, server
            )
        )

    def GetSystemInfo(self, request: Any, context: Any) -> trainer_service_pb2.SystemInfo:
        if self.hangs:
            self.let_go.wait(30)
        if self.error:
            abort(context, self.error)
        say(context, self.system.capabilities.version, self.ahead_seconds)
        return self.system


def healthy_system(name: str) -> trainer_service_pb2.SystemInfo:
    """A CPU host that lacks nothing."""
    free = {"bytes_total": 100 * GIB, "bytes_free": 50 * GIB}
    return trainer_service_pb2.SystemInfo(
        trainer=f"trainers/{name}",
        hostname="another-host",
        capabilities=trainer_pb2.TrainerCapabilities(
            backends=[spec_pb2.BACKEND_QLORA],
            cpu_slots=1,
            version=VERSION,
            artifact_store="store-1",
        ),
        disks=[
            trainer_service_pb2.Disk(role=role, path=f"/srv/{role}", **free)
            for role in ("workspace", "artifacts", "outputs")
        ],
    )


@dataclass
class Installation:
    """Fakes behind real servers, all well until a test changes them."""

    scheduler: Scheduler
    scheduler_server: Served
    monitor: Monitor
    monitor_server: Served
    capture: pytest.CaptureFixture[str]
    trainers: dict[str, Trainer] = field(default_factory=dict)
    servers: dict[str, Served] = field(default_factory=dict)

    def add(self, name: str) -> Trainer:
        trainer = Trainer(healthy_system(name))
        self.trainers[name], self.servers[name] = trainer, trainer.serve()
        self.scheduler.trainers[f"trainers/{name}"] = trainer_pb2.Trainer(
            name=f"trainers/{name}",
            address=self.servers[name].address,
            state=trainer_pb2.TRAINER_STATE_READY,
            capabilities=trainer.system.capabilities,
        )
        return trainer

    def record(self, name: str = "a") -> trainer_pb2.Trainer:
        """As the scheduler knows it."""
        return self.scheduler.trainers[f"trainers/{name}"]

    def add_gpu(self, **more: Any) -> None:
        """One H200 on "a", with a driver and torch that go together."""
        system = self.trainers["a"].system
        system.gpus.add(gpu_id="0", product_name="NVIDIA H200", **more)
        system.driver_version, system.cuda_version = "580.1", "13.0"
        system.torch_cuda_version = "13.0"
        system.library_versions["torch"] = "2.13.0"

    def look(self, *flags: str) -> tuple[int, list[str]]:
        """Exit code and printed lines."""
        code = run(["doctor", "--address", self.scheduler_server.address, *flags])
        return code, self.capture.readouterr().out.splitlines()

    def stop(self) -> None:
        for trainer in self.trainers.values():
            trainer.let_go.set()
        for server in (*self.servers.values(), self.monitor_server, self.scheduler_server):
            server.stop()


@pytest.fixture
def installation(capsys: pytest.CaptureFixture[str]) -> Iterator[Installation]:
    monitor = Monitor()
    monitor_server = monitor.serve()
    scheduler = Scheduler(monitors=[monitor_server.address])
    made = Installation(scheduler, scheduler.serve(), monitor, monitor_server, capsys)
    made.add("a")
    yield made
    made.stop()


def told(lines: list[str], part: str) -> str:
    """The one line with this in it."""
    [found] = [line for line in lines if part in line]
    return found


def test_all_is_well(installation: Installation) -> None:
    code, lines = installation.look()

    assert code == 0
    assert [line[0] for line in lines] == ["✓"] * len(lines)
    assert [line[2:].partition(":")[0] for line in lines] == [
        "scheduler", "monitor", *["trainers/a"] * 4, "versions", "clocks", "queue",
    ]  # fmt: skip


def test_every_finding_is_one_json_object(installation: Installation) -> None:
    installation.record().cordoned = True

    code, lines = installation.look("--json")

    found = [json.loads(line) for line in lines]
    assert code == 0
    assert all(set(one) == {"level", "subject", "finding", "advice"} for one in found)
    assert [one["advice"] for one in found if one["level"] == "warning"] == [
        "tunewright trainers uncordon a"
    ]


def test_no_scheduler_is_one_finding(installation: Installation) -> None:
    installation.scheduler_server.stop()

    code, lines = installation.look()

    assert code == 1
    [line] = lines
    assert line.startswith("✗ scheduler: cannot reach the scheduler at 127.0.0.1:")
    assert line.endswith("--address HOST:PORT")


def test_a_token_that_is_not_known_is_a_finding(installation: Installation) -> None:
    installation.scheduler.refuses = True

    code, lines = installation.look()

    assert code == 1
    [line] = lines
    assert line.startswith("✗ scheduler: a known bearer token is needed → ")
    assert "TUNEWRIGHT_TOKEN_FILE" in line


def test_a_monitor_that_is_down_does_not_keep_the_rest_from_being_seen(
    installation: Installation,
) -> None:
    installation.monitor_server.stop()

    code, lines = installation.look()

    assert code == 1
    assert told(lines, "cannot reach the monitor").startswith("✗ monitor: ")
    assert told(lines, "client and 2 services")


def test_a_scheduler_without_its_database_is_broken(installation: Installation) -> None:
    installation.scheduler.endpoints_error = NO_DATABASE

    code, lines = installation.look()

    assert code == 1
    assert lines == ["✗ scheduler: the database does not answer → it runs; its log says more"]


def test_a_monitor_without_its_database_is_broken(installation: Installation) -> None:
    installation.monitor.error = NO_DATABASE

    code, lines = installation.look()

    assert code == 1
    assert told(lines, "✗ monitor: the database does not answer")
    assert not [line for line in lines if line.startswith("✓ monitor")]


def test_a_monitor_that_does_not_know_the_job_of_the_question_is_well(
    installation: Installation,
) -> None:
    installation.monitor.error = make_error(Reason.JOB_NOT_FOUND, "job not found: jobs/doctor")

    code, lines = installation.look()

    assert code == 0
    assert told(lines, "✓ monitor: answers at ")


def test_trainers_that_cannot_be_listed_are_one_finding(installation: Installation) -> None:
    installation.scheduler.trainers_error = NO_DATABASE

    code, lines = installation.look()

    assert code == 1
    assert told(lines, "trainers").startswith("✗ trainers: the database does not answer → ")


def test_a_trainer_that_answers_with_an_error_is_broken(installation: Installation) -> None:
    installation.trainers["a"].error = make_error(Reason.INTERNAL, "OSError; see the log")

    code, lines = installation.look()

    assert code == 1
    assert told(lines, "OSError").startswith("✗ trainers/a: OSError; see the log → ")


def test_a_monitor_is_reached_where_it_is_said_to_be(installation: Installation) -> None:
    installation.scheduler.monitors = [NOBODY]

    code, lines = installation.look("--monitor", installation.monitor_server.address)

    assert code == 0
    assert told(lines, "✓ monitor: answers at " + installation.monitor_server.address)


def test_an_installation_without_monitor_and_trainer(installation: Installation) -> None:
    installation.scheduler.monitors = []
    installation.scheduler.trainers = {}

    code, lines = installation.look()

    assert code == 1
    assert told(lines, "✗ monitor: the scheduler knows of none")
    assert told(lines, "✗ trainers: none has registered")


def test_an_address_of_no_host_is_told(installation: Installation) -> None:
    installation.scheduler.monitors = ["0.0.0.0:1"]

    _, lines = installation.look()

    assert "--advertise-address" in told(lines, "0.0.0.0:1, which is no address")


def test_a_trainer_that_hangs_costs_no_more_than_the_timeout(installation: Installation) -> None:
    installation.trainers["a"].hangs = True
    installation.add("b").hangs = True
    started = time.monotonic()

    code, lines = installation.look("--timeout", "1")

    assert time.monotonic() - started < 5
    assert code == 0
    assert told(lines, "! trainers/a: ").endswith("where it can be reached: on its host")
    assert told(lines, "! trainers/b: ")


@pytest.mark.parametrize(
    ("state", "is_up", "expected", "code"),
    [
        (trainer_pb2.TRAINER_STATE_READY, False, "! trainers/a: cannot reach", 0),
        (trainer_pb2.TRAINER_STATE_SUSPECT, True, "! trainers/a: is SUSPECT", 0),
        (trainer_pb2.TRAINER_STATE_SUSPECT, False, "✗ trainers/a: cannot reach", 1),
        (trainer_pb2.TRAINER_STATE_LOST, False, "✗ trainers/a: is LOST", 1),
    ],
)
def test_a_trainer_is_as_well_as_scheduler_and_it_say(
    installation: Installation,
    state: trainer_pb2.TrainerState.ValueType,
    is_up: bool,
    expected: str,
    code: int,
) -> None:
    installation.record().state = state
    if not is_up:
        installation.servers["a"].stop()

    found = installation.look()

    assert found[0] == code
    assert told(found[1], expected)


def test_versions_that_differ_are_named(installation: Installation) -> None:
    installation.trainers["a"].system.capabilities.version = "0.0.9"
    installation.scheduler.version = "9.9"
    installation.monitor.version = ""

    code, lines = installation.look()

    assert code == 0
    assert told(lines, f"! trainers/a: is of version 0.0.9; this client is {VERSION}")
    assert told(lines, f"! scheduler: is of version 9.9; this client is {VERSION}")
    assert told(lines, "! monitor: does not tell its version: it is older")


@pytest.mark.parametrize(
    ("free", "mark", "code"), [(GIB // 2, "✗", 1), (5 * GIB, "!", 0), (9 * GIB, "✓", 0)]
)
def test_a_disk_must_hold_checkpoints(
    installation: Installation, free: int, mark: str, code: int
) -> None:
    installation.trainers["a"].system.disks[1].bytes_free = free

    found = installation.look()

    assert found[0] == code
    line = told(found[1], "(/srv/artifacts)")
    assert line.startswith(mark)
    assert ("make room" in line) == (mark != "✓")


def test_a_healthy_gpu_is_one_line(installation: Installation) -> None:
    installation.add_gpu(temperature_celsius=60)

    code, lines = installation.look()

    assert code == 0
    assert told(lines, "GPU") == "✓ trainers/a: GPUs: 0 NVIDIA H200, driver 580.1"


def no_cuda(system: trainer_service_pb2.SystemInfo) -> None:
    system.torch_cuda_version = ""


def old_driver(system: trainer_service_pb2.SystemInfo) -> None:
    system.cuda_version = "12.8"


def stranger(system: trainer_service_pb2.SystemInfo) -> None:
    system.gpus[0].foreign_pids.append(4711)


def hot(system: trainer_service_pb2.SystemInfo) -> None:
    system.gpus[0].temperature_celsius = 91


@pytest.mark.parametrize(
    ("spoil", "expected", "code"),
    [
        (no_cuda, "✗ trainers/a: has GPUs, but its torch is built for the CPU alone", 1),
        (old_driver, "✗ trainers/a: torch is built for CUDA 13.0; driver 580.1 knows 12.8", 1),
        (stranger, "! trainers/a: GPU 0 is used by processes of others (4711)", 0),
        (hot, "! trainers/a: GPU 0 is at 91 °C", 0),
    ],
)
def test_what_is_wrong_with_a_gpu(
    installation: Installation,
    spoil: Callable[[trainer_service_pb2.SystemInfo], None],
    expected: str,
    code: int,
) -> None:
    installation.add_gpu()
    spoil(installation.trainers["a"].system)

    found = installation.look()

    assert found[0] == code
    assert told(found[1], expected)
    assert not [line for line in found[1] if line.startswith("✓ trainers/a: GPUs")]


def test_torch_without_cuda_beside_a_swift_that_has_its_own_is_only_odd(
    installation: Installation,
) -> None:
    installation.add_gpu()
    system = installation.trainers["a"].system
    no_cuda(system)
    system.capabilities.backends.append(spec_pb2.BACKEND_SWIFT)

    code, lines = installation.look()

    assert code == 0
    line = told(lines, "built for the CPU alone, so only swift jobs can use them")
    assert line.startswith("! trainers/a: ")


def test_a_backend_that_is_missing_has_its_reason(installation: Installation) -> None:
    able = installation.trainers["a"].system.capabilities
    able.missing_backends["BACKEND_SWIFT"] = "not installed: ms-swift"

    code_with_another, with_another = installation.look()
    del able.backends[:]
    able.missing_backends["BACKEND_QLORA"] = "not installed: trl"
    code_with_none, with_none = installation.look()

    assert (code_with_another, code_with_none) == (0, 1)
    assert told(with_another, "! trainers/a: no swift: not installed: ms-swift")
    assert told(with_none, "✗ trainers/a: no qlora: not installed: trl")


def test_each_backend_says_which_models_it_trains_and_what_is_missing_for_others(
    installation: Installation,
) -> None:
    able = installation.trainers["a"].system.capabilities
    able.backend_notes["BACKEND_QLORA"] = "torchvision has no operators"
    for name, reads_pictures, missing in (
        ("Qwen3", False, []),
        ("Qwen2.5-VL", True, []),
        ("SmolVLM2", True, ["num2words"]),
    ):
        able.families.add(
            family=name,
            backend=spec_pb2.BACKEND_QLORA,
            reads_pictures=reads_pictures,
            missing_packages=missing,
        )
    able.families.add(family="GLM-9", backend=spec_pb2.BACKEND_QLORA, unsupported="no type")
    able.features.add(feature="LoRA", backend=spec_pb2.BACKEND_QLORA)

    code, lines = installation.look()

    assert code == 0
    assert told(lines, "✓ trainers/a: qlora trains text: Qwen3")
    assert told(lines, "✓ trainers/a: qlora trains pictures: Qwen2.5-VL")
    assert told(lines, "✓ trainers/a: qlora does not train: GLM-9")
    assert told(lines, "✓ trainers/a: qlora takes: LoRA")
    assert told(lines, "✓ trainers/a: qlora note: torchvision has no operators")
    line = told(lines, "! trainers/a: qlora lacks num2words, for SmolVLM2")
    assert "install it" in line


def test_a_host_on_which_no_job_fits(installation: Installation) -> None:
    installation.trainers["a"].system.capabilities.cpu_slots = 0

    code, lines = installation.look()

    assert code == 1
    assert told(lines, "✗ trainers/a: has neither a GPU nor a CPU slot")


@pytest.mark.parametrize(("ahead", "mark", "code"), [(20.0, "!", 0), (-120.0, "✗", 1)])
def test_a_clock_that_is_off(
    installation: Installation, ahead: float, mark: str, code: int
) -> None:
    installation.trainers["a"].ahead_seconds = ahead

    found = installation.look()

    assert found[0] == code
    lines = [line for line in found[1] if "its clock is" in line]
    side = "ahead of" if ahead > 0 else "behind"
    assert [line.partition(" →")[0].split(f" {side} ")[1] for line in lines] == [
        "this machine's", "the scheduler's",
    ]  # fmt: skip
    assert all(line.startswith(f"{mark} trainers/a: ") for line in lines)


def test_clocks_of_the_services_that_agree_are_not_blamed_for_this_machine(
    installation: Installation,
) -> None:
    installation.scheduler.ahead_seconds = installation.trainers["a"].ahead_seconds = 20.0

    _, lines = installation.look()

    assert [line[2:].partition(":")[0] for line in lines if "its clock is" in line] == [
        "scheduler", "trainers/a",
    ]  # fmt: skip
    assert not [line for line in lines if "the scheduler's" in line]


def test_trainers_that_share_no_artifact_store(installation: Installation) -> None:
    other = installation.add("b")

    _, shared = installation.look()
    other.system.capabilities.artifact_store = "store-2"
    installation.record("b").capabilities.artifact_store = "store-2"
    _, apart = installation.look()

    assert told(shared, "✓ artifact store: shared by 2 trainers")
    assert told(apart, "! artifact store: 2 trainers have 2 of them")


def test_jobs_that_wait_are_counted_by_their_reason(installation: Installation) -> None:
    for number in range(3):
        name = installation.scheduler.add(f"j{number}", job_pb2.JOB_STATE_QUEUED)
        installation.scheduler.jobs[name].pending_reason = "no GPU" if number else "all are busy"

    _, lines = installation.look()

    assert told(lines, "queue: 3 jobs wait: no GPU (2); all are busy (1)").startswith("!")


def test_nothing_is_put_on_another_host(installation: Installation) -> None:
    code, lines = installation.look("--train")

    assert code == 1
    assert told(lines, "✗ training: not tried: no trainer that answers runs on this machine")
    assert not installation.scheduler.jobs


def test_nothing_is_tried_where_it_cannot_be(installation: Installation, tmp_path: Path) -> None:
    system = installation.trainers["a"].system
    system.hostname = socket.gethostname()
    system.model_roots.append(str(tmp_path / "nowhere"))

    _, without_root = installation.look("--train")
    system.capabilities.cpu_slots = 0
    _, without_slot = installation.look("--train")

    assert told(without_root, "has no model root and data root that can be written to")
    assert told(without_slot, "takes no QLoRA jobs on its CPU now")
    assert not installation.scheduler.jobs
