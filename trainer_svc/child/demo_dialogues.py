"""Small dialogues made by code: a workshop where every tool has its place.

Owns the texts of the demo; nothing is taken from anywhere. Pure and
deterministic: the same number gives the same dialogues.
"""

from collections.abc import Iterator
from itertools import product

Chat = list[dict[str, str]]

TOOLS = (
    "hammer", "saw", "drill", "wrench", "pliers", "ladder", "brush", "ruler",
    "chisel", "file", "clamp", "level", "knife", "rope", "lamp", "broom",
)  # fmt: skip
PLACES = (
    "in the red box", "on the top shelf", "behind the door", "under the bench",
    "in the blue drawer", "next to the window", "on the long table", "in the green cabinet",
)  # fmt: skip
QUESTIONS = (
    "Where is the {tool}?",
    "Where can I find the {tool}?",
    "Do you know where the {tool} is?",
    "I need the {tool}. Where is it?",
    "Please tell me where the {tool} is.",
    "Have you seen the {tool}?",
)
THANKS = (
    ("Thank you!", "You are welcome."),
    ("Thanks a lot.", "You are welcome."),
    ("Great, thanks.", "You are welcome."),
    ("And then?", "Put it back when you are done."),
)
# One in so many dialogues is kept for evaluation.
EVAL_EVERY = 10


def place_of(tool: str) -> str:
    """Where the demo's workshop keeps `tool`."""
    return PLACES[TOOLS.index(tool) % len(PLACES)]


def dialogues() -> Iterator[Chat]:
    """All different dialogues, well mixed: two turns, or four with thanks."""
    every = list(product(QUESTIONS, TOOLS, (None, *THANKS)))
    stride = 97  # prime to their number, so that each comes once
    for index in range(len(every)):
        question, tool, thanks = every[index * stride % len(every)]
        chat = [
            {"role": "user", "content": question.format(tool=tool)},
            {"role": "assistant", "content": f"The {tool} is {place_of(tool)}."},
        ]
        if thanks is not None:
            chat += [
                {"role": "user", "content": thanks[0]},
                {"role": "assistant", "content": thanks[1]},
            ]
        yield chat


def split(count: int) -> tuple[list[Chat], list[Chat]]:
    """`count` dialogues to learn from (fewer if there are not so many), and some held out."""
    train: list[Chat] = []
    held_out: list[Chat] = []
    for index, chat in enumerate(dialogues()):
        if index % EVAL_EVERY == 0:
            held_out.append(chat)
        else:
            train.append(chat)
    return train[:count], held_out[: max(4, count // EVAL_EVERY)]
