"""A tokenizer that comes as tokenizer.model alone, as the original layouts of Llama 2,
Mistral and Yi have it: the libraries it needs, and whether it is read right.

Refuses, before anything is loaded, a sentencepiece or tiktoken file whose library is
not installed, by its right name (RunFailed, ENVIRONMENT_INVALID), and a tokenizer
that gives other tokens than sentencepiece itself does (MODEL_INVALID).
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


def require_readable(folder: Path, name: str) -> None:
    """Raises RunFailed if what reads the tokenizer is not installed, or cannot read it. `name` is
    the model's."""
    library = library_of(folder)
    if library and importlib.util.find_spec(library) is None:
        raise RunFailed(
            Cause.ENVIRONMENT_INVALID,
            f"the tokenizer of {name} is a {library} file ({FILE}), and the library {library} is"
            " not installed on this trainer",
            f"Install {library} on the trainer, or use a model with {FAST_FILE}.",
        )
    if library == SENTENCEPIECE:
        _ids_of_file(folder, name)


def as_sentencepiece(
    folder: Path, name: str, tokenizer: "PreTrainedTokenizerBase"
) -> "PreTrainedTokenizerBase":
    """`tokenizer`, made of the files in `folder`, if it gives the tokens that sentencepiece gives;
    else another class that does. transformers chooses the class by the model's type, and for
    Mistral and Phi-3 it is one that takes the first word of a text for another. Raises RunFailed.
    """
    if library_of(folder) != SENTENCEPIECE:
        return tokenizer
    right = _ids_of_file(folder, name)
    if _ids(tokenizer) == right:
        return tokenizer
    from transformers import LlamaTokenizer

    other: Any = LlamaTokenizer.from_pretrained(folder, local_files_only=True)
    if _ids(other) != right:
        raise _read_otherwise(name)
    return other  # type: ignore[no-any-return]  # untyped


def require_as_sentencepiece(folder: Path, name: str) -> None:
    """Refuses a folder in which another program, which takes what AutoTokenizer gives, would read
    another tokenizer than the model was trained with (RunFailed)."""
    if library_of(folder) != SENTENCEPIECE:
        return
    require_readable(folder, name)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if _ids(tokenizer) != _ids_of_file(folder, name):
        raise _read_otherwise(name)


def _ids(tokenizer: Any) -> list[int]:
    return list(tokenizer.encode(PROBE, add_special_tokens=False))


def _ids_of_file(folder: Path, name: str) -> list[int]:
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
    return list(processor.EncodeAsIds(PROBE))


def _read_otherwise(name: str) -> RunFailed:
    return RunFailed(
        Cause.MODEL_INVALID,
        f"the tokenizer of {name}, made of {FILE} alone, gives other tokens than sentencepiece"
        " does; the model was not trained with those",
        f"Add the model's {FAST_FILE} to its folder.",
    )
