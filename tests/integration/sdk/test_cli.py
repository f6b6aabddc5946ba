"""The command line as a user meets it: real processes, against fake services on real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tunewright.v1 import feed_pb2, job_pb2, job_service_pb2, spec_pb2, trainer_pb2
from tunewright.wire.reasons import Reason, Violation
from tunewright.wire.status import make_error

from tests.integration.sdk.fake_services import FakeMonitor, FakeScheduler, FakeTrainer, Served
from tests.support.eventually import eventually_sync

Tunewright = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(scheduler_server: Served) -> dict[str, str]:
    return {**os.environ, "TUNEWRIGHT_ADDRESS": scheduler_server.address, "TZ": "UTC"}


@pytest.fixture
def tunewright(environment: dict[str, str], tmp_path: Path) -> Tunewright:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tunewright", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            cwd=tmp_path,
        )

    return run


def test_create_sends_what_was_typed_with_paths_made_absolute(
    tunewright: Tunewright, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").touch()

    done = tunewright(
        "jobs", "create", "--model", "Qwen/Qwen3-0.6B", "--data", "rows.jsonl#10",
        "--eval-data", "owner/set", "--format", "lccc", "--set", "learning_rate=1e-4",
        "--set", "packing=true", "--gpu", "0", "--gpu", "1", "--gpu-memory", "24GiB",
        "--trainer", "a", "--priority", "5", "--label", "team=x", "--name", "First",
        "--run-timeout", "2h", "--attempts", "1", "--hold", "--id", "mine",
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "jobs/mine  HELD\n", "")
    [request] = scheduler.calls(job_service_pb2.CreateJobRequest)
    spec = request.job.spec
    assert spec.model.name == "Qwen/Qwen3-0.6B"
    assert spec.train_data[0].source == f"{tmp_path}/rows.jsonl#10"
    assert spec.train_data[0].format == spec_pb2.DATA_FORMAT_LCCC
    assert spec.eval_data[0].source == "owner/set"
    assert (spec.hyperparameters.learning_rate, spec.hyperparameters.packing) == (1e-4, True)
    assert list(spec.resources.gpu_ids) == ["0", "1"]
    assert spec.resources.gpu_memory_bytes_min == 24 * 2**30
    assert spec.resources.trainer == "trainers/a"
    assert spec.run_timeout.seconds == 7200
    assert spec.retry_policy.attempts_max == 1
    assert spec.output_dir.startswith("qwen3-0.6b-")
    assert (request.job.priority, request.job.display_name) == (5, "First")
    assert request.job.labels == {"team": "x"}
    assert request.hold


def test_create_takes_a_whole_spec_from_a_file(
    tunewright: Tunewright, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    spec = {"model": {"name": "m"}, "output_dir": "o", "resources": {"gpu_count": 2}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))

    done = tunewright("jobs", "create", "-f", "spec.json", "--json")

    record = json.loads(done.stdout)
    assert record["spec"]["resources"]["gpu_count"] == 2
    assert record["state"] == "JOB_STATE_QUEUED"
    assert scheduler.jobs[record["name"]].spec.output_dir == "o"


def test_validate_only_prints_the_plan(tunewright: Tunewright, scheduler: FakeScheduler) -> None:
    done = tunewright("jobs", "create", "--model", "m", "--data", "d", "--validate-only")

    assert done.stdout.splitlines() == [
        "the request is valid; nothing was stored",
        "fits on      trainers/a",
        f"output dir   {done.stdout.splitlines()[2].split()[-1]}",
        "checked      the form",
        "not checked  the model",
        "             the data",
        "to read model and data on a trainer, without a GPU: tunewright data check",
        "command",
        "train",
    ]
    assert scheduler.jobs == {}


def test_validate_only_says_why_no_trainer_fits(
    tunewright: Tunewright, scheduler: FakeScheduler
) -> None:
    scheduler.why_nowhere = "no trainer has a GPU"

    done = tunewright("jobs", "create", "--model", "m", "--data", "d", "--validate-only")

    assert "fits on      no trainer that is registered now: no trainer has a GPU" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "learning_rat=1"], "--set learning_rat=...: no such field; did you mean"),
        (["--set", "max_steps=x"], "--set max_steps=...: expected a whole number, got 'x'"),
        (["--gpu-memory", "24"], "--gpu-memory: 24 needs a unit, as in 24GiB"),
        (["--set", "seed=1", "--set", "seed=2"], "--set: seed is given twice"),
        (["--swift", "template=a", "--swift", "template=b"], "--swift: template is given twice"),
        (["--label", "a=1", "--label", "a=1"], "--label: a is given twice"),
        (["--data", "a.jsonl", "b.jsonl", "c.jsonl"], "unexpected argument 'b.jsonl' and 1 more"),
        (["--set", "cutoff_len=512"], "--set cutoff_len=...: no such field; did you mean 'max_l"),
        (["--gpu-memory", "lots"], "--gpu-memory: expected a size like 24GiB, got 'lots'"),
        (["--cpu", "--gpu", "0"], "--cpu does not go with --gpu, --gpus and --gpu-memory"),
        (["--watch", "--hold"], "--watch does not go with --hold and --validate-only"),
        (["--label", "x"], "--label: expected name=value, got 'x'"),
        (["-f", "missing.json"], "--file missing.json: No such file or directory"),
        (["--nonsense"], "No such option"),
        (["--address", "nowhere"], "expected an address like 127.0.0.1:7400, got 'nowhere'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    tunewright: Tunewright, scheduler: FakeScheduler, arguments: list[str], told: str
) -> None:
    done = tunewright("jobs", "create", "--model", "m", *arguments)

    first = done.stderr.splitlines()[0]
    assert done.returncode == 2
    assert first.startswith("error: ")
    assert told in first
    assert "Traceback" not in done.stderr
    assert scheduler.jobs == {}


def test_a_refused_request_is_a_line_for_each_violation(
    tunewright: Tunewright, scheduler: FakeScheduler
) -> None:
    bad = [
        Violation("job.spec.model.name", "is required"),
        Violation("job.spec.hyperparameters.learning_rate", "must be above 0"),
    ]
    scheduler.failures = [make_error(Reason.INVALID_REQUEST, "2 bad fields", violations=bad)]

    done = tunewright("jobs", "create")

    assert done.returncode == 2
    assert done.stderr == (
        "error: --model: is required\nerror: --set learning_rate=...: must be above 0\n"
    )


def test_create_with_nothing_names_options(
    tunewright: Tunewright, scheduler: FakeScheduler
) -> None:
    bad = [Violation("job.spec", "is required")]
    scheduler.failures = [make_error(Reason.INVALID_REQUEST, "1 bad field", violations=bad)]

    done = tunewright("jobs", "create")

    assert done.returncode == 2
    assert done.stderr == "error: give --model and --data, or --recipe, or --file\n"


def test_programs_get_fields_where_people_get_options(
    tunewright: Tunewright, scheduler: FakeScheduler
) -> None:
    bad = [Violation("job.spec.train_data", "is required")]
    scheduler.failures = [make_error(Reason.INVALID_REQUEST, "1 bad field", violations=bad)]

    done = tunewright("jobs", "create", "--model", "m", "--json")

    assert json.loads(done.stderr)["error"]["violations"] == [
        {"field": "job.spec.train_data", "description": "is required"}
    ]


def test_an_error_for_programs_is_one_json_object_on_stderr(
    tunewright: Tunewright, scheduler: FakeScheduler
) -> None:
    done = tunewright("jobs", "get", "missing", "--json")

    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout) == (1, "")
    assert error == {
        "reason": "JOB_NOT_FOUND",
        "code": "NOT_FOUND",
        "message": "job not found: jobs/missing",
        "metadata": {},
        "violations": [],
    }


def test_a_forbidden_move_is_told_and_exit_code_1(
    tunewright: Tunewright, scheduler: FakeScheduler
) -> None:
    scheduler.add("a", job_pb2.JOB_STATE_SUCCEEDED)

    done = tunewright("jobs", "cancel", "a")

    assert (done.returncode, done.stderr) == (1, "error: jobs/a has ended\n")


def test_list_prints_a_table_or_an_object_for_each_job(
    tunewright: Tunewright, scheduler: FakeScheduler
) -> None:
    scheduler.add("a")
    scheduler.add("b", job_pb2.JOB_STATE_FAILED)

    table, records = tunewright("jobs", "list"), tunewright("jobs", "list", "--json")

    assert [line.split()[:2] for line in table.stdout.splitlines()] == [
        ["JOB", "STATE"],
        ["a", "RUNNING"],
        ["b", "FAILED"],
    ]
    found = [json.loads(line) for line in records.stdout.splitlines()]
    assert [one["name"] for one in found] == ["jobs/a", "jobs/b"]


def test_list_by_state(tunewright: Tunewright, scheduler: FakeScheduler) -> None:
    scheduler.add("a")
    scheduler.add("b", job_pb2.JOB_STATE_FAILED)
    scheduler.add("c", job_pb2.JOB_STATE_HELD)

    listed = tunewright("jobs", "list", "--state", "failed", "--state", "held", "--json")
    none = tunewright("jobs", "list", "--state", "paused")
    wrong = tunewright("jobs", "list", "--state", "broken")

    found = [json.loads(line)["name"] for line in listed.stdout.splitlines()]
    assert found == ["jobs/b", "jobs/c"]
    assert (none.stdout, none.stderr) == ("", "no jobs match\n")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: --state: expected one of held, queued, ")


def with_attempts(scheduler: FakeScheduler, attempts: int) -> str:
    """A job that has been tried so often."""
    name = scheduler.add("a", job_pb2.JOB_STATE_SUCCEEDED)
    scheduler.jobs[name].attempt = attempts
    return name


def test_get_shows_the_receipt_of_the_newest_attempt(
    tunewright: Tunewright, scheduler: FakeScheduler, monitor: FakeMonitor
) -> None:
    name = with_attempts(scheduler, 1)
    for part, source in (("train", "/d/rows.jsonl"), ("eval", "/d/held.jsonl")):
        monitor.append(name, event=feed_pb2.Event(type="X"))
        data = feed_pb2.DataPrepared(
            part=part, source=source, rows_read=12, rows_kept=10, tokens=100, supervised_tokens=25,
            dropped=[feed_pb2.DroppedRows(reason="malformed", count=2, places=["rows.jsonl:3"])],
        )  # fmt: skip
        monitor.append(name, data_prepared=data)

    done = tunewright("jobs", "get", "a")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(
        "receipt of train data  /d/rows.jsonl\n"
        "  rows     10 of 12 kept\n"
        "  dropped  2 malformed (first: rows.jsonl:3)\n"
        "  tokens   100, 25 with loss (25 %)\n"
        "receipt of eval data  /d/held.jsonl\n"
        "  rows     10 of 12 kept\n"
        "  dropped  2 malformed (first: rows.jsonl:3)\n"
        "  tokens   100, 25 with loss (25 %)\n"
    )


def test_get_shows_the_job_while_the_monitor_is_away(
    tunewright: Tunewright, scheduler: FakeScheduler, monitor_server: Served
) -> None:
    with_attempts(scheduler, 1)
    monitor_server.stop()

    done = tunewright("jobs", "get", "a")

    assert done.returncode == 0
    assert "state    SUCCEEDED" in done.stdout
    assert done.stderr.startswith("receipt of the data: not available (")
    assert len(done.stderr.splitlines()) == 1


def test_get_asks_no_monitor_about_a_job_that_never_ran(
    tunewright: Tunewright, scheduler: FakeScheduler, monitor_server: Served
) -> None:
    scheduler.add("a", job_pb2.JOB_STATE_QUEUED)
    monitor_server.stop()

    assert tunewright("jobs", "get", "a").stderr == ""


def test_the_verbs_print_the_new_state(tunewright: Tunewright, scheduler: FakeScheduler) -> None:
    scheduler.add("a")

    assert tunewright("jobs", "pause", "a").stdout == "jobs/a  PAUSING\n"
    assert tunewright("jobs", "resume", "jobs/a").stdout == "jobs/a  QUEUED\n"
    assert tunewright("jobs", "cancel", "a").stdout == "jobs/a  CANCELLING\n"
    assert json.loads(tunewright("jobs", "update", "a", "--priority", "7", "--json").stdout)[
        "priority"
    ] == 7  # fmt: skip
    assert tunewright("jobs", "delete", "a").stdout.endswith("(marked for removal)\n")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (job_pb2.JOB_STATE_SUCCEEDED, 0),
        (job_pb2.JOB_STATE_FAILED, 1),
        (job_pb2.JOB_STATE_CANCELLED, 1),
    ],
)
def test_watch_exits_with_0_only_for_success(
    tunewright: Tunewright,
    scheduler: FakeScheduler,
    monitor: FakeMonitor,
    state: job_pb2.JobState.ValueType,
    code: int,
) -> None:
    name = scheduler.add("a", state)
    monitor.step(name, 1)
    monitor.end(name, state)

    done = tunewright("jobs", "watch", "a")

    assert done.returncode == code
    assert "step 1/100  loss 1  lr 0.0001  500 tokens/s" in done.stdout
    assert job_pb2.JobState.Name(state).removeprefix("JOB_STATE_") in done.stdout


def test_watch_as_json_prints_every_entry_and_nothing_else(
    tunewright: Tunewright, scheduler: FakeScheduler, monitor: FakeMonitor
) -> None:
    name = scheduler.add("a", job_pb2.JOB_STATE_SUCCEEDED)
    monitor.break_after = [1]
    monitor.step(name, 1)
    monitor.append(name, log_line=feed_pb2.LogLine(text="hi"))
    monitor.end(name, job_pb2.JOB_STATE_SUCCEEDED)

    done = tunewright("jobs", "watch", "a", "--json")

    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["sequence"] for one in entries] == ["1", "2", "3"]
    assert entries[1]["log_line"]["text"] == "hi"
    assert entries[2]["state_change"]["to"] == "JOB_STATE_SUCCEEDED"
    assert "connection lost" in done.stderr


def test_create_with_watch_follows_the_job_to_its_end(
    tunewright: Tunewright, scheduler: FakeScheduler, monitor: FakeMonitor
) -> None:
    monitor.end("jobs/mine", job_pb2.JOB_STATE_FAILED)
    scheduler.by_request_id = _Always(scheduler.add("mine", job_pb2.JOB_STATE_FAILED))
    scheduler.jobs["jobs/mine"].failure.message = "no such model"

    done = tunewright("jobs", "create", "--model", "m", "--data", "d", "--watch")

    assert done.returncode == 1
    assert "no such model" in done.stdout


class _Always(dict[str, str]):
    """Every request id leads to one job."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def get(self, key: str, default: object = None) -> str:  # type: ignore[override] # as used
        return self._name


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_ctrl_c_ends_the_watching_and_leaves_the_job_alone(
    environment: dict[str, str], scheduler: FakeScheduler, monitor: FakeMonitor, flags: list[str]
) -> None:
    monitor.step(scheduler.add("a"), 1)
    argv = [sys.executable, "-m", "tunewright", "jobs", "watch", "a", *flags]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    process.stdout.readline()

    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "The job goes on: tunewright jobs watch a" in told
    assert "Traceback" not in told
    assert scheduler.calls(job_service_pb2.CancelJobRequest) == []
    eventually_sync(lambda: monitor.active == 0, what="the stream has ended on the server")


