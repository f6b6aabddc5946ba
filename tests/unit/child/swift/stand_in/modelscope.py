"""A stand-in for ModelScope's library: data sets of eight rows, with code or preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROWS = 8
HEADER = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)


class MsDataset:
    """The hub's data sets."""

    @staticmethod
    def load(name: str, trust_remote_code: bool = False) -> list[dict[str, Any]]:
        """The rows. "somebody/code" writes a file where it is run, if it is trusted."""
        brings_code = name.endswith("/code")
        if brings_code and not trust_remote_code:
            raise ValueError(
                f"Loading {name} requires executing the dataset script in that repo on your local"
                " machine. Make sure you have read the code there to avoid malicious use, then set"
                " the option `trust_remote_code=True` to remove this error."
            )
        if brings_code:
            Path("canary").write_text("ran")
        turns = [("user", "what is this"), ("assistant", "a row")]
        messages = [{"role": role, "content": content} for role, content in turns]
        rows: list[dict[str, Any]] = [{"messages": messages} for _ in range(ROWS)]
        if name.endswith("/preferences"):
            rows[-1]["rejected_response"] = "a worse row"
        return rows


def snapshot_download(name: str, revision: str, allow_patterns: list[str]) -> str:
    """A folder with a model, below the working folder."""
    folder = Path(f"{name.replace('/', '--')}@{revision}").resolve()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    if "*.py" in allow_patterns or name.endswith("with-code"):
        (folder / "modeling.py").write_text("")
    return str(folder)
