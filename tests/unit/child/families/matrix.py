"""Writes docs/models.md from what the tests of this folder hold true, or checks that it is so.

python -m tests.unit.child.families.matrix [--check]
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.unit.child.families.pictures import FAMILIES as PICTURES
from tests.unit.child.families.pictures import PictureFamily
from tests.unit.child.families.texts import (
    FAMILIES,
    NO_SYSTEM,
    NO_THOUGHT,
    NOT_IN_SWIFT,
    SWIFT,
    SmallTokenizer,
    TextFamily,
)
from trainer_svc.child.masks import NO_SYSTEM_ROLE as MESSAGE
from trainer_svc.child.turns.refusals import NoSystemRole, ThoughtLost

TARGET = Path(__file__).resolve().parents[4] / "docs" / "models.md"
TRAINS = "trains, mask checked"
CHECKED = "mask checked"
REFUSED = {NO_SYSTEM: "left out: `no_system_role`", NO_THOUGHT: "left out: `thought_not_rendered`"}
SOURCES = {
    "package": "published",
    "trl": "published, as TRL carries it",
    "form": "written in the published form",
}
INTRO = """# Models

Which families of models train, with which backend, on which kinds of rows. For anyone who chooses
a model. This page is made by `make models` from the tables that the tests hold true; edit those.

- **trains, mask checked**: a tiny model of the family's architecture was trained on such rows by a
  real run, and the tokens that carry loss were compared with a list written by hand.
- **mask checked**: the tokens that carry loss were compared in the same way.
- **left out**: the row is counted under that reason, and fails a job that is `strict`;
  [data.md](data.md) says what to do.

A model that is not listed trains if its chat template renders: templates are not recognised by
their text, see [adr/0007](adr/0007-turns-are-found-by-what-a-template-writes.md).
"""
REFUSALS = f"""## What a refusal says

- `no_system_role`: "the row has a system message, and the model's chat template has no system
  role". {NoSystemRole.hint}
- `thought_not_rendered`: "turn N has a thought to be learnt, and the model's chat template does not
  render thoughts". {ThoughtLost.hint}
- A job's own `system_prompt` with such a template fails before any row is read (CONFIG_INVALID):
  "{MESSAGE}".
"""


def document() -> str:
    """The page."""
    parts = [
        INTRO,
        "## Text, `backend: qlora`\n",
        _table(
            ("family", "text", "multi-turn", "system", "thought", "thoughts of earlier turns"),
            map(_qlora, FAMILIES),
        ),
        "## Text, `backend: swift` (ms-swift 4.6)\n",
        "The masks are those of ms-swift's own templates. Training is tested with Qwen3 models.\n",
        _table(
            ("family", "`model_type`, `template`", "text", "multi-turn", "system"),
            map(_swift, FAMILIES),
        ),
        "## Pictures, `model_kind: vlm`\n",
        _table(
            ("family", "`backend: qlora`", "`backend: swift`", "`model_type`, `template`"),
            map(_pictures, PICTURES),
        ),
        REFUSALS,
        "## What was tested with\n",
        _table(("family", "chat template", "tokenizer", "model", "note"), map(_tested, FAMILIES)),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _qlora(family: TextFamily) -> Sequence[str]:
    cells = [REFUSED.get(str(family.of(kind)), TRAINS) for kind in ("single", "dialogue", "system")]
    thought = REFUSED.get(str(family.of("thought")), CHECKED)
    earlier = REFUSED.get(str(family.of("thoughts")), "learnt")
    if family.dropped:
        earlier = "left out by the template; its answer carries no loss"
    return (family.title, *cells, thought, earlier)


def _swift(family: TextFamily) -> Sequence[str]:
    if family.name in NOT_IN_SWIFT:
        return (family.title, "", *[NOT_IN_SWIFT[family.name]] * 3)
    known = SWIFT[family.name]
    return (family.title, f"`{known.model_type}`, `{known.template}`", *[CHECKED] * 3)


def _pictures(family: PictureFamily) -> Sequence[str]:
    if family.swift is None:
        return (family.title, TRAINS, "ms-swift 4.6 has no template for it", "")
    model_type, template = family.swift
    return (family.title, TRAINS, TRAINS, f"`{model_type}`, `{template}`")


def _tested(family: TextFamily) -> Sequence[str]:
    source = SOURCES[family.template.partition(":")[0]]
    tokenizer = (
        "small, with the published special tokens"
        if isinstance(family.tokenizer, SmallTokenizer)
        else f"`{family.tokenizer}`"
    )
    return (family.title, source, tokenizer, f"tiny `{family.architecture}`", family.note)


def main(arguments: Sequence[str]) -> int:
    """0 when the page is written, or as it should be."""
    page = document()
    if "--check" not in arguments:
        TARGET.write_text(page, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == page:
        return 0
    print("docs/models.md is not what the tests say: run `make models`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
