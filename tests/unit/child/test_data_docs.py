"""The example rows in docs/data.md are what they are said to be."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.unit.child.run_folders import make_run_folder
from trainer_svc.child.checked_rows import write_checked
from trainer_svc.child.dialogue import Unusable
from trainer_svc.child.images import IMAGE_BROKEN, IMAGE_MISSING, IMAGES_DO_NOT_MATCH
from trainer_svc.child.receipts import MALFORMED, NO_SUPERVISED_TOKENS, TOO_LONG
from trainer_svc.child.rows.formats import RowFormat
from trainer_svc.child.rows.layout import find_layout
from trainer_svc.child.rows.refusals import UNSUPPORTED_MEDIA, UNSUPPORTED_TOOLS
from trainer_svc.child.run_spec import read_run_spec
from trainer_svc.child.spool import Spool
from trainer_svc.child.turns.refusals import NoSystemRole, ThoughtLost, TurnsNotFound

DOCUMENT = (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")
EXAMPLE = re.compile(
    r"^###? (?P<title>[^\n]+)$(?:(?!^##).)*?^```json\n(?P<row>[^\n]+)\n```$", re.M | re.S
)
EXAMPLES = {match["title"]: match["row"] for match in EXAMPLE.finditer(DOCUMENT)}


def test_every_format_has_an_example() -> None:
    assert set(EXAMPLES) == {*RowFormat, "Pictures"}


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_is_read_as_what_it_is(title: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(EXAMPLES[title] + "\n", "utf-8")
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / "hammer.png")
    kind = "MODEL_KIND_VLM" if title == "Pictures" else "MODEL_KIND_LLM"
    folder = make_run_folder(tmp_path, "owner/model", path, spec_fields={"model_kind": kind})
    spool = Spool(tmp_path / "spool.jsonl")

    part = write_checked(read_run_spec(folder.path), "train", tmp_path / "cache", spool)
    spool.close()

    assert part is not None
    assert part.rows == 1
    assert title in (find_layout(json.loads(EXAMPLES[title]), None, {}).row_format, "Pictures")
    assert ("images" in json.loads(part.path.read_text())) is (title == "Pictures")


def test_every_reason_is_in_the_table() -> None:
    reasons = {
        *Unusable, MALFORMED, TOO_LONG, NO_SUPERVISED_TOKENS, UNSUPPORTED_TOOLS, UNSUPPORTED_MEDIA,
        IMAGE_MISSING, IMAGE_BROKEN, IMAGES_DO_NOT_MATCH,
        NoSystemRole.reason, ThoughtLost.reason, TurnsNotFound.reason,
    }  # fmt: skip

    assert reasons == set(re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.M))
