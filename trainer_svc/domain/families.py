"""The families of models that a trainer can train, and what each of them takes.

One table: a new family is a row here. Pure: judges what an environment reports
of itself (supervisor/environment_report.py); no library is imported to find out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from svckit.spec import Backend

# What any model with pictures takes: image processors are built on it.
PICTURES = ("torchvision", "pillow")
QWEN_VL = ("qwen-vl-utils",)


@dataclass(frozen=True)
class Family:
    """`model_type`: as config.json has it, and as transformers names its modules. `swift_type`:
    ms-swift's own name; "" if it has none. `needs` and `swift_needs`: distributions beside the
    backend's own."""

    title: str
    model_type: str
    swift_type: str
    reads_pictures: bool = False
    needs: Sequence[str] = ()
    swift_needs: Sequence[str] = ()


FAMILIES: Sequence[Family] = (
    Family("Qwen2, Qwen2.5", "qwen2", "qwen2"),
    Family("Qwen3", "qwen3", "qwen3"),
    Family("Qwen3-MoE", "qwen3_moe", "qwen3_moe"),
    Family("Llama, SmolLM2, DeepSeek-R1-Distill-Llama", "llama", "llama"),
    Family("Yi", "llama", "yi"),
    Family("Mistral", "mistral", "mistral"),
    Family("Gemma 2", "gemma2", "gemma2"),
    Family("Gemma 3 (text)", "gemma3", "gemma3_text"),
    Family("Phi-3", "phi3", "phi3"),
    Family("Phi-4", "phi3", "phi4"),
    Family("SmolLM3", "smollm3", ""),
    Family("GLM-4", "glm4", "glm4"),
    Family("GPT-OSS", "gpt_oss", "gpt_oss"),
    Family("Qwen2-VL", "qwen2_vl", "qwen2_vl", True, PICTURES, (*PICTURES, *QWEN_VL)),
    Family("Qwen2.5-VL", "qwen2_5_vl", "qwen2_5_vl", True, PICTURES, (*PICTURES, *QWEN_VL)),
    Family("Qwen3-VL", "qwen3_vl", "qwen3_vl", True, PICTURES, (*PICTURES, *QWEN_VL)),
    Family("SmolVLM2", "smolvlm", "", True, (*PICTURES, "num2words"), PICTURES),
    Family("Idefics3, SmolVLM", "idefics3", "idefics3", True, PICTURES, PICTURES),
    Family("Gemma 3", "gemma3", "gemma3_vision", True, PICTURES, PICTURES),
    Family("LLaVA 1.5", "llava", "llava1_5_hf", True, PICTURES, PICTURES),
)

FEATURES: Mapping[str, Sequence[str]] = {
    "LoRA": ("peft",),
    "LoRA on 4-bit weights": ("peft", "bitsandbytes"),
    "tokenizer.model alone": ("sentencepiece",),
    "tiktoken.model alone": ("tiktoken",),
}


@dataclass(frozen=True)
class Environment:
    """What is installed where a backend trains. `versions` by distribution; `model_types` are
    those that its transformers knows, `swift_types` those of its ms-swift. `torchvision`: what
    is wrong with it; "" if nothing is."""

    versions: Mapping[str, str] = field(default_factory=dict)
    model_types: frozenset[str] = frozenset()
    swift_types: frozenset[str] = frozenset()
    torchvision: str = ""


@dataclass(frozen=True)
class FamilySupport:
    """As in trainer.proto."""

    family: Family
    missing_packages: Sequence[str]
    unsupported: str = ""


@dataclass(frozen=True)
class FeatureSupport:
    """As in trainer.proto."""

    feature: str
    missing_packages: Sequence[str]


def packages_asked_for() -> Sequence[str]:
    """Every distribution that a row names."""
    rows = (packages for family in FAMILIES for packages in (family.needs, family.swift_needs))
    named = (name for packages in (*rows, *FEATURES.values()) for name in packages)
    return sorted({*named, "torch", "torchvision", "transformers"})


def families_of(backend: Backend, environment: Environment) -> Iterator[FamilySupport]:
    """What `backend` can train there, in the table's order."""
    for family in FAMILIES:
        needs = family.swift_needs if backend is Backend.SWIFT else family.needs
        missing = [name for name in needs if name not in environment.versions]
        if family.model_type not in environment.model_types:
            missing.append(f"transformers that knows {family.model_type}")
        unsupported = ""
        if backend is Backend.SWIFT and family.swift_type not in environment.swift_types:
            unsupported = "ms-swift has no type for it"
        yield FamilySupport(family, missing, unsupported)


def features_of(environment: Environment) -> Iterator[FeatureSupport]:
    """What can be used there."""
    for feature, needs in FEATURES.items():
        missing = [name for name in needs if name not in environment.versions]
        yield FeatureSupport(feature, missing)
