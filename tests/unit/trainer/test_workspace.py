"""The workspace and its files, processes by identity, and lines of growing files."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_svc.domain.authority import Authority
from trainer_svc.domain.runs import Cause, Ending, Failure, RunKey
from trainer_svc.supervisor.artifact_store import artifact_store_uuid
from trainer_svc.supervisor.durable import read_json, write_json
from trainer_svc.supervisor.processes import Identity, boot_id, send_signal, stat_of, wait_gone
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.stream_lines import read_lines
from trainer_svc.supervisor.trees import TreeSigns, end_tree, find_tree
from trainer_svc.supervisor.workspace import Workspace, WorkspaceLocked

KEY = RunKey("job-a", 1)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace.open(tmp_path / "workspace")
    yield made
    made.close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield started
    started.kill()
    started.wait()


def identity_of(pid: int) -> Identity:
    stat = stat_of(pid)
    assert stat is not None
    return Identity(pid, stat.start_ticks, boot_id())


def test_a_workspace_is_opened_by_one_service(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceLocked):
        Workspace.open(workspace.path)


def test_a_workspace_keeps_its_identity_and_its_scheduler(workspace: Workspace) -> None:
    workspace.bind(Authority("db", 3))
    workspace.close()

    again = Workspace.open(workspace.path)

    assert again.uuid == workspace.uuid
    assert again.authority() == Authority("db", 3)
    again.close()


def test_runs_are_found_by_job_and_attempt(workspace: Workspace) -> None:
    for key in (RunKey("job-b", 10), RunKey("job-b", 9), KEY):
        workspace.make_run(key)
    (workspace.path / "runs/.hidden/1").mkdir(parents=True)
    (workspace.path / "runs/job-b/x").mkdir()

    found = [folder.key for folder in workspace.runs()]

    assert found == [KEY, RunKey("job-b", 9), RunKey("job-b", 10)]


def test_an_end_is_read_back_as_it_was_written(workspace: Workspace) -> None:
    run = Run(workspace.make_run(KEY))
    ending = Ending.failed(Failure(Cause.DISK_FULL, "full", "free some", "OSError", -9))

    run.end(ending)

    assert Run(workspace.folder(KEY)).ending == ending


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    write_json(file, {"a": 1})

    with pytest.raises(TypeError):
        write_json(file, {"a": object()})

    assert read_json(file) == {"a": 1}


def test_all_trainers_of_a_store_read_one_identity(tmp_path: Path) -> None:
    first = artifact_store_uuid(tmp_path)

    assert artifact_store_uuid(tmp_path) == first
    assert [one.name for one in tmp_path.iterdir()] == [".store-uuid"]


@pytest.mark.parametrize("wrong", [{"start_ticks": 1}, {"boot_id": "another"}])
def test_what_cannot_be_matched_is_not_signalled(
    process: subprocess.Popen[bytes], wrong: dict[str, int]
) -> None:
    identity = replace(identity_of(process.pid), **wrong)  # type: ignore[arg-type] # one field of either type

    assert not send_signal(identity, signal.SIGKILL)
    assert process.poll() is None


def test_what_is_matched_is_signalled(process: subprocess.Popen[bytes]) -> None:
    assert send_signal(identity_of(process.pid), signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


async def test_the_end_of_a_process_is_heard(process: subprocess.Popen[bytes]) -> None:
    waiting = asyncio.create_task(wait_gone(identity_of(process.pid)))
    await asyncio.sleep(0)

    process.kill()

    await asyncio.wait_for(waiting, 10)


def test_a_tree_is_found_by_marker_and_by_lock_and_nothing_else_is(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    sleep = "import time; time.sleep(600)"
    marked = subprocess.Popen(
        [sys.executable, "-c", sleep],
        env={**os.environ, "TUNEWRIGHT_RUN": "u/job-a/1"},
        start_new_session=True,
    )
    other = subprocess.Popen(
        [sys.executable, "-c", sleep], env={**os.environ, "TUNEWRIGHT_RUN": "u/job-a/11"}
    )
    with open(lock, "rb") as held:
        holder = subprocess.Popen([sys.executable, "-c", sleep], pass_fds=(held.fileno(),))
    signs = TreeSigns("u/job-a/1", lock, None)

    found = set(find_tree(signs))
    ended = end_tree(signs, 10)

    assert found == {marked.pid, holder.pid}
    assert ended
    assert other.poll() is None
    assert process.poll() is None
    for one in (marked, holder, other):
        one.kill()
        one.wait()


@given(
    lines=st.lists(st.binary(max_size=40).filter(lambda one: b"\n" not in one), max_size=20),
    tail=st.binary(min_size=1, max_size=40).filter(lambda one: b"\n" not in one),
)
@settings(max_examples=60, deadline=None)
def test_whole_lines_are_read_once_and_the_torn_one_only_when_its_writer_is_gone(
    lines: list[bytes], tail: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "spool.jsonl")
        file.write_bytes(b"".join(line + b"\n" for line in lines) + tail)

        living = list(read_lines(file, 0, writer_gone=False))
        dead = list(read_lines(file, 0, writer_gone=True))

        assert [line.data for line in living] == lines
        assert [line.data for line in dead] == [*lines, tail]
        assert [line.torn for line in dead] == [False] * len(lines) + [True]
        assert dead[-1].after == file.stat().st_size
        for line in living:
            rest = [one.data for one in read_lines(file, line.after, writer_gone=False)]
            assert rest == lines[len(lines) - len(rest) :]


def test_a_line_without_end_comes_in_pieces(tmp_path: Path) -> None:
    file = tmp_path / "stdout.log"
    file.write_bytes(b"x" * (1024 * 1024 + 10) + b"\n")

    (first,) = read_lines(file, 0, writer_gone=False)
    (rest,) = read_lines(file, first.after, writer_gone=False)

    assert len(first.data) == 1024 * 1024
    assert rest.data == b"x" * 10
