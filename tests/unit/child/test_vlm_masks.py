"""Which tokens of a dialogue about pictures carry loss, exactly: never those of a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainer_svc.child.dialogue import Dialogue, Message
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.masks import Encoded
from trainer_svc.child.turns.template import Chat
from trainer_svc.child.vlm_masks import PictureEncoder, PicturesMisplaced, open_picture

# The libraries warn about themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("default")

TOKENS_PER_PICTURE = 16
PICTURE = "<image>" * TOKENS_PER_PICTURE
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "<image>What is it?"},
    {"role": "assistant", "content": "A red box. 红色"},
    {"role": "user", "content": "And <image> here?"},
    {"role": "assistant", "content": "Two boxes."},
]
# In pieces: the text, and whether it carries loss.
PIECES = [
    (f"<s>Be brief.\nUSER: {PICTURE}\nWhat is it?\nASSISTANT:", False),
    ("A red box. 红色</s>", True),
    (f"USER: And {PICTURE}\n here?\nASSISTANT:", False),
    ("Two boxes.</s>", True),
]


def dialogue_of(chat: Chat, prompt_turns: int = 0) -> Dialogue:
    return tuple(
        Message(turn["role"], turn["content"], learnt=number >= prompt_turns)
        for number, turn in enumerate(chat)
    )


def processor_of(model: Path) -> Any:
    from transformers import AutoProcessor

    auto: Any = AutoProcessor
    return auto.from_pretrained(model)


def two_pictures(assets: Path) -> list[Path]:
    return sorted((assets / "images").iterdir())[:2]


def pieces_encoded(tokenizer: Any, pieces: Sequence[tuple[str, bool]]) -> Encoded:
    ids: list[int] = []
    supervised: list[bool] = []
    for text, loss in pieces:
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += piece
        supervised += [loss] * len(piece)
    return Encoded(ids, supervised)


def test_a_template_with_marks_gives_the_exact_mask(vlm_assets: Path) -> None:
    processor = processor_of(vlm_assets / "model")
    assert "generation %}" in processor.chat_template

    row = PictureEncoder(processor, assistant_only=True).encode_row(
        dialogue_of(CHAT), two_pictures(vlm_assets)
    )

    assert row.encoded == pieces_encoded(processor.tokenizer, PIECES)


def test_a_template_without_marks_gives_the_same_mask(vlm_assets: Path, plain_vlm: Path) -> None:
    processor = processor_of(plain_vlm)
    assert "generation %}" not in processor.chat_template

    row = PictureEncoder(processor, assistant_only=True).encode_row(
        dialogue_of(CHAT), two_pictures(vlm_assets)
    )

    assert row.encoded == pieces_encoded(processor.tokenizer, PIECES)


def test_without_assistant_only_all_but_pictures_carries_loss(vlm_assets: Path) -> None:
    processor = processor_of(vlm_assets / "model")

    row = PictureEncoder(processor, assistant_only=False).encode_row(
        dialogue_of(CHAT), two_pictures(vlm_assets)
    )

    ids, supervised = row.encoded.input_ids, row.encoded.supervised
    assert ids == pieces_encoded(processor.tokenizer, PIECES).input_ids
    assert supervised == [token != processor.image_token_id for token in ids]
    assert supervised.count(False) == 2 * TOKENS_PER_PICTURE


@pytest.mark.parametrize("assistant_only", [True, False])
def test_the_turns_of_a_prompt_carry_no_loss(vlm_assets: Path, assistant_only: bool) -> None:
    processor = processor_of(vlm_assets / "model")

    row = PictureEncoder(processor, assistant_only).encode_row(
        dialogue_of(CHAT, prompt_turns=4), two_pictures(vlm_assets)
    )

    only_last = [(text, loss and text == "Two boxes.</s>") for text, loss in PIECES]
    assert row.encoded == pieces_encoded(processor.tokenizer, only_last)


# As LLaVA 1.5 has it: no marks for training, all pictures of a message first, no plain contents.
PICTURES_FIRST = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def test_a_template_that_moves_pictures_still_gives_the_turns(vlm_assets: Path) -> None:
    processor = processor_of(vlm_assets / "model")
    processor.chat_template = PICTURES_FIRST

    row = PictureEncoder(processor, assistant_only=True).encode_row(
        dialogue_of(CHAT), two_pictures(vlm_assets)
    )

    runs: list[list[int]] = [[]]
    for token, loss in zip(row.encoded.input_ids, row.encoded.supervised, strict=True):
        if loss:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    learnt = [processor.tokenizer.decode(run).strip() for run in runs if run]
    assert learnt == ["A red box. 红色", "Two boxes."]
    assert row.encoded.input_ids.count(processor.image_token_id) == 2 * TOKENS_PER_PICTURE


def test_a_plain_text_is_learnt_to_its_end(vlm_assets: Path) -> None:
    processor = processor_of(vlm_assets / "model")
    encoder = PictureEncoder(processor, assistant_only=True)

    row = encoder.encode_plain("See: <image>A box.", two_pictures(vlm_assets)[:1])

    expected = [("See: ", True), (PICTURE, False), ("A box.</s>", True)]
    assert row.encoded == pieces_encoded(processor.tokenizer, expected)


def test_a_template_that_leaves_out_pictures_fails_the_row(vlm_assets: Path) -> None:
    processor = processor_of(vlm_assets / "model")
    processor.chat_template = processor.chat_template.replace("'<image>\\n' if", "'' if")
    encoder = PictureEncoder(processor, assistant_only=True)

    with pytest.raises(PicturesMisplaced, match="2 pictures, and places for 0"):
        encoder.encode_row(dialogue_of(CHAT), two_pictures(vlm_assets))


def test_a_processor_without_a_template_is_refused(vlm_assets: Path) -> None:
    processor = processor_of(vlm_assets / "model")
    processor.chat_template = processor.tokenizer.chat_template = None

    with pytest.raises(RunFailed) as caught:
        PictureEncoder(processor, assistant_only=True)

    assert caught.value.cause is Cause.MODEL_INVALID


def test_only_pictures_of_known_formats_and_sizes_are_opened(tmp_path: Path) -> None:
    for name, side in (("a.png", 8), ("a.tga", 8), ("large.png", 9_500)):
        Image.new("L", (side, side)).save(tmp_path / name)

    opened = open_picture(tmp_path / "a.png")
    with pytest.raises(OSError, match="cannot identify"):
        open_picture(tmp_path / "a.tga")
    with pytest.raises(ValueError, match="more than 89,478,485 pixels"):
        open_picture(tmp_path / "large.png")

    assert (opened.mode, opened.size) == ("RGB", (8, 8))


def test_a_picture_is_turned_as_its_file_says(tmp_path: Path) -> None:
    turned = Image.new("RGB", (8, 4))
    turned.getexif()[0x0112] = 6  # on its side
    turned.save(tmp_path / "a.jpg", exif=turned.getexif())

    assert open_picture(tmp_path / "a.jpg").size == (4, 8)
