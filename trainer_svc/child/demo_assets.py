"""Makes a tiny model and a small data set: python -m trainer_svc.child.demo_assets --out DIR

Owns what demo and tests train with, so that nothing is downloaded: a Qwen3 of
two layers with random weights, a byte-level BPE tokenizer trained on the
data, a chat template; or, with --kind vlm, a LLaVA of that size (vlm_assets.py)
and pictures. Writes the files directly, without torch, in a second.
Deterministic: the same arguments give the same bytes.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer_svc.child import vlm_assets, vlm_pictures
from trainer_svc.child.data_rows import Asked, read_rows
from trainer_svc.child.demo_dialogues import Chat, split
from trainer_svc.child.demo_tokenizer import TokenizerShape, write_json, write_tokenizer
from trainer_svc.child.dialogue import Unusable
from trainer_svc.child.rows.layout import Layout, find_layout
from trainer_svc.child.rows.reading import to_dialogue

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MARKED_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}
{%- else %}{{- message['content'] + '<|im_end|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
PLAIN_TEMPLATE = MARKED_TEMPLATE.replace("{%- generation %}", "").replace(
    "{%- endgeneration %}", ""
)


@dataclass(frozen=True)
class TinyModel:
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


def write_model(folder: Path, texts: Iterator[str], shape: TinyModel) -> None:
    """Writes a model folder; its tokenizer is trained on `texts`."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = write_tokenizer(folder, texts, _tokenizer_shape(shape))
    write_json(folder / "config.json", _config(shape, ids))
    generation = {
        "eos_token_id": [ids[TURN_END], ids[END_OF_TEXT]],
        "pad_token_id": ids[END_OF_TEXT],
    }
    write_json(folder / "generation_config.json", generation)
    _write_weights(folder / "model.safetensors", shape)


def write_dialogues(path: Path, chats: Sequence[Chat]) -> None:
    """Writes JSON Lines of {"messages": [...]}."""
    lines = (json.dumps({"messages": chat}, ensure_ascii=False) for chat in chats)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _tokenizer_shape(shape: TinyModel) -> TokenizerShape:
    return TokenizerShape(
        shape.vocab_size,
        (END_OF_TEXT, TURN_START, TURN_END),
        {"eos_token": TURN_END, "pad_token": END_OF_TEXT},
        MARKED_TEMPLATE if shape.marked else PLAIN_TEMPLATE,
    )


def _config(shape: TinyModel, ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
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
        "eos_token_id": ids[TURN_END],
        "pad_token_id": ids[END_OF_TEXT],
        "dtype": "float32",
    }


def _write_weights(path: Path, shape: TinyModel) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    random = np.random.default_rng(shape.seed)
    weights: dict[str, Any] = {}
    for name, dimensions in _weight_shapes(shape):
        if len(dimensions) == 1:  # a norm
            weights[name] = np.ones(dimensions, dtype=np.float32)
        else:
            drawn = random.standard_normal(dimensions, dtype=np.float32)
            weights[name] = drawn * np.float32(shape.initializer_range)
    save_file(weights, path, metadata={"format": "pt"})


def _weight_shapes(shape: TinyModel) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = shape.hidden_size, shape.intermediate_size
    query, key = shape.heads * shape.head_dim, shape.key_value_heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.vocab_size, hidden)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.self_attn.q_proj.weight", (query, hidden)
        yield f"{prefix}.self_attn.k_proj.weight", (key, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", (key, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, query)
        yield f"{prefix}.self_attn.q_norm.weight", (shape.head_dim,)
        yield f"{prefix}.self_attn.k_norm.weight", (shape.head_dim,)
        yield f"{prefix}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, inner)
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)


def _texts_of(path: Path) -> Iterator[str]:
    layout: Layout | None = None
    for row in read_rows(path, Asked()):
        layout = layout or find_layout(row.value, None, {})
        dialogue = to_dialogue(layout.standard(row.value), layout.row_format, "")
        if not isinstance(dialogue, Unusable):
            yield from (message.content for message in dialogue)


def main(arguments: Sequence[str]) -> int:
    """Writes DIR/model, DIR/train.jsonl and DIR/eval.jsonl; prints their paths as JSON."""
    options = _parser().parse_args(arguments)
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if options.kind == "vlm":
        _write_vlm_demo(out, options)
    else:
        _write_llm_demo(out, options)
    paths = {"model": "model", "train": "train.jsonl", "eval": "eval.jsonl"}
    print(json.dumps({name: str(out / path) for name, path in paths.items()}))
    return 0


def _write_llm_demo(out: Path, options: argparse.Namespace) -> None:
    train, held_out = split(options.dialogues)
    shape = TinyModel(
        vocab_size=options.vocab_size,
        initializer_range=options.initializer_range,
        marked=not options.no_generation_marks,
    )
    write_dialogues(out / "train.jsonl", train)
    write_dialogues(out / "eval.jsonl", held_out)
    write_model(out / "model", _texts_of(options.tokenizer_from or out / "train.jsonl"), shape)


def _write_vlm_demo(out: Path, options: argparse.Namespace) -> None:
    train, held_out = vlm_pictures.split(options.dialogues)
    shape = vlm_assets.TinyVlm(
        vocab_size=options.vocab_size,
        initializer_range=options.initializer_range,
        marked=not options.no_generation_marks,
    )
    vlm_assets.write_pictures(out, "train.jsonl", train)
    vlm_assets.write_pictures(out, "eval.jsonl", held_out)
    texts = _texts_of(options.tokenizer_from or out / "train.jsonl")
    vlm_assets.write_vlm(out / "model", texts, shape)


def _parser() -> argparse.ArgumentParser:
    default = TinyModel()
    parser = argparse.ArgumentParser(prog="demo_assets", description="Makes a tiny model and data.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--kind", choices=("llm", "vlm"), default="llm", help="kind of model")
    parser.add_argument("--dialogues", type=int, default=400, help="how many to learn from")
    parser.add_argument("--tokenizer-from", type=Path, help="data file to train the tokenizer on")
    parser.add_argument("--vocab-size", type=int, default=default.vocab_size)
    parser.add_argument("--initializer-range", type=float, default=default.initializer_range)
    parser.add_argument("--no-generation-marks", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
