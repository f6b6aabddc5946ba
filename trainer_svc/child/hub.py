"""Downloads from a hub, through the Hugging Face libraries.

Owns the pinning: a name and revision become one commit before anything is
downloaded, so that model and tokenizer, and a later look at the record, mean
the same files. HF_ENDPOINT and HF_HOME are the libraries' own. Refuses what
the hub does not have (RunFailed).
"""

from collections.abc import Iterator
from pathlib import Path

from trainer_svc.child.data_rows import RawRow
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.locations import HubId

# Weights in pickles are never loaded, so they need not come.
MODEL_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors"]


def download_model(hub_id: HubId) -> tuple[Path, str]:
    """The folder of a model, and the commit it is. Raises RunFailed."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        commit = HfApi().model_info(hub_id.name, revision=hub_id.revision or None).sha
        folder = snapshot_download(hub_id.name, revision=commit, allow_patterns=MODEL_FILES)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a full disk and the like is no fault of the model's
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"model {hub_id.name} cannot be had from the hub: {error}",
            "Check the name and revision, the trainer's network, and HF_TOKEN for a gated model.",
        ) from error
    return Path(folder), str(commit)


def download_rows(hub_id: HubId, split: str, cache: Path) -> tuple[Iterator[RawRow], str]:
    """The rows of a data set, memory-mapped, and the commit it is. Raises RunFailed."""
    from datasets import load_dataset  # type: ignore[import-untyped]  # no stubs
    from huggingface_hub import HfApi

    try:
        commit = str(HfApi().dataset_info(hub_id.name).sha)
        rows = load_dataset(hub_id.name, split=split, revision=commit, cache_dir=str(cache))
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RunFailed(
            Cause.DATASET_INVALID,
            f"data set {hub_id.name} cannot be had from the hub: {error}",
            "Check the name and the split, the trainer's network, and HF_TOKEN for a gated set.",
        ) from error
    numbered = enumerate(rows, start=1)
    return (RawRow(row, number) for number, row in numbered), commit
