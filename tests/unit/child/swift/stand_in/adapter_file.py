"""An adapter of one weight."""

import json
import struct


def adapter(weight: float) -> bytes:
    """A safetensors file with one weight."""
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"lora_A.weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<f", weight)
