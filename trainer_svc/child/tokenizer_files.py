"""A tokenizer that comes as tokenizer.model alone, as the original layouts of Llama 2,
Mistral and Yi have it: the libraries it needs, and whether it is read right.

Refuses, before anything is loaded, a sentencepiece or tiktoken file whose library is
not installed, by its right name (RunFailed, ENVIRONMENT_INVALID), and, once it is
loaded, a tokenizer that gives other ids than sentencepiece itself does: without the
settings of tokenizer_config.json the first word of a text is read as another one
(MODEL_INVALID).
"""

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer_svc.child.failure import Cause, RunFailed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE, FAST_FILE = "tokenizer.model", "tokenizer.json"
SENTENCEPIECE, TIKTOKEN = "sentencepiece", "tiktoken"
# A token in base64 and its rank, on a line.
TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/=]+ \d+\r?\n")
LINE_BYTES_MAX = 1024
# Words with and without a space before them, and what has to be spelt in bytes.
PROBE = "Hello world, 12 words of 日本語"


def library_of(folder: Path) -> str:
    """What reads the tokenizer in `folder`: "sentencepiece", "tiktoken", or "" for neither."""
    path = folder / FILE
    if not path.is_file() or (folder / FAST_FILE).is_file():
        return ""
    with path.open("rb") as file:
        first = file.readline(LINE_BYTES_MAX)
    return TIKTOKEN if TIKTOKEN_LINE.fullmatch(first) else SENTENCEPIECE


def require_library(folder: Path, name: str) -> None:
    """Raises RunFailed if what reads the tokenizer is not installed. `name` is the model's."""
    library = library_of(folder)
    if library and importlib.util.find_spec(library) is None:
        raise RunFailed(
            Cause.ENVIRONMENT_INVALID,
            f"the tokenizer of {name} is a {library} file ({FILE}), and the library {library} is"
            " not installed on this trainer",
            f"Install {library} on the trainer, or use a model with {FAST_FILE}.",
        )


def require_same_ids(folder: Path, name: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raises RunFailed if `tokenizer`, made of a sentencepiece file, does not do what it says."""
    if library_of(folder) != SENTENCEPIECE:
        return
    import sentencepiece

    processor: Any = sentencepiece.SentencePieceProcessor()
    try:
        processor.Load(str(folder / FILE))
    except (OSError, RuntimeError) as error:
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"{FILE} of {name} is not a sentencepiece model",
            "Copy or download the model again; the file is not whole.",
        ) from error
    known: Any = tokenizer
    if known.encode(PROBE, add_special_tokens=False) != processor.EncodeAsIds(PROBE):
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"the tokenizer of {name}, made of {FILE}, gives other tokens than sentencepiece does;"
            f" {_settings(folder)}",
            f"Add the model's tokenizer_config.json and {FAST_FILE} to its folder.",
        )


def _settings(folder: Path) -> str:
    if (folder / "tokenizer_config.json").is_file():
        return "tokenizer_config.json names another class of tokenizer"
    return "the folder has no tokenizer_config.json"
