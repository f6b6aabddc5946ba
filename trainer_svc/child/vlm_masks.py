"""From a dialogue about pictures to token ids, and which of them carry loss.

Owns how the "<image>" marks of a dialogue become what chat templates and
processors take. Turns are found as for any dialogue (turns/), in the rendered
string; a processor then puts as many tokens as a picture needs in the place of
each mark, and reports where, so that the turns after it are found again. What stands for a
picture never carries loss: there is nothing to say about it. Refuses a
processor that does not tell (RunFailed, MODEL_INVALID).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer_svc.child.dialogue import Message
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.images import MARK, opened_picture
from trainer_svc.child.masks import (
    ChatEncoder,
    Encoded,
    mark,
    template_source,
    turn_finder,
)
from trainer_svc.child.turns.template import Chat, Span, Template

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import ProcessorMixin


@dataclass(frozen=True)
class EncodedText:
    """A row as the processor takes it, and what it makes of it."""

    text: str
    encoded: Encoded


class PicturesMisplaced(Exception):
    """The rendered text has more or fewer places for pictures than there are pictures."""


class PictureEncoder(ChatEncoder):
    """Encodes dialogues with one processor. Can be sent to other processes."""

    def __init__(self, processor: "ProcessorMixin", assistant_only: bool) -> None:
        """Raises RunFailed."""
        self._processor: Any = processor
        tokenizer = self._processor.tokenizer
        # Where the two have one each, the processor's knows about pictures.
        tokenizer.chat_template = self._processor.chat_template or tokenizer.chat_template
        self._tokenizer = tokenizer
        template = Template(tokenizer, template_source(tokenizer), in_parts, (MARK,))
        self._turns = turn_finder(tokenizer, assistant_only, template)

    def encode_row(
        self,
        dialogue: Sequence[Message],
        pictures: Sequence[Path],
        max_length: int | None = None,
    ) -> EncodedText:
        """Turns that are not learnt carry no loss; for `max_length` see Encoder. Raises
        jinja2.TemplateError when the template refuses the dialogue, RowRefused,
        PicturesMisplaced, OSError for a picture that cannot be read, and what processors raise
        over those that they do not take (ValueError)."""
        rendered = self._turns.find(dialogue)
        encoded = self._encode_text(rendered.text, rendered.spans, pictures)
        counted = replace(encoded, thoughts_dropped=rendered.thoughts_dropped)
        return EncodedText(rendered.text, counted)

    def encode_plain(self, content: str, pictures: Sequence[Path]) -> EncodedText:
        """A plain text: loss on all of it, and on the token that ends it. Raises as encode_row."""
        tokenizer: Any = self._tokenizer
        if tokenizer.eos_token is None:
            raise RunFailed(
                Cause.MODEL_INVALID,
                "the tokenizer has no end-of-sequence token, with which plain texts end",
                "Set eos_token in the model's tokenizer_config.json.",
            )
        begins = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
        begin = tokenizer.bos_token if begins else ""
        end = "" if content.endswith(tokenizer.eos_token) else tokenizer.eos_token
        text = f"{begin}{content.replace(MARK, self._processor.image_token)}{end}"
        return EncodedText(text, self._encode_text(text, [(0, len(text))], pictures))

    def encode(self, dialogue: Sequence[Message], max_length: int | None = None) -> Encoded:
        """As encode_row, of a dialogue without pictures."""
        return self.encode_row(dialogue, (), max_length).encoded

    def _encode_text(self, text: str, spans: Sequence[Span], pictures: Sequence[Path]) -> Encoded:
        places = text.count(self._processor.image_token)
        if places != len(pictures):
            raise PicturesMisplaced(f"{len(pictures)} pictures, and places for {places}")
        batch = self._processor(
            text=[text],
            images=[[open_picture(path) for path in pictures]] if pictures else None,
            add_special_tokens=False,  # the template has written them
            return_offsets_mapping=True,
            return_text_replacement_offsets=True,
        )
        replaced: Sequence[Mapping[str, Any]] = (batch.get("text_replacement_offsets") or [[]])[0]
        if len(replaced) != len(pictures):
            raise _refused(f"{len(pictures)} pictures were put in {len(replaced)} places")
        ids: list[int] = list(batch["input_ids"][0])
        offsets = batch["offset_mapping"][0]
        supervised = mark(offsets, [_shifted(span, replaced) for span in spans])
        in_pictures = mark(offsets, [place["new_span"] for place in replaced])
        image_ids = set(self._processor.image_token_ids)
        return Encoded(
            ids,
            [
                loss and not picture and token not in image_ids
                for token, loss, picture in zip(ids, supervised, in_pictures, strict=True)
            ],
        )


def in_parts(chat: Chat) -> list[dict[str, Any]]:
    """The dialogue in the form that templates of vision-language models take: a list of parts
    to a message, text and pictures where their marks are."""
    return [{**turn, "content": _parts(turn["content"])} for turn in chat]


def _parts(content: str) -> list[dict[str, str]]:
    parts: list[dict[str, str]] = []
    for number, text in enumerate(content.split(MARK)):
        if number:
            parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return parts


def open_picture(path: Path) -> "Image":
    """The picture as RGB, turned as its file says. Raises OSError, and ValueError for one that
    would fill the memory."""
    from PIL.ImageOps import exif_transpose

    with path.open("rb") as file, opened_picture(file) as picture:
        return exif_transpose(picture).convert("RGB")


def _shifted(span: Span, replaced: Sequence[Mapping[str, Any]]) -> Span:
    """Where `span` lies after the marks before its ends have been replaced."""
    start, end = (char + _gained(char, replaced) for char in span)
    return start, end


def _gained(char: int, replaced: Sequence[Mapping[str, Any]]) -> int:
    before = [place for place in replaced if place["span"][1] <= char]
    return int(before[-1]["new_span"][1] - before[-1]["span"][1]) if before else 0


def _refused(message: str) -> RunFailed:
    return RunFailed(
        Cause.MODEL_INVALID,
        f"the model's processor does not put each picture at its mark: {message}",
        "Train this model with the swift backend.",
    )
