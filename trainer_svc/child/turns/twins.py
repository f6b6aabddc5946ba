"""TRL's marked twin of a chat template.

Owns how a template is recognised: byte for byte as TRL does it, or by what it writes. Copies of
a template that differ in tools, comments or white space between statements write the same for
every dialogue of the probes, with and without thoughts; they are trained alike. Some twins write
a dialogue in another way than the template itself: they keep the thoughts of earlier turns
(docs/adr/0007).
"""

from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from trainer_svc.child.turns.template import Chat, Template, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SUFFIX = "_training.jinja"


def _user(content: str = "first question") -> Turn:
    return {"role": "user", "content": content}


def _assistant(content: str = "an answer", **fields: str) -> Turn:
    return {"role": "assistant", "content": content, **fields}


SYSTEM: Turn = {"role": "system", "content": "be brief"}
INLINE = "<think>\na thought\n</think>\n\nan answer"
PROBES: tuple[Chat, ...] = (
    [_user()],
    [_user(), _assistant()],
    [SYSTEM, _user(), _assistant()],
    [_user(), _assistant(), _user("second"), _assistant("another")],
    [SYSTEM, _user(), _assistant(), _user("second"), _assistant("another"), _user("third")],
    [_user(" \n spaced \n "), _assistant(" \n spaced \n ")],
    [_user(), _user("again"), _assistant(), _assistant("more")],
    [_user(), _assistant(reasoning_content="a thought"), _user("second"), _assistant()],
    [_user(), _assistant(), _user("second"), _assistant(reasoning_content="a thought")],
    [_user(), _assistant(thinking="a thought"), _user("second"), _assistant(thinking="b")],
    [_user(), _assistant(INLINE), _user("second"), _assistant(INLINE)],
    [_user(), _assistant("</think>an answer"), _user("second"), _assistant("<think>a")],
)


def twin_of(tokenizer: "PreTrainedTokenizerBase", template: Template) -> str | None:
    """The source of TRL's marked twin of `template`, the tokenizer's; None without one."""
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer)
    except (ValueError, TemplateError):  # not one that TRL knows
        return _twin_by_behaviour(template)


def _twin_by_behaviour(template: Template) -> str | None:
    """A twin that keeps what the template drops. Where both write the same, the template's own
    skeleton says more exactly where an answer ends."""
    written = _all_written(template)
    for original, twin in _pairs():
        if _all_written(template.of(original)) == written:
            return twin if _all_written(template.of(twin)) != written else None
    return None


def _all_written(template: Template) -> list[str | None]:
    return [_written(template, chat, prompt) for chat in PROBES for prompt in (False, True)]


def _written(template: Template, chat: Chat, prompt: bool) -> str | None:
    try:
        return template.render(chat, prompt)
    except TemplateError:
        return None


@lru_cache(maxsize=1)
def _pairs() -> tuple[tuple[str, str], ...]:
    """TRL's templates that have a twin, and the twin of each."""
    folder = files("trl") / "chat_templates"
    sources = {file.name: file for file in folder.iterdir() if file.name.endswith(".jinja")}
    return tuple(
        (_read(sources[original]), _read(sources[name]))
        for name in sorted(sources)
        if name.endswith(SUFFIX) and (original := name.removesuffix(SUFFIX) + ".jinja") in sources
    )


def _read(file: Traversable) -> str:
    return file.read_text(encoding="utf-8")