def test_logs_print_the_lines(
    tunewright: Tunewright, scheduler: FakeScheduler, monitor: FakeMonitor
) -> None:
    name = scheduler.add("a")
    for text in ("one", "two"):
        monitor.append(name, log_line=feed_pb2.LogLine(text=text))

    assert tunewright("jobs", "logs", "a").stdout == "one\ntwo\n"
    assert tunewright("jobs", "logs", "a", "-n", "1").stdout == "two\n"


def test_a_reader_that_goes_away_is_no_traceback(
    environment: dict[str, str], scheduler: FakeScheduler
) -> None:
    for index in range(3000):
        scheduler.add(f"job-{index}")
    command = f"{sys.executable} -m tunewright jobs list --limit 0 --json | head -1"

    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=60
    )

    assert json.loads(done.stdout)["name"] == "jobs/job-0"
    assert done.stderr == ""


def test_trainers_and_hosts_are_shown(tunewright: Tunewright, scheduler: FakeScheduler) -> None:
    served = FakeTrainer().serve()
    scheduler.trainers["trainers/a"] = trainer_pb2.Trainer(
        name="trainers/a",
        address=served.address,
        state=trainer_pb2.TRAINER_STATE_READY,
        gpus=[trainer_pb2.Gpu(gpu_id="0", foreign_pids=[7]), trainer_pb2.Gpu(gpu_id="1")],
        capabilities=trainer_pb2.TrainerCapabilities(cpu_slots=2),
    )

    table = tunewright("trainers", "list")
    page = tunewright("trainers", "cordon", "a")
    host = tunewright("system", "info", "--json")
    served.stop()

    assert table.stdout.splitlines()[1].startswith("a        READY  1 of 2     2 of 2")
    assert "state      READY, cordoned" in page.stdout
    assert "GPU 0" in page.stdout
    assert "used by others (7)" in page.stdout
    assert json.loads(host.stdout)["hostname"] == "host-a"


def test_version_tells_both_ends(tunewright: Tunewright) -> None:
    assert tunewright("version").stdout == "tunewright 0.1.0, scheduler 9.9\n"
    assert json.loads(tunewright("version", "--json").stdout) == {
        "client": "0.1.0",
        "scheduler": "9.9",
    }


def test_every_command_has_help_and_json(tunewright: Tunewright) -> None:
    for command in (["jobs", "list"], ["jobs", "watch"], ["trainers", "get"], ["system", "info"]):
        shown = tunewright(*command, "--help").stdout
        assert "--json" in shown
        assert "--address" in shown
