"""Tiny models of real families, from transformers' own classes, with random weights.

Call `write_tiny_model` in a process that may import torch (`call_warm`).
"""

import shutil
from pathlib import Path
from typing import Any

# As small as each family allows; 64 is the block of NF4.
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
}
DENSE: dict[str, Any] = {"intermediate_size": 128}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {**DENSE, "head_dim": 16, "tie_word_embeddings": True},
    "llama": DENSE,
    "mistral": {**DENSE, "sliding_window": 32},
    "phi3": {**DENSE, "pad_token_id": 0},
    "gemma2": {**DENSE, "head_dim": 16, "sliding_window": 32, "query_pre_attn_scalar": 16},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "qwen3_moe": {
        **DENSE,
        "head_dim": 16,
        "moe_intermediate_size": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
    },
    "qwen2_moe": {
        **DENSE,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 64,
        "num_experts": 8,
        "num_experts_per_tok": 2,
    },
    "mixtral": {"intermediate_size": 64, "num_local_experts": 4},
    "olmoe": {"intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2},
    "deepseek_v3": {
        **DENSE,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 32,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "q_lora_rank": 32,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
        "first_k_dense_replace": 1,
    },
    "gpt_oss": {
        "intermediate_size": 64,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "head_dim": 16,
    },
    "llama4_text": {
        "intermediate_size": 64,
        "intermediate_size_mlp": 64,
        "num_local_experts": 4,
        "head_dim": 16,
        "moe_layers": [0, 1],
    },
    "phimoe": {"intermediate_size": 64, "num_local_experts": 4},
}
NOT_TAKEN = {
    "gpt2": (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    )
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def values_of(family: str, vocab_size: int, **changes: Any) -> dict[str, Any]:
    """The config of a tiny model of `family`."""
    values = {**SHAPE, "vocab_size": vocab_size, "eos_token_id": 2, "bos_token_id": 1}
    for name in NOT_TAKEN.get(family, ()):
        del values[name]
    return {**values, **FAMILIES[family], **changes}


def write_tiny_model(
    family: str, folder: str, vocab_size: int, tokenizer_of: str = "", **changes: Any
) -> None:
    """Writes a model of `family` to `folder`; its tokenizer is that of another model's folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(7)
    config = AutoConfig.for_model(family, **values_of(family, vocab_size, **changes))
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES if tokenizer_of else ():
        shutil.copyfile(Path(tokenizer_of, name), Path(folder, name))
