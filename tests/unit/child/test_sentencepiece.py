"""Models whose tokenizer is tokenizer.model alone: a sentencepiece file, as the original layouts
of Llama 2, Mistral and Yi have it."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_models import write_tiny_model
from tests.unit.child.asking import Asker
from tests.unit.child.launching import launch
from tests.unit.child.run_folders import make_run_folder
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.model import BaseModel, load_tokenizer
from trainer_svc.child.tokenizer_files import library_of, require_as_sentencepiece

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]
VOCABULARY = 700
LLAMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
SETTINGS: dict[str, Any] = {
    "tokenizer_class": "LlamaTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "add_bos_token": True,
    "add_eos_token": False,
    "legacy": False,
    "chat_template": LLAMA,
}


@pytest.fixture(scope="module")
def ask() -> Iterator[Asker]:
    asker = Asker()
    yield asker
    asker.close()


@pytest.fixture(scope="module")
def sentencepiece_file(assets: Path) -> bytes:
    """Trained on the demo's dialogues, with the settings of Llama 2's: BPE, bytes for what it does
    not know, a space put before a text."""
    import sentencepiece

    rows = (assets / "train.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [turn["content"] for row in rows for turn in json.loads(row)["messages"]]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def folder_with(root: Path, tokenizer: bytes, settings: dict[str, Any] | None) -> Path:
    root.mkdir(exist_ok=True)
    (root / "tokenizer.model").write_bytes(tokenizer)
    if not (root / "config.json").exists():
        (root / "config.json").write_text(json.dumps({"model_type": "mistral"}))
    if settings is not None:
        (root / "tokenizer_config.json").write_text(json.dumps(settings))
    return root


def tokenizer_of(folder: Path) -> Any:
    return load_tokenizer(BaseModel("tiny", "", folder))


@pytest.mark.parametrize("model_type", ["llama", "mistral", "mixtral", "phi3"])
@pytest.mark.parametrize("more", [{}, {"legacy": True}, {"add_bos_token": False}, None])
def test_it_is_read_as_sentencepiece_reads_it_and_knows_its_characters(
    tmp_path: Path, sentencepiece_file: bytes, model_type: str, more: dict[str, Any] | None
) -> None:
    import sentencepiece

    settings = None if more is None else {**SETTINGS, **more}
    folder = folder_with(tmp_path / "m", sentencepiece_file, settings)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    text = "What is in the box?\nA 日本 flag, 12 of them 🙂"

    tokenizer = tokenizer_of(folder)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)

    processor = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_file)
    assert encoded["input_ids"] == processor.EncodeAsIds(text)
    assert tokenizer.decode(encoded["input_ids"]) == text
    assert tokenizer.is_fast
    # Every character is some token's, and none is beyond the text.
    covered = {place for begin, end in encoded["offset_mapping"] for place in range(begin, end)}
    assert covered == set(range(len(text)))
    assert tokenizer.pad_token == "</s>"  # a token of a vocabulary


def test_a_model_with_it_alone_trains_and_its_adapter_brings_it(
    ask: Asker, assets: Path, tmp_path: Path, sentencepiece_file: bytes
) -> None:
    model = tmp_path / "model"
    ask(write_tiny_model, "mistral", str(model), VOCABULARY)
    folder_with(model, sentencepiece_file, SETTINGS)
    rows = [
        {"messages": [turn for turn in json.loads(line)["messages"] if turn["role"] != "system"]}
        for line in (assets / "train.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    folder = make_run_folder(
        tmp_path, model, data, max_steps="8", logging_steps=1, learning_rate=2e-2
    )

    assert launch(folder).wait() == 0, folder.result

    (receipt,) = folder.entries("data_prepared")
    assert receipt["rows_kept"] == str(len(rows))
    assert folder.losses()[8] < folder.losses()[1]
    result = tokenizer_of(folder.staging)
    text = "What is in the box?"
    assert result(text)["input_ids"] == tokenizer_of(model)(text)["input_ids"]


def test_another_program_would_read_mistral_otherwise_and_is_not_given_it(
    tmp_path: Path, sentencepiece_file: bytes
) -> None:
    folder = folder_with(tmp_path / "m", sentencepiece_file, SETTINGS)

    with pytest.raises(RunFailed) as caught:
        require_as_sentencepiece(folder, "tiny")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    require_as_sentencepiece(folder, "tiny")

    assert caught.value.cause is Cause.MODEL_INVALID
    assert "gives other tokens than sentencepiece does" in str(caught.value)
    assert caught.value.hint == "Add the model's tokenizer.json to its folder."


def test_what_reads_a_tokenizer_is_known_by_its_file(
    tmp_path: Path, sentencepiece_file: bytes
) -> None:
    folder = folder_with(tmp_path / "m", sentencepiece_file, SETTINGS)
    assert library_of(folder) == "sentencepiece"

    (folder / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    assert library_of(folder) == "tiktoken"

    (folder / "tokenizer.json").write_text("{}")
    assert library_of(folder) == ""


WITHOUT = """
import sys
sys.modules[sys.argv[2]] = None  # as if it were not installed
from pathlib import Path
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.model import BaseModel, load_tokenizer
try:
    load_tokenizer(BaseModel("tiny", "", Path(sys.argv[1])))
except RunFailed as error:
    print(error.cause, error, error.hint, sep="|")
"""


@pytest.mark.parametrize("library", ["sentencepiece", "tiktoken"])
def test_a_library_that_is_missing_is_named_by_its_own_name(
    tmp_path: Path, sentencepiece_file: bytes, library: str
) -> None:
    tokenizer = sentencepiece_file if library == "sentencepiece" else b"IQ== 0\nIg== 1\n"
    folder = folder_with(tmp_path / "m", tokenizer, SETTINGS)

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(folder), library],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    cause, message, hint = done.stdout.strip().split("|")
    assert cause == "FAILURE_CAUSE_ENVIRONMENT_INVALID"
    assert f"the library {library} is not installed on this trainer" in message
    assert f"Install {library} on the trainer" in hint


@pytest.mark.parametrize("damaged", [b"", b"junk", None])
def test_a_damaged_file_is_refused(
    tmp_path: Path, sentencepiece_file: bytes, damaged: bytes | None
) -> None:
    content = sentencepiece_file[:200] if damaged is None else damaged
    folder = folder_with(tmp_path / "m", content, SETTINGS)

    with pytest.raises(RunFailed) as caught:
        tokenizer_of(folder)

    assert caught.value.cause is Cause.MODEL_INVALID
    assert str(caught.value) == "tokenizer.model of tiny is not a sentencepiece model"
