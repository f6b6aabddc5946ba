"""The environment variables that programs of ms-swift's environment get.

Owns them: what is ours stays out, but for the startup folder, and what would
change what ms-swift makes of its arguments. The hubs are closed where downloads
are not allowed, git is unless the model may bring code, and what a run makes for
itself lies in its own cache.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from trainer_svc.child import startup
from trainer_svc.child.run_spec import RunSpec

# They would make another Python look for its libraries among ours.
_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
# What its Python does first, in every process of it (startup/sitecustomize.py).
STARTUP = Path(startup.__path__[0])
# They would make several processes, or another world, of a run.
_OF_A_CLUSTER = (
    *("NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "PAI_TRAINING_JOB_ID"),
)
# They would go over what the job says of its pictures.
_OF_PICTURES = ("MAX_PIXELS", "ROOT_IMAGE_DIR")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN")
# ModelScope's library has no switch for working offline; nobody listens here.
_NOWHERE = "127.0.0.1:1"


def devices(run: RunSpec) -> int:
    """How many processes train, one for each GPU that the run was given."""
    if run.use_cpu:
        return 1
    return max(1, len([one for one in _visible_gpus().split(",") if one]))


def training_environment(run: RunSpec, cache: Path, uses_hub: bool) -> dict[str, str]:
    """For `swift` itself. `cache` is the run's own; with `uses_hub` it still downloads."""
    environment = _common(run, cache, uses_hub)
    if devices(run) > 1:
        environment["NPROC_PER_NODE"] = str(devices(run))
        # The launcher's own default would be the same for every run on this host.
        environment["MASTER_PORT"] = str(_free_port())
    return environment


def looking_environment(run: RunSpec, cache: Path, uses_hub: bool) -> dict[str, str]:
    """For what only looks at rows and files: without GPUs, and with few words."""
    quiet = {"CUDA_VISIBLE_DEVICES": "", "LOG_LEVEL": "WARNING", "OMP_NUM_THREADS": "1"}
    return {**_common(run, cache, uses_hub), **quiet}


def _common(run: RunSpec, cache: Path, uses_hub: bool) -> dict[str, str]:
    inherited: Mapping[str, str] = os.environ
    left_out = {*_OURS, *_OF_A_CLUSTER, *_OF_PICTURES, *(() if uses_hub else _TOKENS)}
    environment = {name: value for name, value in inherited.items() if name not in left_out}
    environment |= {
        "PYTHONPATH": str(STARTUP),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "LOG_LEVEL": "INFO",  # its output tells how far a run is
        "USE_HF": "1" if run.spec.swift.use_hf else "0",
    }
    if not run.allow_hub:
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        environment |= {"MODELSCOPE_DOMAIN": _NOWHERE, "MODELSCOPE_ENDPOINT": f"http://{_NOWHERE}"}
    if not run.trust_remote_code:
        # For some types of models ms-swift clones code from the internet, and imports it.
        environment["GIT_ALLOW_PROTOCOL"] = "file"
    if not uses_hub:
        # ms-swift keeps its copies of data sets there, and never removes one.
        environment["MODELSCOPE_CACHE"] = str(cache / "modelscope")
    return environment


def _visible_gpus() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
