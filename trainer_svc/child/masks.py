"""From a dialogue to token ids, and which of them carry loss.

Owns the chat template's use in training. Three ways to find the assistant's
tokens, tried in this order: the template's own generation marks; TRL's marked
twin of a template it knows; the text itself, rendered turn by turn, where the
assistant's turn is what follows the generation prompt, its end-of-turn token
included and white space after that not. Refuses a tokenizer without a template
or without character offsets, and a template in which the turns cannot be found
(RunFailed, MODEL_INVALID). Plain text needs none of that: all of it is learnt,
and where it ends.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from trainer_svc.child.dialogue import Message, as_chat
from trainer_svc.child.failure import Cause, RunFailed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Chat = list[dict[str, str]]
Span = tuple[int, int]
PROBE = (
    Message("user", "first question"),
    Message("assistant", "first answer"),
    Message("user", "second question"),
    Message("assistant", "second answer"),
)


@dataclass(frozen=True)
class Encoded:
    """Token ids of one dialogue, and for each whether it carries loss."""

    input_ids: list[int]
    supervised: list[bool]


class TurnsNotFound(Exception):
    """The assistant's turns cannot be told apart in the rendered text."""


class Encoder(Protocol):
    """Encodes rows of one kind. Can be sent to other processes."""

    def encode(self, dialogue: Sequence[Message], max_length: int | None = None) -> Encoded:
        """Turns that are not learnt carry no loss. All tokens are returned; which of those after
        the first `max_length` carry loss may be said roughly. Raises jinja2.TemplateError when
        the template refuses the dialogue, TurnsNotFound."""


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
        if not tokenizer.chat_template:
            raise _refused(
                "the tokenizer has no chat template", "Use an instruct model, or add one."
            )
        if not tokenizer.is_fast:
            raise _refused("the tokenizer gives no offsets", "Use a model with a tokenizer.json.")
        self._tokenizer = tokenizer
        self._assistant_only = assistant_only
        self._marked_template = _marked_template(tokenizer) if assistant_only else None
        self._terminators = tuple(tokenizer.get_added_vocab())
        self._probe()

    def encode(self, dialogue: Sequence[Message], max_length: int | None = None) -> Encoded:
        """Raises jinja2.TemplateError when the template refuses the dialogue, TurnsNotFound."""
        chat, prompt_turns = as_chat(dialogue), unlearnt_turns(dialogue)
        encoded = self._encode_whole(chat, max_length)
        if not prompt_turns:
            return encoded
        begin = self._prompt_length(chat[:prompt_turns], encoded.input_ids)
        later = encoded.supervised[begin:]
        return Encoded(encoded.input_ids, [False] * begin + later)

    def _prompt_length(self, prompt: Chat, input_ids: Sequence[int]) -> int:
        """Tokens of the dialogue that are the prompt's: as far as it agrees with the prompt
        rendered alone."""
        text = self._render(prompt, prompt=True)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return common(ids, input_ids)

    def _encode_whole(self, chat: Chat, max_length: int | None) -> Encoded:
        if self._marked_template is not None:
            return self._encode_marked(chat)
        text = self._render(chat)
        batch = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = batch["input_ids"]
        if not self._assistant_only:
            return Encoded(ids, [True] * len(ids))
        offsets: Sequence[Span] = batch["offset_mapping"]
        return Encoded(
            ids, mark(offsets, self._turn_spans(chat, text, char_of(offsets, max_length)))
        )

    def _encode_marked(self, chat: Chat) -> Encoded:
        batch: Any = self._tokenizer.apply_chat_template(
            chat,
            chat_template=self._marked_template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        return Encoded(batch["input_ids"], [bool(mark) for mark in batch["assistant_masks"]])

    def _render(self, chat: Chat, prompt: bool = False) -> str:
        text = self._tokenizer.apply_chat_template(
            chat,
            chat_template=self._marked_template,
            tokenize=False,
            add_generation_prompt=prompt,
        )
        return str(text)

    def _turn_spans(self, chat: Chat, text: str, needed: int | None = None) -> list[Span]:
        """Where the assistant's turns lie in `text`, in characters; of those after the first
        `needed` characters only one, without its end. Raises TurnsNotFound."""
        spans: list[Span] = []
        for index, message in enumerate(chat):
            if message["role"] != "assistant":
                continue
            start, end = self._turn_span(chat, index, text)
            # Each turn takes a rendering of all before it, so what is cut off is not looked at.
            if needed is not None and start >= needed:
                return [*spans, (start, len(text))]
            spans.append((start, end))
        return spans

    def _turn_span(self, chat: Chat, index: int, text: str) -> Span:
        content = chat[index]["content"].strip()
        # A template may treat the last turn in its own way: compare, and go as far as it agrees.
        end = common(self._render(chat[: index + 1]), text)
        before = common(self._render(chat[:index]), text) if index else 0
        start = common(self._render(chat[:index], prompt=True), text) if index else 0
        if start <= before:  # no generation prompt in this template
            start = text.find(content, before, end)
        if start < 0 or content not in text[start:end]:
            raise TurnsNotFound(f"turn {index + 1} is not where the chat template should put it")
        return start, self._trim(text, start, end)

    def _trim(self, text: str, start: int, end: int) -> int:
        """White space after an end-of-turn token is the template's, nothing to learn."""
        turn = text[start:end].rstrip()
        return start + len(turn) if turn.endswith(self._terminators) else end

    def _probe(self) -> None:
        """Fails now rather than at the first row if the template cannot be used at all."""
        try:
            encoded = self.encode(PROBE)
        except TurnsNotFound as error:
            raise _refused(
                f"the assistant's turns cannot be found in the chat template: {error}",
                "Set assistant_only_loss to false, or add generation marks to the template.",
            ) from None
        if not any(encoded.supervised):
            raise _refused(
                "the chat template marks nothing as the assistant's",
                "Set assistant_only_loss to false, or correct the template's generation marks.",
            )


def _marked_template(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """A template with generation marks: its own, or the one TRL has for it; else None."""
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    own: Any = tokenizer.chat_template
    if isinstance(own, dict):
        own = own["default"]
    if has_generation_markers(own):
        return str(own)
    try:
        return get_training_chat_template(tokenizer)
    except ValueError:  # not one that TRL knows
        return None


def unlearnt_turns(dialogue: Sequence[Message]) -> int:
    """How many turns at the beginning are not learnt. Raises TurnsNotFound when an answer after
    a learnt one is not."""
    first = next((at for at, turn in enumerate(dialogue) if turn.learnt), len(dialogue))
    if any(turn.role == "assistant" and not turn.learnt for turn in dialogue[first:]):
        raise TurnsNotFound("an answer without loss after one with loss")
    return first


def common(one: Sequence[object], other: Sequence[object]) -> int:
    """The number of characters, or tokens, that both begin with."""
    pairs = zip(one, other, strict=False)
    short = min(len(one), len(other))
    return next((at for at, (here, there) in enumerate(pairs) if here != there), short)


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


def char_of(offsets: Sequence[Span], token: int | None) -> int | None:
    """Where in the text that token begins, None if there is none."""
    return offsets[token][0] if token is not None and token < len(offsets) else None


def _refused(message: str, hint: str) -> RunFailed:
    return RunFailed(Cause.MODEL_INVALID, message, hint)
