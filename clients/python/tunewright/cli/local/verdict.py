"""What a demo has shown, and when its loss counts as learnt. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A random model that learns its dialogues goes far below; noise does not halve.
LOSS_SHARE_MAX = 0.5

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Verdict:
    """The evidence. `problems` is empty if everything holds."""

    job: str
    losses: Points
    eval_losses: Points
    adapter: str
    prompt: str
    reply: str
    problems: Sequence[str]

    def record(self) -> dict[str, object]:
        """For programs."""
        return {
            "job": self.job,
            "holds": not self.problems,
            "problems": list(self.problems),
            "first_loss": self.losses[0][1] if self.losses else None,
            "last_loss": self.losses[-1][1] if self.losses else None,
            "eval_loss": self.eval_losses[-1][1] if self.eval_losses else None,
            "adapter": self.adapter,
            "prompt": self.prompt,
            "reply": self.reply,
        }


def loss_problems(losses: Points) -> list[str]:
    """What is wrong with a loss curve of (step, loss) points."""
    if len(losses) < 2:
        return ["there is no loss curve"]
    first, last = losses[0][1], losses[-1][1]
    if last < first * LOSS_SHARE_MAX:
        return []
    return [f"the loss did not fall to under half: {first:.4g} at first, {last:.4g} at last"]
