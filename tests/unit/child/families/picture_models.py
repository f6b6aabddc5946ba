"""Tiny models of the families that read pictures, made by code.

Everything but the size is the family's own: configuration, model and image
processor are the classes of transformers, the special tokens those of the
published tokenizers, the chat templates the published ones as TRL carries them.
Only to be called where the training libraries may be imported.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

HIDDEN, INNER, HEADS, LAYERS, VOCABULARY = 64, 128, 4, 2, 600
SEED = 11
# As llava-hf publishes it; TRL has only that of LLaVA-NeXT.
LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': '}}{% endif %}{# Render all images first #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\\n' }}{% endfor %}{# Render all text next #}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@dataclass(frozen=True)
class Words:
    """A family's tokenizer: its special tokens, and which of them has which part."""

    special: tuple[str, ...]
    named: Mapping[str, str]
    extra: Mapping[str, str]
    spaces: bool = False
    """Words begin with a visible space, as SentencePiece has it; else bytes, as GPT-2."""
    begins: str = ""
    """The token that it puts before a text by itself."""
    ids: Mapping[str, int] = field(default_factory=dict)
    """Where the published tokenizer has its tokens; ms-swift goes by some of these numbers."""


@dataclass(frozen=True)
class Material:
    """What a model is made of: the texts of its tokenizer. With `published_ids` special tokens
    have the numbers of the published one, and the vocabulary its size."""

    texts: Sequence[str]
    published_ids: bool = False


def template_of(name: str) -> str:
    """The published chat template of that name, as TRL carries it."""
    if name == "llava":
        return LLAVA_TEMPLATE
    return files("trl").joinpath("chat_templates", f"{name}.jinja").read_text(encoding="utf-8")


def write_family(family: str, folder: str, published_ids: bool = False) -> None:
    """Writes `folder`/model; its tokenizer is trained on `folder`/rows.jsonl."""
    import torch

    torch.manual_seed(SEED)
    rows = rows_of(Path(folder, "rows.jsonl"))
    texts = [turn["content"] for row in rows for turn in row["messages"]]
    MAKERS[family](Path(folder, "model"), Material(texts, published_ids))


def tokenizer_of(words: Words, material: Material, template: str) -> Any:
    """A tokenizer trained on the texts."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=words.spaces, fuse_unk=words.spaces))
    if words.spaces:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        alphabet = sorted(
            {sign for text in material.texts for sign in text.replace(" ", "▁")} | {"\n"}
        )
        first = [f"<0x{byte:02X}>" for byte in range(256)]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet, first = pre_tokenizers.ByteLevel.alphabet(), []
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*words.special, *first],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(material.texts), trainer)
    if material.published_ids:
        tokenizer = _renumbered(tokenizer, words.ids)
    if words.begins:
        begin = (words.begins, tokenizer.token_to_id(words.begins))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{words.begins} $A", pair=None, special_tokens=[begin]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=template,
        extra_special_tokens=dict(words.extra),
        clean_up_tokenization_spaces=False,
        **words.named,
    )


def _renumbered(tokenizer: Any, ids: Mapping[str, int]) -> Any:
    """The same tokenizer, with these ids, and fillers up to the highest of them."""
    from tokenizers import Tokenizer

    written = json.loads(tokenizer.to_str())
    taken = set(ids.values())
    free = (number for number in count() if number not in taken)
    own = written["model"]["vocab"]
    vocabulary = {token: ids.get(token, -1) for token in own}
    vocabulary = {
        token: number if number >= 0 else next(free) for token, number in vocabulary.items()
    }
    used = set(vocabulary.values())
    fillers = (number for number in range(max(used)) if number not in used)
    vocabulary |= {f"<unused{number}>": number for number in fillers}
    written["model"]["vocab"] = vocabulary
    for added in written["added_tokens"]:
        added["id"] = vocabulary[added["content"]]
    written["added_tokens"].sort(key=lambda added: added["id"])
    return Tokenizer.from_str(json.dumps(written))


QWEN_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"),
    *("<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
QWEN_WORDS = Words(
    special=QWEN_SPECIAL,
    ids={token: 151_643 + number for number, token in enumerate(QWEN_SPECIAL)},
    named={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    extra={},
)


def language(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """The text part of a configuration."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.1,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **more,
    }


