"""Models and data sets from a hub, through the Hugging Face libraries.

Owns which files are needed, and that a name means one commit from the first
request on: it is pinned before anything is downloaded (pins.py), so that model
and tokenizer, every attempt, and a later look at the record mean the same files.
What is in this host's cache already is not downloaded again. HF_ENDPOINT, HF_HOME
and HF_TOKEN are the libraries' own. Refuses what the hub does not have, what may
not be read, and models without safetensors (RunFailed). Drawn in docs/hubs.md.
"""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from trainer_svc.child.asked import Asked
from trainer_svc.child.data_rows import RawRow
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.hub_faults import bound_requests, endpoint, patiently
from trainer_svc.child.hub_transfer import HubFile, Transfer, by_path, cached_path, list_files
from trainer_svc.child.locations import HubId
from trainer_svc.child.pins import Pins, Repository, RepositoryKind
from trainer_svc.child.rows.layout import columns_read, header_fault
from trainer_svc.child.spool import Spool
from trainer_svc.child.tables import BATCH_ROWS_MAX, batch_values

# Weights in pickles are never loaded, so they need not come.
MODEL_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.safetensors")
WEIGHTS = "*.safetensors"
LOADABLE: Mapping[str, str] = {
    "config.json": "config.json",
    "safetensors weights": WEIGHTS,
}
# Loaders look at the top, and here; other folders hold the same weights for other runtimes.
TEMPLATE_FOLDER = "additional_chat_templates/"
CODE_FILES = "*.py"
# Some repositories hold the same weights a second time, for another loader.
SHARDS, OTHER_SHARDS = "model*.safetensors", "consolidated*.safetensors"

# Where the configurations of a data set are written.
CARD, STANDALONE = "README.md", ".huggingface.yaml"
ROW_BUILDERS = frozenset({"arrow", "csv", "json", "parquet", "text"})
# What the contract calls "valid", the libraries make "validation" of.
SPLIT_SYNONYMS: Mapping[str, str] = {"valid": "validation"}
COMMIT = re.compile(r"[0-9a-f]{40}")
# Values in a card, those that aliases stand for counted each time: a few lines of YAML can
# stand for gigabytes.
CARD_VALUES_MAX = 1_000_000


def download_model(
    hub_id: HubId, pins: Pins, spool: Spool, with_code: bool = False, weights: bool = True
) -> tuple[Path, str]:
    """The folder of a model, and the commit it is. Raises RunFailed.

    `with_code` also brings the Python files that some models need; whether they may run
    is the caller's to decide. Without `weights` they stay on the hub.
    """
    bound_requests()
    model = Repository(RepositoryKind.MODEL, hub_id.name, hub_id.revision)
    commit = _pin(model, pins, spool)
    folder = _cached_model(model, commit, with_code, weights)
    if folder is not None:
        text = f"{model.words} is in this host's cache"
        spool.event("MODEL_CACHED", text, name=model.key, revision=commit)
        return folder, commit
    listed = by_path(patiently(model, spool, lambda: list_files(model, commit)))
    needed = needed_files(list(listed), with_code)
    _require_loadable(model, needed)
    needed = _wanted(needed, weights)
    _bring(model, commit, [listed[path] for path in needed], spool, "MODEL_DOWNLOADING")
    return patiently(model, spool, lambda: _snapshot(model, commit, needed)), commit


def download_rows(
    hub_id: HubId, asked: Asked, cache: Path, pins: Pins, spool: Spool
) -> tuple[Iterator[RawRow], str]:
    """The rows of a data set, memory-mapped, and the commit it is. Raises RunFailed.

    What is asked for is a part, or "configuration/part" of one that has several; `cache` is a
    folder for the run's own copy in Arrow.
    """
    bound_requests()
    split = asked.part
    dataset = Repository(RepositoryKind.DATASET, hub_id.name, hub_id.revision)
    commit = _pin(dataset, pins, spool)
    configuration, _, part = split.rpartition("/")
    own = cache / dataset.name.replace("/", "--") / split.replace("/", "--")
    builder = patiently(dataset, spool, lambda: _builder(dataset, commit, configuration, own))
    part = _existing_part(dataset, builder, part)
    paths = _paths_of(dataset, commit, builder.config.data_files[part])
    listed = by_path(patiently(dataset, spool, lambda: list_files(dataset, commit)))
    _bring(dataset, commit, [listed[path] for path in paths], spool, "DATA_DOWNLOADING")
    rows = patiently(dataset, spool, lambda: _load(builder, part))
    known, unread = _with_known_columns(dataset, rows, asked)
    return _raw_rows(known, unread, part, builder.name == "text"), commit


