"""A tiny vision-language model made by code: LLaVA with a CLIP tower and a Llama.

Owns its files: config, weights, tokenizer, processor and chat template. The
template writes what LLaVA 1.5 was trained on, so that an adapter that another
trainer made with it is asked in the same words. Writes the weights directly,
without torch. Deterministic: the same arguments give the same bytes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer_svc.child.demo_tokenizer import TokenizerShape, write_json, write_tokenizer
from trainer_svc.child.vlm_pictures import IMAGES, PictureDialogue, draw

BEGIN, END, PAD, IMAGE = "<s>", "</s>", "<pad>", "<image>"
MARKED_TEMPLATE = """\
{%- macro text(content) %}
{%- if content is string %}{{- content | replace('<image>', '<image>\\n') }}
{%- else %}
{%- for part in content %}{{- '<image>\\n' if part['type'] == 'image' else part['text'] }}
{%- endfor %}
{%- endif %}
{%- endmacro %}
{{- '<s>' }}
{%- for message in messages %}
{%- if message['role'] == 'system' %}{{- text(message['content']) + '\\n' }}
{%- elif message['role'] == 'assistant' %}
{{- 'ASSISTANT:' }}
{%- generation %}{{- text(message['content']) + '</s>' }}{%- endgeneration %}
{%- else %}{{- 'USER: ' + text(message['content']) + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'ASSISTANT:' }}{%- endif %}"""
PLAIN_TEMPLATE = MARKED_TEMPLATE.replace("{%- generation %}", "").replace(
    "{%- endgeneration %}", ""
)
# Those of CLIP's own training.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class TinyTower:
    """The shape of the vision tower."""

    image_pixels: int = 28
    patch_pixels: int = 7
    hidden_size: int = 64
    intermediate_size: int = 128
    layers: int = 2
    heads: int = 4

    @property
    def patches(self) -> int:
        """Patches of a picture, and so its tokens."""
        return (self.image_pixels // self.patch_pixels) ** 2


@dataclass(frozen=True)
class TinyVlm:
    """The shape of the model, and how it is made."""

    vocab_size: int = 800
    initializer_range: float = 0.15
    hidden_size: int = 128
    intermediate_size: int = 256
    layers: int = 2
    heads: int = 4
    key_value_heads: int = 2
    head_dim: int = 32
    marked: bool = True
    seed: int = 7
    tower: TinyTower = TinyTower()


def write_vlm(folder: Path, texts: Iterator[str], shape: TinyVlm) -> None:
    """Writes a model folder; its tokenizer is trained on `texts`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = TokenizerShape(
        shape.vocab_size,
        (PAD, BEGIN, END, IMAGE),
        {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD},
        MARKED_TEMPLATE if shape.marked else PLAIN_TEMPLATE,
    )
    ids = write_tokenizer(folder, texts, tokenizer)
    write_json(folder / "config.json", _config(shape, ids))
    generation = {"bos_token_id": ids[BEGIN], "eos_token_id": ids[END], "pad_token_id": ids[PAD]}
    write_json(folder / "generation_config.json", generation)
    _write_processor(folder, shape.tower)
    _write_weights(folder / "model.safetensors", shape)


def write_pictures(folder: Path, name: str, dialogues: Sequence[PictureDialogue]) -> None:
    """Writes `folder`/`name`, JSON Lines of messages and images, and the pictures in it."""
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    for picture in dict.fromkeys(one for dialogue in dialogues for one in dialogue.pictures):
        draw(picture, folder / picture.path)
    lines = (json.dumps(dialogue.row(), ensure_ascii=False) for dialogue in dialogues)
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _config(shape: TinyVlm, ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": ids[IMAGE],
        "image_seq_length": shape.tower.patches,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": True,
        "dtype": "float32",
        "text_config": {
            "model_type": "llama",
            "vocab_size": shape.vocab_size,
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.key_value_heads,
            "head_dim": shape.head_dim,
            "initializer_range": shape.initializer_range,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "bos_token_id": ids[BEGIN],
            "eos_token_id": ids[END],
            "pad_token_id": ids[PAD],
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": shape.tower.hidden_size,
            "intermediate_size": shape.tower.intermediate_size,
            "num_hidden_layers": shape.tower.layers,
            "num_attention_heads": shape.tower.heads,
            "image_size": shape.tower.image_pixels,
            "patch_size": shape.tower.patch_pixels,
            "projection_dim": shape.tower.hidden_size,
            "initializer_range": shape.initializer_range,
        },
    }


def _write_processor(folder: Path, tower: TinyTower) -> None:
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": tower.patch_pixels,
        "vision_feature_select_strategy": "default",
        "image_token": IMAGE,
        "num_additional_image_tokens": 1,
    }
    write_json(folder / "processor_config.json", processor)
    side = tower.image_pixels
    pictures = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(PIXEL_MEAN),
        "image_std": list(PIXEL_STD),
    }
    write_json(folder / "preprocessor_config.json", pictures)


def _write_weights(path: Path, shape: TinyVlm) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    random = np.random.default_rng(shape.seed)
    weights: dict[str, Any] = {}
    for name, dimensions in _weight_shapes(shape):
        if name.endswith(".bias"):
            weights[name] = np.zeros(dimensions, dtype=np.float32)
        elif len(dimensions) == 1 and "norm" in name:
            weights[name] = np.ones(dimensions, dtype=np.float32)
        else:
            drawn = random.standard_normal(dimensions, dtype=np.float32)
            weights[name] = drawn * np.float32(shape.initializer_range)
    save_file(weights, path, metadata={"format": "pt"})


def _weight_shapes(shape: TinyVlm) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _tower_shapes(shape.tower)
    yield from _linear("multi_modal_projector.linear_1", shape.tower.hidden_size, shape.hidden_size)
    yield from _linear("multi_modal_projector.linear_2", shape.hidden_size, shape.hidden_size)
    yield from _language_shapes(shape)


def _tower_shapes(tower: TinyTower) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner, side = tower.hidden_size, tower.intermediate_size, tower.patch_pixels
    yield "vision_tower.embeddings.class_embedding", (hidden,)
    yield "vision_tower.embeddings.patch_embedding.weight", (hidden, 3, side, side)
    yield "vision_tower.embeddings.position_embedding.weight", (tower.patches + 1, hidden)
    yield from _norm("vision_tower.pre_layrnorm", hidden)  # spelt so in CLIP
    for layer in range(tower.layers):
        prefix = f"vision_tower.encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{prefix}.self_attn.{name}", hidden, hidden)
        yield from _norm(f"{prefix}.layer_norm1", hidden)
        yield from _linear(f"{prefix}.mlp.fc1", hidden, inner)
        yield from _linear(f"{prefix}.mlp.fc2", inner, hidden)
        yield from _norm(f"{prefix}.layer_norm2", hidden)
    yield from _norm("vision_tower.post_layernorm", hidden)


def _language_shapes(shape: TinyVlm) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = shape.hidden_size, shape.intermediate_size
    query, key = shape.heads * shape.head_dim, shape.key_value_heads * shape.head_dim
    yield "language_model.model.embed_tokens.weight", (shape.vocab_size, hidden)
    for layer in range(shape.layers):
        prefix = f"language_model.model.layers.{layer}"
        yield f"{prefix}.self_attn.q_proj.weight", (query, hidden)
        yield f"{prefix}.self_attn.k_proj.weight", (key, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", (key, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, query)
        yield f"{prefix}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, inner)
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
    yield "language_model.model.norm.weight", (hidden,)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)
