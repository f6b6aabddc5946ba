"""The files of a model's folder that make text and pictures to numbers.

Owns which they are: a result has them beside its adapter, so that it can be used
without the base model's folder. Code is never copied.
"""

import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

PATTERNS: Sequence[str] = (
    "tokenizer*.json",
    "tokenizer.model",
    "*.tiktoken",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece*.model",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
)
TEMPLATES = "additional_chat_templates"


def copy_processing(model: Path, folder: Path) -> None:
    """Copies them into `folder`. Raises OSError."""
    for path in sorted(model.iterdir()):
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in PATTERNS):
            shutil.copyfile(path, folder / path.name)
    if (model / TEMPLATES).is_dir():
        shutil.copytree(model / TEMPLATES, folder / TEMPLATES)
