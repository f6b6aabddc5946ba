"""The options of `jobs create`, one name each, so that the command itself stays readable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _option(panel: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **more)


_WHAT, _WHERE, _HOW = "What to train", "Where to run", "How to hand it in"

Recipe = Annotated[
    str | None,
    _option(_WHAT, help="Take what this recipe says; give only what it asks for or leaves open."),
]

Model = Annotated[str | None, _option(_WHAT, help="Hub id or folder.")]
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
    str | None, _option(_WHAT, help="llm, or vlm for pictures as well. Default: llm.")
]
Strict = Annotated[
    bool | None,
    _option(_WHAT, "--strict/--no-strict", help="A malformed row fails the job. Default: it does."),
]
MaxDroppedFraction = Annotated[
    float | None, _option(_WHAT, help="Share of rows that may be left out. Default: 0.1.")
]
Settings = Annotated[
    list[str] | None,
    _option(
        _WHAT,
        "--set",
        metavar="NAME=VALUE",
        help="A hyperparameter, as in learning_rate=1e-4; repeatable.",
    ),
]
SystemPrompt = Annotated[str | None, _option(_WHAT, help="Before each dialogue without one.")]
Backend = Annotated[str | None, _option(_WHAT, help="qlora or swift. Default: qlora.")]
Swift = Annotated[
    list[str] | None,
    _option(
        _WHAT,
        metavar="NAME=VALUE",
        help="What only ms-swift knows, as in template=qwen3 or use_hf=true; repeatable.",
    ),
]
OutputDir = Annotated[
    str | None,
    _option(_WHAT, help="Folder of the result, below the output root. Default: a new one."),
]
SpecFile = Annotated[
    Path | None, _option(_WHAT, "--file", "-f", help="The spec as JSON, instead of all these.")
]

Cpu = Annotated[bool, _option(_WHERE, "--cpu", help="A CPU slot.")]
Gpu = Annotated[list[str] | None, _option(_WHERE, metavar="INDEX", help="This GPU; repeatable.")]
Gpus = Annotated[int | None, _option(_WHERE, help="How many GPUs. Default: 1.")]
GpuMemory = Annotated[str | None, _option(_WHERE, help="Least memory of each, as in 24GiB.")]
Trainer = Annotated[str | None, _option(_WHERE, help="This trainer only.")]

RunTimeout = Annotated[str | None, _option(_HOW, help="Longest one attempt may run, as in 2h.")]
Attempts = Annotated[int | None, _option(_HOW, help="Attempts in all. Default: 3.")]
Priority = Annotated[int | None, _option(_HOW, help="The higher goes first. Default: 0.")]
Label = Annotated[list[str] | None, _option(_HOW, metavar="K=V", help="For filters; repeatable.")]
DisplayName = Annotated[str | None, _option(_HOW, "--name", help="For people.")]
JobId = Annotated[str | None, _option(_HOW, "--id", help="Last part of the job's name.")]
Hold = Annotated[bool, _option(_HOW, "--hold", help="Wait for `jobs start`.")]
ValidateOnly = Annotated[bool, _option(_HOW, "--validate-only", help="Check and plan only.")]
WatchIt = Annotated[bool, _option(_HOW, "--watch", "-w", help="Watch it to its end.")]
