"""Why a dialogue cannot be encoded with a model's chat template.

Owns the reasons that a receipt counts such rows under, and what to do about each.
These are facts about one row; a model that no row can be encoded with is refused in masks.py.
"""


class RowRefused(Exception):
    """The row cannot be encoded with this model. `reason` is the receipt's, `hint` says what to
    do in a job that is strict."""

    reason = "malformed"
    hint = "Correct the data file, or set strict to false to leave such rows out."


class TurnsNotFound(RowRefused):
    """The turns cannot be told apart in the rendered string."""

    reason = "turns_not_found"
    hint = (
        "Set assistant_only_loss to false, set strict to false to leave such rows out, or correct"
        " the model's chat template."
    )


class NoSystemRole(RowRefused):
    """The row has a system message, and the chat template has no system role."""

    reason = "no_system_role"
    hint = (
        "Use a model whose chat template has a system role, take the system messages out of the"
        " data, or set strict to false to leave such rows out."
    )


class ThoughtLost(RowRefused):
    """A thought that is to be learnt does not stand in the rendered string."""

    reason = "thought_not_rendered"
    hint = (
        "Use a model whose chat template renders thoughts, put the thoughts into the answers, take"
        " them out of the data, or set strict to false to leave such rows out."
    )
