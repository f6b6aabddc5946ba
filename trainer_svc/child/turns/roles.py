"""Which roles a chat template knows, and how a system message is rendered with it.

Owns the question whether a template writes what a role says. One that raises over it, or leaves
its words out, does not know the role.

Some templates write a system message only while a question is open: Mistral's of 2024 put it
into the last turn if that is the user's, and leave it out of a dialogue that ends with an
answer. Such a dialogue is rendered here as the prompt for its last answer, which is what the
model sees when it is used, and the answer as the template writes it.
"""

from jinja2 import TemplateError

from trainer_svc.child.turns.shape import MARK_OF
from trainer_svc.child.turns.template import Chat, Template


class PromptThenAnswer(Template):
    """Renders a dialogue whose last turn is an answer as the prompt for it, then the answer."""

    def render(self, chat: Chat, prompt: bool = False) -> str:
        """As the template does, but with the system message."""
        whole = super().render(chat, prompt)
        asked = chat[:-1]
        if prompt or not asked or chat[-1]["role"] != "assistant" or asked[-1]["role"] != "user":
            return whole
        before = super().render(asked, prompt=True)
        question = before[max(before.rfind(asked[-1]["content"].strip()), 0) :]
        at = whole.rfind(question)
        return before + whole[at + len(question) :] if at >= 0 else whole


def knows_role(template: Template, role: str) -> bool:
    """Whether the template itself has that role. One that writes any name in the place of a role
    knows those alone that it mentions, and "system"."""
    return _writes(template, role) and (role == "system" or role in template.source)


def with_system(template: Template) -> Template | None:
    """`template` in the form that writes system messages; None if it has no system role."""
    if _writes(template, "system"):
        return template
    if template.breaks:  # contents are lists of parts
        return None
    apart = template.rendered_by(PromptThenAnswer)
    return apart if _writes(apart, "system") else None


def _writes(template: Template, role: str) -> bool:
    said, question, answer = (MARK_OF.format(number) for number in range(3))
    try:
        text = template.render(
            [
                {"role": role, "content": said},
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        )
    except TemplateError:
        return False
    return all(words in text for words in (said, question, answer))
