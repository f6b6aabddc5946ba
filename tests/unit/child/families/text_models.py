"""Tiny models of the families of texts.py, made by code from the real classes, with the real
vocabularies. Only to be called where the training libraries may be imported."""

from typing import Any

from tests.real_tokenizers.loading import package_tokenizer, small_tokenizer, template
from tests.unit.child.families.texts import BY_NAME, SmallTokenizer, TextFamily

HIDDEN = 16
SIZES: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
# What the families' configurations need besides the sizes.
MORE: dict[str, dict[str, Any]] = {
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3_text": {"query_pre_attn_scalar": 8},
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1},
    "deepseek_v3": {
        "num_key_value_heads": 2, "head_dim": 4, "q_lora_rank": 8, "kv_lora_rank": 8,
        "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 4,
        "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    },
    "glm4_moe": {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    },
    "phi3": {"original_max_position_embeddings": 512},
}  # fmt: skip
# Tokens of the chat version, where the package has the base model's tokenizer.
ADDED = {"yi": ["<|im_start|>", "<|im_end|>"]}


def tokenizer_of(family: TextFamily) -> Any:
    """The family's tokenizer with its chat template."""
    if isinstance(family.tokenizer, SmallTokenizer):
        small = family.tokenizer
        tokenizer = small_tokenizer(small.special, small.bos, small.eos)
    else:
        tokenizer = package_tokenizer(family.tokenizer)
        if family.name in ADDED:
            tokenizer.add_special_tokens({"extra_special_tokens": ADDED[family.name]})
    tokenizer.chat_template = template(family.template) or tokenizer.chat_template
    return tokenizer


def write_family(name: str, folder: str) -> None:
    """Writes a tiny model of that family, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    family = BY_NAME[name]
    tokenizer = tokenizer_of(family)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    torch.manual_seed(7)
    config = AutoConfig.for_model(
        family.architecture,
        **{**SIZES, **MORE.get(family.architecture, {})},
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    auto: Any = AutoModelForCausalLM
    auto.from_config(config).save_pretrained(folder)
    tokenizer.init_kwargs.pop("auto_map", None)  # code of its own, which the tests do without
    tokenizer.save_pretrained(folder)