def built(kind: Any, **fields: Any) -> Any:
    """One of `kind`; the hints of these classes know fewer fields than they take."""
    return kind(**fields)


def save(folder: Path, model: Any, processor: Any) -> None:
    """Writes both, as their publishers do."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


def _qwen_vision(**more: Any) -> dict[str, Any]:
    return {
        "depth": 2,
        "num_heads": HEADS,
        "in_channels": 3,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "initializer_range": 0.1,
        **more,
    }


QWEN_ROPE = {"type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
QWEN_PIXELS = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}


def _qwen2_vl(folder: Path, material: Material) -> None:
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    # Qwen2-VL and Qwen2.5-VL have the same template.
    tokenizer = tokenizer_of(QWEN_WORDS, material, template_of("qwen2_5_vl"))
    config = built(
        Qwen2VLConfig,
        text_config=language(tokenizer, rope_parameters=QWEN_ROPE),
        vision_config=_qwen_vision(
            embed_dim=32, hidden_size=HIDDEN, mlp_ratio=2, patch_size=14, spatial_patch_size=14
        ),
        **_qwen_ids(tokenizer),
    )
    pictures = Qwen2VLImageProcessor(size=QWEN_PIXELS)
    videos = Qwen2VLVideoProcessor(size=QWEN_PIXELS)
    processor = Qwen2VLProcessor(pictures, tokenizer, videos, tokenizer.chat_template)
    save(folder, Qwen2VLForConditionalGeneration(config), processor)


def _qwen2_5_vl(folder: Path, material: Material) -> None:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = tokenizer_of(QWEN_WORDS, material, template_of("qwen2_5_vl"))
    config = built(
        Qwen2_5_VLConfig,
        text_config=language(tokenizer, rope_parameters=QWEN_ROPE),
        vision_config=_qwen_vision(
            hidden_size=32,
            intermediate_size=64,
            out_hidden_size=HIDDEN,
            patch_size=14,
            window_size=56,
            fullatt_block_indexes=[1],
        ),
        **_qwen_ids(tokenizer),
    )
    pictures = Qwen2VLImageProcessor(size=QWEN_PIXELS)
    videos = Qwen2VLVideoProcessor(size=QWEN_PIXELS)
    processor = Qwen2_5_VLProcessor(pictures, tokenizer, videos, tokenizer.chat_template)
    save(folder, Qwen2_5_VLForConditionalGeneration(config), processor)


def _qwen3_vl(folder: Path, material: Material) -> None:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = tokenizer_of(QWEN_WORDS, material, template_of("qwen3_vl"))
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = built(
        Qwen3VLConfig,
        text_config=language(
            tokenizer, head_dim=16, rope_parameters={**rope, "rope_theta": 10000.0}
        ),
        vision_config=_qwen_vision(
            hidden_size=32,
            intermediate_size=64,
            out_hidden_size=HIDDEN,
            patch_size=16,
            num_position_embeddings=64,
            deepstack_visual_indexes=[0],
        ),
        **_qwen_ids(tokenizer),
    )
    sizes = {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}
    pictures = Qwen2VLImageProcessor(size=sizes, patch_size=16)
    videos = Qwen3VLVideoProcessor()
    processor = Qwen3VLProcessor(pictures, tokenizer, videos, tokenizer.chat_template)
    save(folder, Qwen3VLForConditionalGeneration(config), processor)


# Of Idefics3; no ms-swift knows SmolVLM.
IDEFICS3_IDS = {
    "<|begin_of_text|>": 128_000,
    "<|endoftext|>": 128_001,
    "<fake_token_around_image>": 128_256,
    "<image>": 128_257,
    "<end_of_utterance>": 128_258,
}


def _splitting_words(begins: str) -> Words:
    """Idefics3 and SmolVLM say which part of a picture comes next."""
    parts = tuple(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7))
    special = ("<|endoftext|>", begins, "<fake_token_around_image>", "<image>")
    return Words(
        special=(*special, "<end_of_utterance>", "<global-img>", *parts),
        named={
            "bos_token": begins,
            "eos_token": "<end_of_utterance>",
            "pad_token": "<|endoftext|>",
        },
        extra={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        },
        ids=IDEFICS3_IDS,
    )


def _splitting_vision() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "image_size": 32,
        "patch_size": 8,
        "initializer_range": 0.1,
    }


# Pictures of 56 pixels are split in four, and shown whole besides.
SPLITTING: Mapping[str, Any] = {
    "do_image_splitting": True,
    "size": {"longest_edge": 64},
    "max_image_size": {"longest_edge": 32},
}
# (32 / 8) ** 2 patches, of which four make a token.
SPLITTING_TOKENS = 4


def _smolvlm(folder: Path, material: Material) -> None:
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    tokenizer = tokenizer_of(_splitting_words("<|im_start|>"), material, template_of("smolvlm"))
    config = built(
        SmolVLMConfig,
        text_config={"model_type": "llama", **language(tokenizer)},
        vision_config=_splitting_vision(),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    pictures = SmolVLMImageProcessor(**SPLITTING)
    videos = built(
        SmolVLMVideoProcessor, size={"longest_edge": 64}, video_sampling={"max_frames": 4, "fps": 1}
    )
    processor = SmolVLMProcessor(
        pictures, tokenizer, videos, SPLITTING_TOKENS, chat_template=tokenizer.chat_template
    )
    save(folder, SmolVLMForConditionalGeneration(config), processor)


def _idefics3(folder: Path, material: Material) -> None:
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    words = _splitting_words("<|begin_of_text|>")
    tokenizer = tokenizer_of(words, material, template_of("idefics3"))
    config = built(
        Idefics3Config,
        text_config={"model_type": "llama", **language(tokenizer)},
        vision_config=_splitting_vision(),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    pictures = Idefics3ImageProcessor(**SPLITTING)
    processor = Idefics3Processor(
        pictures, tokenizer, SPLITTING_TOKENS, chat_template=tokenizer.chat_template
    )
    save(folder, Idefics3ForConditionalGeneration(config), processor)


GEMMA_WORDS = Words(
    special=(
        *("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        *("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
    ),
    named={
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    },
    extra={
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    },
    spaces=True,
    begins="<bos>",
    ids={
        "<pad>": 0,
        "<eos>": 1,
        "<bos>": 2,
        "<unk>": 3,
        "<start_of_turn>": 105,
        "<end_of_turn>": 106,
        "<start_of_image>": 255_999,
        "<end_of_image>": 256_000,
        "<image_soft_token>": 262_144,
    },
)


def _gemma3(folder: Path, material: Material) -> None:
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
    )

    tokenizer = tokenizer_of(GEMMA_WORDS, material, template_of("gemma3"))
    config = built(
        Gemma3Config,
        text_config=language(tokenizer, head_dim=16, sliding_window=512),
        vision_config={**_splitting_vision(), "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        eos_token_id=[
            tokenizer.eos_token_id,
            tokenizer.convert_tokens_to_ids("<end_of_turn>"),
        ],
    )
    pictures = Gemma3ImageProcessor(size={"height": 32, "width": 32})
    processor = Gemma3Processor(pictures, tokenizer, tokenizer.chat_template, 4)
    save(folder, Gemma3ForConditionalGeneration(config), processor)


LLAVA_WORDS = Words(
    special=("<unk>", "<s>", "</s>", "<image>", "<pad>"),
    named={"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
    extra={"image_token": "<image>"},
    spaces=True,
    begins="<s>",
)


def _llava(folder: Path, material: Material) -> None:
    from transformers import (
        CLIPImageProcessor,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = tokenizer_of(LLAVA_WORDS, material, template_of("llava"))
    config = LlavaConfig(
        text_config={"model_type": "llama", **language(tokenizer)},
        vision_config={"model_type": "clip_vision_model", **_splitting_vision()},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    square = {"height": 32, "width": 32}
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square)
    processor = LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=tokenizer.chat_template,
        num_additional_image_tokens=1,
    )
    save(folder, LlavaForConditionalGeneration(config), processor)


MAKERS: Mapping[str, Callable[[Path, Material], None]] = {
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "smolvlm": _smolvlm,
    "idefics3": _idefics3,
    "gemma3": _gemma3,
    "llava": _llava,
}


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
