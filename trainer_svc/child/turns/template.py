"""One chat template with the tokenizer it writes for.

Owns rendering. Whatever a template raises over a dialogue becomes jinja2's TemplateError, so
that callers need to know one exception.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turn = dict[str, Any]
Chat = list[Turn]
Span = tuple[int, int]
# What templates raise, besides TemplateError, over values that they do not expect.
UNFORESEEN = (TypeError, ValueError, KeyError, IndexError, AttributeError)


def as_it_is(chat: Chat) -> Any:
    """For templates whose contents are strings."""
    return chat


class Template:
    """Renders dialogues. Can be sent to other processes."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        source: str,
        adapt: Callable[[Chat], Any] = as_it_is,
        breaks: Sequence[str] = (),
    ) -> None:
        """`adapt` makes of a dialogue what the template takes; `breaks` are the strings in
        contents that it replaces by something that is not text."""
        self.source = source
        self.breaks = tuple(breaks)
        self._tokenizer = tokenizer
        self._adapt = adapt

    def of(self, source: str) -> "Template":
        """Another template, used in the same way."""
        return Template(self._tokenizer, source, self._adapt, self.breaks)

    def rendered_by(self, kind: "type[Template]") -> "Template":
        """The same template, rendered in the way of that class."""
        return kind(self._tokenizer, self.source, self._adapt, self.breaks)

    def render(self, chat: Chat, prompt: bool = False) -> str:
        """The string for `chat`, with `prompt` up to where the model begins to answer. Raises
        TemplateError."""
        try:
            text = self._tokenizer.apply_chat_template(
                self._adapt(chat),
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=prompt,
            )
        except UNFORESEEN as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from error
        return str(text)

    def render_marked(self, chat: Chat) -> tuple[str, list[Span]]:
        """The string for `chat`, and the characters that the template's generation marks
        enclose. Raises TemplateError."""
        from transformers.utils.chat_template_utils import render_jinja_template

        render: Any = render_jinja_template  # its hints do not know that it returns a pair
        try:
            (text,), (spans,) = render(
                conversations=[self._adapt(chat)],
                chat_template=self.source,
                return_assistant_tokens_mask=True,
                **self._tokenizer.special_tokens_map,
            )
        except UNFORESEEN as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from error
        return text, spans