def needed_files(paths: Sequence[str], with_code: bool = False) -> list[str]:
    """Those of a model's files that training reads."""
    top = [path for path in paths if "/" not in path or path.startswith(TEMPLATE_FOLDER)]
    needed = [path for path in top if any(fnmatch(path, one) for one in MODEL_FILES)]
    if any(fnmatch(path, SHARDS) for path in needed):
        needed = [path for path in needed if not fnmatch(path, OTHER_SHARDS)]
    if with_code:
        needed += [path for path in paths if fnmatch(path, CODE_FILES)]
    return sorted(needed)


def _wanted(needed: Sequence[str], weights: bool) -> list[str]:
    return [path for path in needed if weights or not fnmatch(path, WEIGHTS)]


def _pin(repository: Repository, pins: Pins, spool: Spool) -> str:
    commit = pins.every().get(repository.key)
    if commit is None:
        found = patiently(repository, spool, lambda: _resolve(repository))
        commit = pins.put(repository, found)
    text = f"{repository.words} is used at commit {commit}"
    spool.event("HUB_PINNED", text, name=repository.key, revision=commit)
    return commit


def _resolve(repository: Repository) -> str:
    from huggingface_hub import HfApi

    if COMMIT.fullmatch(repository.revision):
        return repository.revision
    info = HfApi().repo_info(
        repository.name, repo_type=repository.kind.value, revision=repository.revision or None
    )
    if isinstance(info.sha, str) and COMMIT.fullmatch(info.sha):
        return info.sha
    raise RunFailed(
        Cause.ENVIRONMENT_INVALID,
        f"the hub ({endpoint()}) names no commit of {repository.words}",
        "Use a hub that does (HF_ENDPOINT), or give the commit as the revision.",
    )


