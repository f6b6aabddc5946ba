"""What libraries say: two known notices are kept out of a job's log, and nothing else is."""

from __future__ import annotations

import subprocess
import sys

SILENCE = """
import sys, warnings
from trainer_svc.child.library_notices import silence_known_notices
silence_known_notices()
"""


def stderr_of(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_libraries_own_notices_are_not_printed_once_they_are_silenced() -> None:
    said = stderr_of(
        SILENCE
        + """
import bitsandbytes
from transformers import PretrainedConfig, PreTrainedModel
class Plain(PreTrainedModel):
    config_class = PretrainedConfig
model = Plain(PretrainedConfig())
warnings.simplefilter("always")  # goes before the filter
model.is_gradient_checkpointing
print("---", file=sys.stderr)
silence_known_notices()
model.is_gradient_checkpointing
"""
    )
    before, _, after = said.partition("---")

    # When this fails, an entry of the list is no longer needed.
    assert "`is_gradient_checkpointing` is deprecated" in before
    assert "gemm_4bit_forward" not in said
    assert "is_gradient_checkpointing" not in after


def test_everything_else_is_printed() -> None:
    said = stderr_of(
        SILENCE
        + """
import logging
log = logging.getLogger("bitsandbytes.backends.cpu.ops")
log.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "x")
log.warning("Failed to load something else")
warnings.warn("`is_gradient_checkpointing` is deprecated, says another module", FutureWarning)
warnings.warn("old", FutureWarning)
"""
    )

    assert "kernels-community" not in said
    assert "Failed to load something else" in said
    assert "says another module" in said
    assert "FutureWarning: old" in said
