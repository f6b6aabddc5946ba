"""The tokenizer of the demo's tiny models: byte-level BPE, trained on the demo's own texts.

Owns its files: tokenizer.json, tokenizer_config.json and the chat template.
Deterministic: the same texts give the same bytes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TokenizerShape:
    """`special` are tokens that stand for themselves; `named` gives some of them a part
    ("eos_token", "pad_token", ...)."""

    vocab_size: int
    special: tuple[str, ...]
    named: Mapping[str, str]
    template: str


def write_tokenizer(folder: Path, texts: Iterator[str], shape: TokenizerShape) -> dict[str, int]:
    """Trains it on `texts` and writes it; the ids of the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocab_size,
        special_tokens=list(shape.special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **shape.named,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
    }
    write_json(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(shape.template, encoding="utf-8")
    vocabulary = tokenizer.get_vocab()
    return {token: vocabulary[token] for token in shape.special}


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Writes `document` with sorted keys, so that equal documents are equal bytes."""
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
