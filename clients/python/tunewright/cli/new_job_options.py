"""The options of `jobs create`, one name each, so that the command itself stays readable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _option(panel: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **more)


_WHAT, _WHERE, _HOW = "What to train", "Where to run", "How to run it"

Recipe = Annotated[
    str | None,
    _option(_WHAT, help="Use this recipe. Set only what it requires or leaves open."),
]

Model = Annotated[str | None, _option(_WHAT, help="Base model: a folder or a hub ID.")]
Data = Annotated[
    list[str] | None,
    _option(
        _WHAT,
        metavar="FILE[#N][,NAME=VALUE...]",
        help="File or hub id; repeatable. #N takes the first N rows. After a comma: split=test,"
        " format=alpaca, or what a field is called there, as in instruction=question.",
    ),
]
EvalData = Annotated[
    list[str] | None,
    _option(_WHAT, metavar="FILE[#N][,NAME=VALUE...]", help="The same, to evaluate on."),
]
Format = Annotated[
    str | None,
    _option(
        _WHAT,
        "--format",
        help="Format of the data sets that name none: messages, lccc, alpaca, sharegpt,"
        " prompt-completion or text. Default: detected from the first row.",
    ),
]
ModelKind = Annotated[
    str | None, _option(_WHAT, help="llm, or vlm for text and pictures. Default: llm.")
]
Strict = Annotated[
    bool | None,
    _option(
        _WHAT, "--strict/--no-strict", help="Fail the job at a malformed row. Default: --strict."
    ),
]
MaxDroppedFraction = Annotated[
    float | None, _option(_WHAT, help="Share of rows that may be left out, 0 to 1. Default: 0.1.")
]
Settings = Annotated[
    list[str] | None,
    _option(
        _WHAT,
        "--set",
        metavar="NAME=VALUE",
        help="Hyperparameter, such as learning_rate=1e-4; see `tunewright hyperparameters`. "
        "Repeatable.",
    ),
]
SystemPrompt = Annotated[
    str | None, _option(_WHAT, help="System prompt for dialogues that have none.")
]
Backend = Annotated[str | None, _option(_WHAT, help="qlora or swift (ms-swift). Default: qlora.")]
Swift = Annotated[
    list[str] | None,
    _option(
        _WHAT,
        metavar="NAME=VALUE",
        help="Option of ms-swift, such as template=qwen3 or use_hf=true. Repeatable.",
    ),
]
OutputDir = Annotated[
    str | None,
    _option(_WHAT, help="Folder of the result, relative to the output root. Default: a new one."),
]
SpecFile = Annotated[
    Path | None,
    _option(
        _WHAT,
        "--file",
        "-f",
        help="JSON file with the whole job spec, instead of the options above.",
    ),
]

Cpu = Annotated[bool, _option(_WHERE, "--cpu", help="Run on the CPU.")]
Gpu = Annotated[
    list[str] | None, _option(_WHERE, metavar="INDEX", help="Index of a GPU to use. Repeatable.")
]
Gpus = Annotated[int | None, _option(_WHERE, help="Number of GPUs. Default: 1.")]
GpuMemory = Annotated[str | None, _option(_WHERE, help="Minimum memory per GPU, such as 24GiB.")]
Trainer = Annotated[str | None, _option(_WHERE, help="Run only on this trainer.")]

RunTimeout = Annotated[
    str | None, _option(_HOW, help="Time limit per attempt, such as 2h. Default: none.")
]
Attempts = Annotated[int | None, _option(_HOW, help="Maximum number of attempts. Default: 3.")]
Priority = Annotated[
    int | None, _option(_HOW, help="Jobs with a higher priority start first. Default: 0.")
]
Label = Annotated[
    list[str] | None, _option(_HOW, metavar="K=V", help="Label for filters. Repeatable.")
]
DisplayName = Annotated[str | None, _option(_HOW, "--name", help="Display name.")]
JobId = Annotated[
    str | None,
    _option(_HOW, "--id", help="ID of the job, the last part of its name. Default: a new one."),
]
Hold = Annotated[bool, _option(_HOW, "--hold", help="Hold the job until `jobs start`.")]
ValidateOnly = Annotated[
    bool, _option(_HOW, "--validate-only", help="Check the request without submitting it.")
]
WatchIt = Annotated[bool, _option(_HOW, "--watch", "-w", help="Watch the job until it ends.")]
