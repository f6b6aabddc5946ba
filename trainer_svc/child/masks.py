"""From a dialogue to token ids, and which of them carry loss.

Owns the encoders. Which characters of a rendered dialogue carry loss is found out in turns/; a
token that has a part in them carries loss. Refuses a tokenizer without a chat template or
without character offsets, and a template in which turns cannot be found in any dialogue
(RunFailed, MODEL_INVALID). Plain text needs none of that: all of it is trained on, and where it
ends.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from jinja2 import TemplateError

from trainer_svc.child.dialogue import Message
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.turns.finder import TurnFinder
from trainer_svc.child.turns.refusals import RowRefused
from trainer_svc.child.turns.roles import knows_role, with_system
from trainer_svc.child.turns.template import Span, Template
from trainer_svc.child.turns.twins import twin_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = (
    Message("user", "first question"),
    Message("assistant", "first answer"),
    Message("user", "second question"),
    Message("assistant", "second answer"),
)
NO_SYSTEM_ROLE = "this model's chat template has no system role, and the job has a system_prompt"


@dataclass(frozen=True)
class Encoded:
    """Token ids of one dialogue, and for each whether it carries loss. `thoughts_dropped`:
    answers without loss, because the template leaves out what was thought before them."""

    input_ids: list[int]
    supervised: list[bool]
    thoughts_dropped: int = 0


class Encoder(Protocol):
    """Encodes rows of one kind. Can be sent to other processes."""

    def encode(self, dialogue: Sequence[Message], max_length: int | None = None) -> Encoded:
        """Turns that are not learnt carry no loss. All tokens are returned, whatever
        `max_length` is. Raises jinja2.TemplateError when the template refuses the dialogue,
        RowRefused."""


class Encoders:
    """One tokenizer's encoders, each made when it is first asked for: a model without a chat
    template can learn plain text."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", assistant_only: bool) -> None:
        self._tokenizer = tokenizer
        self._assistant_only = assistant_only

    @cached_property
    def of_dialogues(self) -> Encoder:
        """Raises RunFailed."""
        return ChatEncoder(self._tokenizer, self._assistant_only)

    @cached_property
    def of_texts(self) -> Encoder:
        """Raises RunFailed."""
        return TextEncoder(self._tokenizer)

    def require_system_role(self) -> None:
        """Refuses a model whose chat template has no system role, for a job with a system
        prompt (RunFailed, CONFIG_INVALID). A model without a template passes: plain texts never
        get a system prompt."""
        if self._tokenizer.chat_template:
            require_system_role(Template(self._tokenizer, template_source(self._tokenizer)))


class TextEncoder:
    """Encodes plain texts: no template, loss on every token, and the tokenizer's end-of-sequence
    token at the end, so that the model learns where a text ends, as TRL does it. Can be sent to
    other processes."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Raises RunFailed."""
        if tokenizer.eos_token_id is None:
            raise _refused(
                "the tokenizer has no end-of-sequence token, with which plain texts end",
                "Set eos_token in the model's tokenizer_config.json.",
            )
        self._tokenizer = tokenizer
        self._end: Any = tokenizer.eos_token_id

    def encode(self, dialogue: Sequence[Message], max_length: int | None = None) -> Encoded:
        """The text is the content of the only turn."""
        (turn,) = dialogue
        ids: list[int] = self._tokenizer(turn.content)["input_ids"]
        if ids[-1:] != [self._end]:
            ids.append(self._end)
        return Encoded(ids, [True] * len(ids))


class ChatEncoder:
    """Encodes dialogues with one tokenizer. Can be sent to other processes."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", assistant_only: bool) -> None:
        """Raises RunFailed."""
        self._tokenizer = tokenizer
        self._turns = turn_finder(tokenizer, assistant_only)

    def encode(self, dialogue: Sequence[Message], max_length: int | None = None) -> Encoded:
        """Raises jinja2.TemplateError when the template refuses the dialogue, RowRefused."""
        rendered = self._turns.find(dialogue)
        batch = self._tokenizer(
            rendered.text, add_special_tokens=False, return_offsets_mapping=True
        )
        supervised = mark(batch["offset_mapping"], rendered.spans)
        return Encoded(batch["input_ids"], supervised, rendered.thoughts_dropped)

    def require_system_role(self) -> None:
        """Refuses the chat template for a job with a system prompt (RunFailed, CONFIG_INVALID)."""
        require_system_role(self._turns.template)

    def knows_role(self, role: str) -> bool:
        """Whether the chat template itself has that role ("developer")."""
        return knows_role(self._turns.template, role)


def template_source(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The source of the template that dialogues are rendered with. Raises RunFailed."""
    if not tokenizer.chat_template:
        raise _refused("the tokenizer has no chat template", "Use an instruct model, or add one.")
    try:
        return str(tokenizer.get_chat_template())
    except ValueError:
        raise _refused(
            "the tokenizer has several chat templates, and none of them is named default",
            'Name one of them "default" in the model\'s tokenizer_config.json.',
        ) from None


def turn_finder(
    tokenizer: "PreTrainedTokenizerBase", assistant_only: bool, template: Template | None = None
) -> TurnFinder:
    """What finds the turns in what `template` writes, the tokenizer's if None. Raises RunFailed
    for a template that no dialogue can be trained with."""
    from trl.chat_template_utils import has_generation_markers

    own = template or Template(tokenizer, template_source(tokenizer))
    if not tokenizer.is_fast:
        raise _refused("the tokenizer gives no offsets", "Use a model with a tokenizer.json.")
    marked = has_generation_markers(own.source)
    # Without assistant_only the model's own template is the one to learn, to the letter.
    twin = twin_of(tokenizer, own) if assistant_only and not marked else None
    used = own.of(twin) if twin else own
    finder = TurnFinder(
        used, tokenizer.get_added_vocab(), marked or twin is not None, assistant_only
    )
    _probe(finder)
    return finder


def require_system_role(template: Template) -> None:
    """Raises RunFailed when that template does not write system messages."""
    if with_system(template) is None:
        raise RunFailed(
            Cause.CONFIG_INVALID,
            NO_SYSTEM_ROLE,
            "Leave out system_prompt, or use a model whose chat template has a system role.",
        )


def _probe(finder: TurnFinder) -> None:
    """Fails now rather than at the first row if the template cannot be used at all. One that
    takes a single question and its answer can be used for rows of that kind."""
    failures: list[Exception] = []
    for turns in (2, 4):
        try:
            if finder.find(PROBE[:turns]).spans:
                return
        except (TemplateError, RowRefused) as error:
            failures.append(error)
    if failures:
        raise _refused(
            "the assistant's turns cannot be found in what the chat template writes:"
            f" {failures[0]}",
            "Set assistant_only_loss to false, or add generation marks to the model's chat"
            " template.",
        )
    raise _refused(
        "the chat template marks nothing as the assistant's",
        "Set assistant_only_loss to false, or correct the template's generation marks.",
    )


def mark(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Whether each token has a part in one of the spans, which do not overlap. One that begins
    before a span, such as a word with the space before it, has to be learnt too."""
    # An empty span has no part in anything.
    ordered = sorted(span for span in spans if span[0] < span[1])
    ends = [end for _, end in ordered]
    return [_has_part(token, ordered, ends) for token in offsets]


def _has_part(token: Span, ordered: Sequence[Span], ends: Sequence[int]) -> bool:
    start, end = token
    first = bisect_right(ends, start)  # of those that end after it begins
    return start < end and first < len(ordered) and ordered[first][0] < end


def _refused(message: str, hint: str) -> RunFailed:
    return RunFailed(Cause.MODEL_INVALID, message, hint)
