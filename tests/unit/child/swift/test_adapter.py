"""Weights that are no numbers."""

import json
import struct
from pathlib import Path

import pytest

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.swift.adapter import require_finite

# One, NaN and infinity in each type.
BITS = {
    "F32": ("<I", 0x3F80_0000, 0x7FC0_0000, 0xFF80_0000),
    "F16": ("<H", 0x3C00, 0x7E00, 0xFC00),
    "BF16": ("<H", 0x3F80, 0x7FC0, 0xFF80),
    "F64": ("<Q", 0x3FF0_0000_0000_0000, 0x7FF8_0000_0000_0000, 0xFFF0_0000_0000_0000),
}


def write(path: Path, dtype: str, values: list[int]) -> Path:
    form = BITS[dtype][0]
    data = b"".join(struct.pack(form, value) for value in values)
    tensor = {"dtype": dtype, "shape": [len(values)], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "lora_A.weight": tensor}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize("dtype", BITS)
def test_numbers_are_let_through(tmp_path: Path, dtype: str) -> None:
    one = BITS[dtype][1]

    require_finite(write(tmp_path / "adapter.safetensors", dtype, [one, 0, one]), step=3)


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("which", [2, 3])
def test_nan_and_infinity_are_refused(tmp_path: Path, dtype: str, which: int) -> None:
    file = write(tmp_path / "a.safetensors", dtype, [BITS[dtype][1], int(BITS[dtype][which])])

    with pytest.raises(RunFailed, match=r"step 3: a weight of lora_A\.weight") as caught:
        require_finite(file, step=3)

    assert caught.value.cause is Cause.DIVERGED


def test_what_a_library_writes_can_be_read(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    file = tmp_path / "adapter.safetensors"
    save_file({"a": np.ones((3, 5), np.float32), "b": np.zeros(7, np.float16)}, file)

    require_finite(file, step=1)
