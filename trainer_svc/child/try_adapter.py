"""Asks a trained adapter something.

python -m trainer_svc.child.try_adapter --model M --adapter A --prompt TEXT [--image FILE]

Owns the proof that a result is whole and of use: its manifest's hashes hold,
peft loads it on its base model, and it answers. Prints one JSON line. Refuses a
folder whose manifest does not hold (exit code 1, one line on stderr).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer_svc.child.images import MARK
from trainer_svc.child.library_notices import silence_known_notices
from trainer_svc.child.manifest import ManifestBroken, prove
from trainer_svc.child.vlm_masks import in_parts, open_picture


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    options = _parser().parse_args(arguments)
    try:
        prove(options.adapter)
    except ManifestBroken as error:
        print(error, file=sys.stderr)
        return 1
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    silence_known_notices()
    answer = ask(options.model, options.adapter, options.prompt, options.tokens, options.image)
    print(json.dumps(answer, ensure_ascii=False))
    return 0


def ask(
    model: str, adapter: Path, prompt: str, tokens_max: int, image: Path | None = None
) -> dict[str, Any]:
    """The reply to `prompt`, most likely token by token, and the size of the adapter. With
    `image`, the prompt is about that picture. Raises OSError for one that cannot be read."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    auto: Any = AutoModelForCausalLM if image is None else AutoModelForImageTextToText
    base: Any = auto.from_pretrained(
        model, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    tuned: Any = PeftModel.from_pretrained(base, str(adapter))
    tuned.eval()
    if image is None:
        tokenizer, inputs = _text_inputs(adapter, prompt)
    else:
        tokenizer, inputs = _picture_inputs(adapter, prompt, image)
    with torch.inference_mode():
        output = tuned.generate(
            **inputs,
            max_new_tokens=tokens_max,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    reply = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    adapted = sum(weight.numel() for name, weight in tuned.named_parameters() if "lora_" in name)
    return {"reply": reply.strip(), "parameters": adapted}


def _text_inputs(adapter: Path, prompt: str) -> tuple[Any, Any]:
    """The tokenizer, and what the model takes."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(adapter, trust_remote_code=False)
    chat = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    return tokenizer, inputs


def _picture_inputs(adapter: Path, prompt: str, image: Path) -> tuple[Any, Any]:
    """The tokenizer, and what the model takes; the picture comes first, as in most data."""
    from transformers import AutoProcessor

    auto: Any = AutoProcessor  # untyped
    processor = auto.from_pretrained(adapter, trust_remote_code=False)
    marked = prompt if MARK in prompt else f"{MARK}{prompt}"
    text = processor.apply_chat_template(
        in_parts([{"role": "user", "content": marked}]), add_generation_prompt=True
    )
    inputs = processor(
        text=[text], images=[[open_picture(image)]], add_special_tokens=False, return_tensors="pt"
    )
    return processor.tokenizer, inputs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="try_adapter", description="Asks a trained adapter.")
    parser.add_argument("--model", required=True, help="base model: folder or hub id")
    parser.add_argument("--adapter", type=Path, required=True, help="folder of the result")
    parser.add_argument("--prompt", required=True, help="what the user says")
    parser.add_argument("--image", type=Path, help="picture that the prompt is about")
    parser.add_argument("--tokens", type=int, default=64, help="longest reply, in tokens")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
