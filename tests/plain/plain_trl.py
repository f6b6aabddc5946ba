"""A plain script with TRL's SFTTrainer, as anybody would write it. It shares no code with the
project, so that what the project trains can be held against it.

    python plain_trl.py FOLDER DATA [DATA ...]

makes a tiny model of each family in FOLDER, trains each on each DATA, and prints the loss of each
step as JSON. DATA is JSON Lines of {"messages": [...]}. An assistant's message with "weight": 0
is read and carries no loss. Which tokens carry loss is worked out here from the family's layout,
written a second time in Python, beside the template in Jinja that the tokenizer has.
"""

# ruff: noqa: E402 # what libraries read when they are imported is set before
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Nothing here has pictures, and a wheel of torchvision for CUDA cannot be imported without it.
sys.modules["torchvision"] = None  # type: ignore[assignment]

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
    set_seed,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

SEED, STEPS = 42, 15
QWEN = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
LLAMA = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""
MISTRAL = """\
{{- bos_token }}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- if message['role'] == 'user' %}{{- '[INST] ' + message['content'] + '[/INST]' }}
{%- else %}{{- ' ' + message['content'] + eos_token }}
{%- endif %}
{%- endfor %}"""
PHI = """\
{%- for message in messages %}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- else %}{{- eos_token }}{%- endif %}"""

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
}
# Model type, template, special tokens (the first two begin and end a text), more of the config.
FAMILIES = {
    "qwen": ("qwen3", QWEN, ["<|endoftext|>", "<|im_end|>", "<|im_start|>"], {"head_dim": 16}),
    "llama": (
        "llama",
        LLAMA,
        ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        {},
    ),
    "mistral": ("mistral", MISTRAL, ["<s>", "</s>", "[INST]", "[/INST]"], {"sliding_window": 32}),
    "phi": (
        "phi3",
        PHI,
        ["<s>", "<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"],
        {"pad_token_id": 0},
    ),
}


def pieces(family, messages):
    """The text of a dialogue in pieces, and whether each carries loss."""
    if family in ("llama", "mistral"):
        yield FAMILIES[family][2][0], False
    for message in messages:
        role, content = message["role"], message["content"]
        learnt = role == "assistant" and message.get("weight", 1) != 0
        if family == "qwen":
            yield f"<|im_start|>{role}\n", False
            yield f"{content}<|im_end|>", learnt
            yield "\n", False
        elif family == "llama":
            yield f"<|start_header_id|>{role}<|end_header_id|>\n\n", False
            yield f"{content.strip()}<|eot_id|>", learnt
        elif family == "mistral" and role == "user":
            yield f"[INST] {content}[/INST]", False
        elif family == "mistral":
            yield " ", False
            yield f"{content}</s>", learnt
        else:
            yield f"<|{role}|>\n", False
            yield f"{content}<|end|>", learnt
            yield "\n", False
    if family == "phi":
        yield "<|endoftext|>", False


def encode(family, tokenizer, messages):
    """Token ids, and labels: -100 where there is no loss."""
    text, spans = "", []
    for piece, learnt in pieces(family, messages):
        if learnt:
            spans.append((len(text), len(text) + len(piece)))
        text += piece
    bare = [{"role": one["role"], "content": one["content"]} for one in messages]
    rendered = tokenizer.apply_chat_template(bare, tokenize=False)
    assert rendered == text, (rendered, text)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    labels = [
        token if any(start < stop and end > begin for begin, stop in spans) else -100
        for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
    return {"input_ids": encoded["input_ids"], "labels": labels}


def read(path):
    return [json.loads(line)["messages"] for line in Path(path).read_text().splitlines()]


def make(family, folder, data):
    model_type, template, special, more = FAMILIES[family]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [message["content"] for messages in read(data) for message in messages]
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token=special[1],
        pad_token=special[0],
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        model_type, **{**SHAPE, "vocab_size": len(fast), "tie_word_embeddings": False, **more}
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def train(family, folder, data):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [encode(family, tokenizer, messages) for messages in read(data)]
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantisation, dtype=torch.float32, device_map={"": "cpu"}
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=8,
        lora_alpha=16,
        lora_dropout=0.05,
        target_modules="all-linear",
    )
    set_seed(SEED)
    adapted = get_peft_model(model, lora)
    trainer = SFTTrainer(
        model=adapted,
        args=SFTConfig(
            output_dir=f"{folder}-plain",
            max_steps=STEPS,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=5e-3,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            max_length=256,
            logging_steps=1,
            save_strategy="no",
            seed=SEED,
            data_seed=SEED,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    learnt = sum(label != -100 for row in rows for label in row["labels"][1:])
    return {"losses": losses, "learnt": learnt}


def main(folder, *data):
    trained = {}
    for family in FAMILIES:
        make(family, f"{folder}/{family}", data[0])
        trained[family] = [train(family, f"{folder}/{family}", one) for one in data]
    print(json.dumps(trained))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