def _cached_model(model: Repository, commit: str, with_code: bool, weights: bool) -> Path | None:
    """Its folder if all of it is in the cache, as far as a listing there can tell."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        tree = get_cached_repo_tree(model.name, revision=commit)
    except CachedRepoTreeNotFoundError:
        return None
    needed = _wanted(needed_files([entry.path for entry in tree], with_code), weights)
    found = [cached_path(model, commit, path) for path in needed]
    config = cached_path(model, commit, "config.json")
    return config.parent if config is not None and None not in found else None


def _require_loadable(model: Repository, needed: Sequence[str]) -> None:
    for what, pattern in LOADABLE.items():
        if not any(fnmatch(path, pattern) for path in needed):
            raise RunFailed(
                Cause.MODEL_INVALID,
                f"{model.words} has no {what} on the hub",
                "Use a model with config.json and weights in safetensors; pickles are not loaded.",
            )


def _bring(
    repository: Repository, commit: str, files: Sequence[HubFile], spool: Spool, event: str
) -> None:
    transfer = Transfer(repository, commit, files, spool)
    if transfer.is_done:
        return
    transfer.require_space()
    spool.event(
        event,
        f"downloading {repository.words}: {transfer.bytes_total:,} bytes",
        name=repository.key,
        revision=commit,
    )
    patiently(repository, spool, transfer.run, lambda: transfer.bytes_done)


def _snapshot(model: Repository, commit: str, paths: Sequence[str]) -> Path:
    """Its folder. The files are there; the library notes its listing, for the next job."""
    from huggingface_hub import snapshot_download

    exactly = [glob.escape(path) for path in paths]
    return Path(snapshot_download(model.name, revision=commit, allow_patterns=exactly))


def _builder(dataset: Repository, commit: str, configuration: str, cache: Path) -> Any:
    from datasets import load_dataset_builder  # type: ignore[import-untyped]  # no stubs

    # Before the library looks at it: it would ask other servers, of this network too.
    _require_own_files(dataset, _named_files(dataset, commit))
    builder = load_dataset_builder(
        dataset.name, configuration or None, revision=commit, cache_dir=str(cache)
    )
    if builder.name in ROW_BUILDERS:
        return builder
    raise RunFailed(
        Cause.DATASET_INVALID,
        f"{dataset.words} holds {builder.name} data, not rows",
        f"Use a data set of one of these: {', '.join(sorted(ROW_BUILDERS))}.",
    )


def _named_files(dataset: Repository, commit: str) -> list[str]:
    """All texts in the configurations of a data set, file names among them."""
    from huggingface_hub import hf_hub_download, metadata_load
    from huggingface_hub.errors import RemoteEntryNotFoundError

    texts: list[str] = []
    for file, load in ((CARD, metadata_load), (STANDALONE, _yaml_in)):
        try:
            path = hf_hub_download(dataset.name, file, repo_type="dataset", revision=commit)
        except RemoteEntryNotFoundError:
            continue
        card = load(Path(path)) or {}
        # All of it: the library goes through the rest.
        _require_bounded(dataset, file, card)
        texts += _texts_in(card.get("configs"))
    return texts


def _require_bounded(dataset: Repository, file: str, card: Any) -> None:
    values, left = 0, [card]
    while left:
        value = left.pop()
        values += 1
        if values > CARD_VALUES_MAX:
            raise RunFailed(
                Cause.DATASET_INVALID,
                f"the {file} of {dataset.words} stands for more than {CARD_VALUES_MAX:,} values",
                "Use a data set that describes itself in fewer.",
            )
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value


def _yaml_in(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_bytes())


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts_in(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts_in(one)]
    return [value] if isinstance(value, str) else []


def _existing_part(dataset: Repository, builder: Any, part: str) -> str:
    parts = [str(name) for name in builder.config.data_files or ()]
    for name in (part, SPLIT_SYNONYMS.get(part, part)):
        if name in parts:
            return name
    raise RunFailed(
        Cause.DATASET_INVALID,
        f"{dataset.words} has no part {part!r}; it has: {', '.join(parts) or 'none'}",
        "Name one of these parts as the split.",
    )


def _paths_of(dataset: Repository, commit: str, addresses: Sequence[str]) -> list[str]:
    """Paths in the repository: a commit pins nothing that lies elsewhere."""
    begin = f"hf://datasets/{dataset.name}@{commit}/"
    paths = [address.removeprefix(begin) for address in addresses]
    _require_own_files(dataset, paths)
    return paths


def _require_own_files(dataset: Repository, names: Sequence[str]) -> None:
    for name in names:
        if "://" in name or name.startswith("/"):
            raise RunFailed(
                Cause.DATASET_INVALID,
                f"{dataset.words} names a file outside its repository: {name}",
                "Use a data set that holds its own files.",
            )


def _load(builder: Any, part: str) -> Any:
    """The rows of one part; the library would load all parts."""
    from datasets.data_files import DataFilesDict  # type: ignore[import-untyped]  # no stubs

    files = builder.config.data_files
    builder.config.data_files = DataFilesDict({part: files[part]})
    builder.download_and_prepare(verification_mode="no_checks")
    return builder.as_dataset(split=part)


def _with_known_columns(
    dataset: Repository, rows: Any, asked: Asked
) -> tuple[Any, tuple[str, ...]]:
    """The rows with the columns that are read, and the names of the others."""
    names = rows.column_names
    read = columns_read(names, asked.row_format, asked.columns)
    if read is not None:
        return rows.select_columns(read), tuple(name for name in names if name not in read)
    raise RunFailed(
        Cause.DATASET_INVALID,
        f"{dataset.words}: {header_fault(names, asked.columns)}",
        "Use a data set in one of these formats, or say what its fields are called with columns.",
    )


def _raw_rows(
    rows: Any, unread: tuple[str, ...], part: str, passes_empty: bool
) -> Iterator[RawRow]:
    """The rows as they lie in Arrow. The library's own way would decode pictures and sounds,
    from whatever path the data names; pictures are for images.py to decode. `passes_empty`: an
    empty line of a text file is not a row."""
    batches = rows.with_format("arrow").iter(batch_size=BATCH_ROWS_MAX)
    values = (value for batch in batches for value in batch_values(batch))
    for number, row in enumerate(values, start=1):
        if isinstance(row, str):
            yield RawRow(None, number, broken=row, unread=unread, part=part)
            continue
        read = {name: _json_read(rows.features[name], value) for name, value in row.items()}
        if passes_empty and not str(read.get("text", "")).strip():
            continue
        yield RawRow(_without_nulls(read), number, unread=unread, part=part)


def _json_read(feature: Any, value: Any) -> Any:
    """What the library has written as JSON text, for its type is not the same in all rows."""
    from datasets import Json, LargeList, List

    if value is None:
        return None
    if isinstance(feature, Json):
        return feature.decode_example(value)
    if isinstance(feature, (List, LargeList)):
        return [_json_read(feature.feature, one) for one in value]
    if isinstance(feature, dict):
        return {name: _json_read(feature[name], one) for name, one in value.items()}
    return value


def _without_nulls(value: Any) -> Any:
    """As the row was written: Arrow has every key in every row, absent ones as null."""
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    return value
