"""Rows about pictures as users have them: of different sizes, several in a row, none, in the
middle of a sentence, in a later turn, with a system prompt."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220)}
# Wide, tall and small ones: families cut them in a different number of parts.
SIZES = ((56, 56), (112, 56), (40, 90), (28, 28))
Row = dict[str, Any]


def write_rows(folder: Path, system: bool) -> Path:
    """Writes rows.jsonl and its pictures; its path. With `system` two rows have a prompt."""
    _draw(folder / "images")
    path = folder / "rows.jsonl"
    rows = [row for row in ROWS if system or row["messages"][0]["role"] != "system"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _draw(folder: Path) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    for colour, rgb in COLOURS.items():
        for width, height in SIZES:
            Image.new("RGB", (width, height), rgb).save(folder / f"{colour}-{width}x{height}.png")


def _turns(*contents: str, system: str = "") -> list[dict[str, str]]:
    roles = ("user", "assistant")
    told = [{"role": "system", "content": system}] if system else []
    return told + [
        {"role": roles[number % 2], "content": content} for number, content in enumerate(contents)
    ]


def _rows() -> Sequence[Row]:
    rows: list[Row] = []
    for colour in COLOURS:
        for width, height in SIZES:
            picture = f"images/{colour}-{width}x{height}.png"
            other = f"images/green-{height}x{width}.png"
            other = other if (height, width) in SIZES else "images/green-56x56.png"
            answer = f"It is {colour}, I think."
            rows += [
                {"messages": _turns("<image>Which colour?", answer), "images": [picture]},
                {
                    "messages": _turns(
                        f"Look at this: <image> Is it {colour}?",
                        f"Yes, {colour}.",
                        "And here?<image>",
                        "That one is green.",
                    ),
                    "images": [picture, other],
                },
            ]
    return (
        *rows,
        {
            "messages": _turns("<image><image>Compare.", "Both are plain."),
            "images": ["images/red-56x56.png", "images/blue-28x28.png"],
        },
        {"messages": _turns("Hello!", "Hello, what shall I look at?")},
        {"messages": _turns("Hello!", "Hello.", "<image>What now?", "A blue field."),
         "images": ["images/blue-112x56.png"]},
        {"messages": _turns("<image>Which colour?", "Red.", system="Answer in a word."),
         "images": ["images/red-40x90.png"]},
    )  # fmt: skip


ROWS: Sequence[Row] = _rows()
