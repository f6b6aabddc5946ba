"""Pictures made by code, and dialogues about them: coloured shapes on white.

Owns the pictures and texts of the demo for vision-language models; nothing is
taken from anywhere. Deterministic: the same number gives the same dialogues,
and the same Pillow the same bytes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer_svc.child.demo_dialogues import EVAL_EVERY

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SIDE_PIXELS = 56
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 60, 220),
    "yellow": (240, 210, 30),
    "black": (20, 20, 20),
    "purple": (140, 40, 160),
}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES_PIXELS = (36, 44, 52)
QUESTIONS = (
    "<image>What is in the picture?",
    "What do you see?<image>",
    "<image>Which shape is it?",
)
IMAGES = "images"


@dataclass(frozen=True)
class Picture:
    """One shape in one colour."""

    colour: str
    shape: str
    size_pixels: int

    @property
    def path(self) -> str:
        """Relative to the file of dialogues."""
        return f"{IMAGES}/{self.colour}-{self.shape}-{self.size_pixels}.png"

    @property
    def words(self) -> str:
        """What is to be seen."""
        return f"A {self.colour} {self.shape}."


@dataclass(frozen=True)
class PictureDialogue:
    """Messages with an "<image>" mark for each of the pictures, in order."""

    messages: list[dict[str, str]]
    pictures: tuple[Picture, ...]

    def row(self) -> dict[str, Any]:
        """As a line of the data file."""
        return {"messages": self.messages, "images": [picture.path for picture in self.pictures]}


def dialogues() -> Iterator[PictureDialogue]:
    """All different dialogues, well mixed: a question and its answer, with a second turn about
    the same picture or about another one."""
    pictures = [Picture(*traits) for traits in product(COLOURS, SHAPES, SIZES_PIXELS)]
    every = list(product(pictures, QUESTIONS, ("", "colour", "other")))
    stride = 91  # prime to their number, so that each comes once
    for index in range(len(every)):
        at = index * stride % len(every)
        picture, question, then = every[at]
        messages = [_user(question), _assistant(picture.words)]
        seen: tuple[Picture, ...] = (picture,)
        if then == "colour":
            messages += [_user("Which colour is it?"), _assistant(f"It is {picture.colour}.")]
        elif then == "other":
            other = pictures[(at * 5 + 7) % len(pictures)]
            messages += [_user("And here?<image>"), _assistant(other.words)]
            seen = (picture, other)
        yield PictureDialogue(messages, seen)


def split(count: int) -> tuple[list[PictureDialogue], list[PictureDialogue]]:
    """`count` dialogues to learn from (fewer if there are not so many), and some held out."""
    train: list[PictureDialogue] = []
    held_out: list[PictureDialogue] = []
    for index, dialogue in enumerate(dialogues()):
        (train if index % EVAL_EVERY else held_out).append(dialogue)
    return train[:count], held_out[: max(4, count // EVAL_EVERY)]


def draw(picture: Picture, path: Path) -> None:
    """Writes `picture` as a PNG of SIDE_PIXELS by SIDE_PIXELS."""
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (SIDE_PIXELS, SIDE_PIXELS), "white")
    _draw_shape(ImageDraw.Draw(canvas), picture)
    canvas.save(path, "PNG")


def _draw_shape(pen: "ImageDraw", picture: Picture) -> None:
    low = (SIDE_PIXELS - picture.size_pixels) // 2
    high = low + picture.size_pixels - 1
    middle, arm = SIDE_PIXELS // 2, picture.size_pixels // 6
    fill = COLOURS[picture.colour]
    if picture.shape == "circle":
        pen.ellipse((low, low, high, high), fill)
    elif picture.shape == "square":
        pen.rectangle((low, low, high, high), fill)
    elif picture.shape == "triangle":
        pen.polygon(((middle, low), (low, high), (high, high)), fill)
    else:
        pen.rectangle((middle - arm, low, middle + arm, high), fill)
        pen.rectangle((low, middle - arm, high, middle + arm), fill)


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}
