"""Loads tokenizers and chat templates of published models.

A tokenizer that no package has is trained on a few sentences, with the special tokens of the
published one. Only to be called where the training libraries may be imported.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules" / "@lenml"
SENTENCES = (
    "Hi there. Where is the hammer? It is in the red box, under the table.",
    "Thanks. You are welcome. Be brief. Look there first, then think again: 1 + 1 = 2.",
    "谢谢。不客气。锤子在红色的盒子里。",
)


def installed() -> bool:
    """Whether the packages are there."""
    return (PACKAGES / "tokenizer-qwen3" / "models" / "tokenizer.json").exists()


def package_tokenizer(name: str) -> Any:
    """The tokenizer of the package, with the chat template that it has, if any."""
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    return fast.from_pretrained(str(PACKAGES / f"tokenizer-{name}" / "models"))


def small_tokenizer(special: Sequence[str], bos: str, eos: str) -> Any:
    """A byte-level tokenizer with these special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    fast: Any = PreTrainedTokenizerFast
    parts = {"bos_token": bos, "eos_token": eos, "pad_token": eos}
    return fast(
        tokenizer_object=tokenizer, **{part: token for part, token in parts.items() if token}
    )


def template(source: str) -> str | None:
    """The source of a chat template: "trl:NAME", "form:NAME", or None for "package"."""
    kind, _, name = source.partition(":")
    if kind == "trl":
        return (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    if kind == "form":
        return (HERE / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    return None
