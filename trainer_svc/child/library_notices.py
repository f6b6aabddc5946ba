"""Notices of libraries that look like faults of a job, and are none.

Owns the list of what is kept out of a job's log: each exactly, by its source
and its words, with the reason. Everything else that a library says is shown.
"""

import logging
import warnings

# bitsandbytes, on a CPU with AVX-512 BF16: it would fetch a faster kernel from a hub with a
# package that is not installed here, because no code is taken from a hub. It then uses its own.
_KERNEL_LOGGER = "bitsandbytes.backends.cpu.ops"
_KERNEL_NOTICE = "Failed to load CPU gemm_4bit_forward from kernels-community"

# transformers, of a property's old name that TRL and PEFT still read. Nothing here can change
# that, and the pinned versions agree with each other.
_CHECKPOINTING_NOTICE = "`is_gradient_checkpointing` is deprecated"


def silence_known_notices() -> None:
    """Keeps them out of this process's output. Before the libraries are imported."""
    logging.getLogger(_KERNEL_LOGGER).addFilter(_is_not_the_kernel_notice)
    warnings.filterwarnings(
        "ignore",
        message=_CHECKPOINTING_NOTICE,
        category=FutureWarning,
        module=r"transformers\.modeling_utils",
    )


def _is_not_the_kernel_notice(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_KERNEL_NOTICE)
