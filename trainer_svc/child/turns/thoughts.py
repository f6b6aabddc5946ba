"""How a chat template takes what the assistant thinks before it answers.

Owns the ways there are, and which one a template has: a field of the message, or
"<think>...</think>" before the answer. The second is used only where the template itself knows
that tag: to any other model it means nothing.
"""

from dataclasses import dataclass

from jinja2 import TemplateError

from trainer_svc.child.turns.shape import MARK_OF, THOUGHT_END
from trainer_svc.child.turns.template import Chat, Template, Turn

GIVEN = "reasoning_content"
"""The field in which as_chat puts a thought."""
FIELDS = (GIVEN, "thinking", "reasoning")
INLINE = "<think>\n{}\n</think>\n\n{}"


@dataclass(frozen=True)
class ThoughtForm:
    """The field that a template reads a thought from; without one, the thought is put into the
    answer."""

    field: str

    def put(self, chat: Chat) -> Chat:
        """`chat` with its thoughts where the template reads them."""
        return [self._put(turn) if GIVEN in turn else turn for turn in chat]

    def _put(self, turn: Turn) -> Turn:
        thought = turn[GIVEN]
        rest = {key: value for key, value in turn.items() if key != GIVEN}
        if self.field:
            return {**rest, self.field: thought}
        return {**rest, "content": INLINE.format(thought, turn["content"])}


AS_GIVEN = ThoughtForm(GIVEN)


def form_of(template: Template) -> ThoughtForm | None:
    """How that template takes a thought in the last turn; None if it takes none."""
    forms = [ThoughtForm(field) for field in FIELDS if field in template.source]
    if THOUGHT_END in template.source:
        forms.append(ThoughtForm(""))
    return next((form for form in forms if _renders(template, form)), None)


def _renders(template: Template, form: ThoughtForm) -> bool:
    question, thought, answer = (MARK_OF.format(number) for number in range(3))
    chat = form.put(
        [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer, GIVEN: thought},
        ]
    )
    try:
        text = template.render(chat)
    except TemplateError:
        return False
    return text.count(thought) == 1 and -1 < text.find(thought) < text.find(answer)
