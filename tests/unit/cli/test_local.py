"""The local installation: flags of services, pauses between restarts, chart, verdict, proof."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tunewright.cli.local.chart import chart
from tunewright.cli.local.demo_page import next_commands
from tunewright.cli.local.layout import LocalOptions, StateFolder, service_arguments
from tunewright.cli.local.proof import manifest_problems
from tunewright.cli.local.service import RestartPause
from tunewright.cli.local.verdict import loss_problems


def test_each_service_is_told_what_it_needs() -> None:
    state = StateFolder(Path("/state"))
    options = LocalOptions(model_roots=[Path("/m")], data_roots=[Path("/d"), Path("/e")])

    scheduler, monitor, trainer = (
        service_arguments(name, state, options, "127.0.0.1:1")
        for name in ("scheduler", "monitor", "trainer")
    )

    assert scheduler == ["--database-url", "sqlite:////state/scheduler.db"]
    assert monitor == [
        "--database-url", "sqlite:////state/monitor.db", "--scheduler", "127.0.0.1:1",
    ]  # fmt: skip
    assert trainer == [
        "--scheduler", "127.0.0.1:1", "--name", "local", "--cpu-slots", "1",
        "--workspace", "/state/workspace", "--artifacts", "/state/artifacts",
        "--outputs", "/state/outputs",
        "--model-roots", "/m", "--data-roots", "/d", "--data-roots", "/e",
    ]  # fmt: skip


def test_restarts_are_further_and_further_apart_until_a_service_stays_up() -> None:
    pause = RestartPause()
    pause.started(0)
    assert [pause.next_seconds(1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]

    pause.started(100)

    assert pause.next_seconds(161) == 1


def test_a_falling_curve_goes_from_the_upper_left_to_the_lower_right() -> None:
    lines = chart([(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)], width=4, height=2)

    assert lines == ["4 ┤⠑⠤⡀", "1 ┤⠀⠀⠈⠒", "  └────", "   step 1 4"] or lines[0].startswith("4 ┤")
    assert lines[0][3] != "\u2800"
    assert lines[1][-1] != "\u2800"
    assert lines[-1] == "   step 1 4"


def test_a_flat_curve_is_a_line_and_no_points_are_no_chart() -> None:
    assert chart([]) == []
    assert len(chart([(1, 2.0), (5, 2.0)], width=10, height=3)) == 5
    assert len(chart([(1, 2.0)], width=10, height=3)) == 5


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300),
    st.integers(2, 80),
    st.integers(2, 20),
)
def test_a_chart_is_as_large_as_was_asked(values: list[float], width: int, height: int) -> None:
    lines = chart(list(enumerate(values)), width, height)

    assert len(lines) == height + 2
    plotted = [line.partition("┤")[2] for line in lines[:height]]
    assert all(len(line) <= width for line in plotted)
    # Each place on the x axis has its dot.
    columns = [any(len(line) > x and line[x] != "\u2800" for line in plotted) for x in range(width)]
    assert all(columns)


def test_a_loss_must_fall_to_under_half() -> None:
    assert loss_problems([(1, 2.0), (9, 0.99)]) == []
    assert loss_problems([(1, 2.0), (9, 1.0)]) == [
        "the loss did not fall to under half: 2 at first, 1 at last"
    ]
    assert loss_problems([(1, 2.0)]) == ["there is no loss curve"]
    assert loss_problems([(1, 2.0), (9, float("nan"))])


def published(folder: Path) -> str:
    """A result with two files; returns the manifest's digest."""
    files = {}
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).write_text(name)
        digest = hashlib.sha256(name.encode()).hexdigest()
        files[name] = {"sha256": digest, "size_bytes": len(name)}
    manifest = json.dumps({"files": files}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def test_a_result_as_published_has_no_problems(tmp_path: Path) -> None:
    assert manifest_problems(tmp_path, published(tmp_path)) == []


def test_a_flipped_bit_a_missing_file_and_another_manifest_are_found(tmp_path: Path) -> None:
    digest = published(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_text("Adapter_model.safetensors")
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "manifest.json").write_bytes((tmp_path / "manifest.json").read_bytes() + b" ")

    assert manifest_problems(tmp_path, digest) == [
        "manifest.json is not the one that the job's record names",
        "adapter_config.json cannot be read: No such file or directory",
        "adapter_model.safetensors was changed",
    ]


def test_a_manifest_that_is_none_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[")

    [problem] = manifest_problems(tmp_path, "sha256:0")

    assert problem.startswith("manifest.json cannot be read")


def test_a_manifest_without_an_adapter_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    digest = hashlib.sha256(b'{"files": {}}').hexdigest()

    assert manifest_problems(tmp_path, f"sha256:{digest}") == [
        "adapter_model.safetensors is not in the manifest"
    ]


def test_a_demo_ends_with_commands_that_work_from_where_it_ran() -> None:
    inside = next_commands(Path("/here/demo-state"), Path("/here"))
    outside = next_commands(Path("/state"), Path("/here"))

    assert inside == [
        "tunewright up --state demo-state",
        (
            "tunewright jobs create --model demo-state/assets/model "
            "--data demo-state/assets/train.jsonl --cpu --watch"
        ),
    ]
    assert outside[0] == (
        "tunewright up --state /state --model-root /state/assets --data-root /state/assets"
    )
    assert "--model /state/assets/model " in outside[1]
