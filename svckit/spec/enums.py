"""The choices in a job's spec, under their names on the wire.

Owns which spellings are accepted: the proto name ("BACKEND_QLORA") and the
short one ("qlora"), upper or lower case. Refuses everything else.
"""

from enum import StrEnum
from typing import Self


class SpecEnum(StrEnum):
    """A choice whose value is its proto name."""

    @classmethod
    def prefix(cls) -> str:
        """What all proto names of this enum begin with ("BACKEND_")."""
        raise NotImplementedError

    @property
    def short_name(self) -> str:
        """The name for people ("qlora")."""
        return self.value.removeprefix(self.prefix()).lower()

    @classmethod
    def choices(cls) -> list[Self]:
        """The members that a person may ask for by name."""
        return [member for member in cls if not member.value.endswith("_UNSPECIFIED")]

    @classmethod
    def parse(cls, text: object) -> Self:
        """The member that `text` names; ValueError says which names there are."""
        if isinstance(text, cls):
            return text
        if isinstance(text, str):
            for member in cls:
                if text.lower() in (member.value.lower(), member.short_name):
                    return member
        names = ", ".join(member.short_name for member in cls.choices())
        raise ValueError(f"must be one of {names}; got {text!r:.80}")


class Backend(SpecEnum):
    """What runs the training."""

    QLORA = "BACKEND_QLORA"
    SWIFT = "BACKEND_SWIFT"

    @classmethod
    def prefix(cls) -> str:
        return "BACKEND_"


class ModelKind(SpecEnum):
    """What a model reads."""

    LLM = "MODEL_KIND_LLM"
    VLM = "MODEL_KIND_VLM"

    @classmethod
    def prefix(cls) -> str:
        return "MODEL_KIND_"


class DataFormat(SpecEnum):
    """How the rows of a data set are written."""

    UNSPECIFIED = "DATA_FORMAT_UNSPECIFIED"
    """Found out from the first row."""
    MESSAGES = "DATA_FORMAT_MESSAGES"
    LCCC = "DATA_FORMAT_LCCC"
    ALPACA = "DATA_FORMAT_ALPACA"
    SHAREGPT = "DATA_FORMAT_SHAREGPT"
    PROMPT_COMPLETION = "DATA_FORMAT_PROMPT_COMPLETION"
    TEXT = "DATA_FORMAT_TEXT"

    @classmethod
    def prefix(cls) -> str:
        return "DATA_FORMAT_"


class Accelerator(SpecEnum):
    """What a job computes on."""

    GPU = "ACCELERATOR_GPU"
    CPU = "ACCELERATOR_CPU"

    @classmethod
    def prefix(cls) -> str:
        return "ACCELERATOR_"
