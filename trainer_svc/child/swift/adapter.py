"""Whether the weights of an adapter are numbers.

Reads safetensors by its own few rules (8 bytes of length, a JSON header, the
data), because a bfloat16 has no counterpart in numpy. Refuses NaN and infinity
(RunFailed, DIVERGED).
"""

import json
from pathlib import Path
from typing import Any

from trainer_svc.child.swift.metrics_log import diverged

# Type in the header: numpy's type of the bits, and those of the exponent. All set: no number.
EXPONENTS = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}


def require_finite(adapter: Path, step: int) -> None:
    """Raises RunFailed if a weight is NaN or infinite, OSError and ValueError for a file that
    is none."""
    import numpy as np

    data = np.memmap(adapter, dtype=np.uint8, mode="r")
    length = int.from_bytes(bytes(data[:8]), "little")
    header: dict[str, Any] = json.loads(bytes(data[8 : 8 + length]))
    for name, tensor in header.items():
        kind = EXPONENTS.get(tensor.get("dtype", ""))
        if kind is None:
            continue
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        bits = np.frombuffer(data[begin:end], dtype=kind[0])
        if bool(((bits & kind[1]) == kind[1]).any()):
            raise diverged(step, f"a weight of {name} is NaN or infinite")
