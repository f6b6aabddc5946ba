"""Where the model and the data of a run lie, and whether it may read them.

Owns the check that local paths, with every link followed, lie inside the
trainer's roots. Refuses others, and hub ids where downloads are not allowed
(RunFailed, MODEL_INVALID or DATASET_INVALID, naming the path and the roots).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer_svc.child.failure import Cause, RunFailed

# As the hub defines them: an owner and a name.
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
FIRST_N = re.compile(r"(?P<source>.+)#(?P<limit>\d+)", re.DOTALL)


@dataclass(frozen=True)
class HubId:
    """Something on the hub; an empty revision means the hub's default."""

    name: str
    revision: str


def find_model(name: str, revision: str, roots: Sequence[Path], allow_hub: bool) -> Path | HubId:
    """The model's folder, links followed, or its hub id. Raises RunFailed."""
    path = Path(name)
    if path.is_absolute() or (name and path.is_dir()):
        folder = _inside(path, roots, Cause.MODEL_INVALID, "model")
        if not (folder / "config.json").is_file():
            raise RunFailed(
                Cause.MODEL_INVALID,
                f"{name} is no model folder: it has no config.json",
                "Give the folder that holds config.json, the weights and the tokenizer.",
            )
        return folder
    return _hub_id(name, revision, allow_hub, Cause.MODEL_INVALID, "model folder")


def find_data(source: str, roots: Sequence[Path], allow_hub: bool) -> Path | HubId:
    """The data file, links followed, or its hub id; `source` without its "#N". Raises RunFailed."""
    path = Path(source)
    if path.is_absolute() or path.is_file():
        file = _inside(path, roots, Cause.DATASET_INVALID, "data")
        if not file.is_file():
            raise RunFailed(
                Cause.DATASET_INVALID, f"{source} is not a file", "Give the path of a data file."
            )
        return file
    return _hub_id(source, "", allow_hub, Cause.DATASET_INVALID, "data file")


def split_limit(source: str) -> tuple[str, int | None]:
    """A source and the N of its "#N", None without one."""
    match = FIRST_N.fullmatch(source)
    if match is None or Path(source).is_file():
        return source, None
    return match["source"], int(match["limit"])


class NotInside(Exception):
    """A path that is not inside the roots, or not there at all."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def inside(path: Path, roots: Sequence[Path], what: str) -> Path:
    """`path` with every link followed. Raises NotInside unless it exists inside one of `roots`,
    which are for `what` ("data")."""
    if "\0" in str(path) or not is_text(str(path)):
        raise NotInside(f"{str(path)!r} is no path", "Correct the path.")
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        real = None
    allowed = [root.resolve() for root in roots]
    # One that is missing outside the roots is told as outside: what exists there is not ours
    # to tell.
    place = Path(os.path.realpath(path)) if real is None else real
    if not any(place.is_relative_to(root) for root in allowed):
        listed = ", ".join(map(str, roots)) or "none"
        raise NotInside(
            f"{path} is outside the {what} roots of this trainer ({listed})",
            f"Move it below one of the {what} roots, or add its folder to them.",
        )
    if real is None:
        raise NotInside(f"{path} does not exist or cannot be read", "Correct the path.")
    return real


def is_text(text: str) -> bool:
    """Whether it has no half of a character, which JSON can spell and no file name has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _inside(path: Path, roots: Sequence[Path], cause: Cause, what: str) -> Path:
    try:
        return inside(path, roots, what)
    except NotInside as error:
        raise RunFailed(cause, str(error), error.hint) from None


def _hub_id(name: str, revision: str, allow_hub: bool, cause: Cause, what: str) -> HubId:
    if not HUB_ID.fullmatch(name):
        raise RunFailed(
            cause,
            f"no such {what}: {name}",
            "Give an absolute path below the trainer's roots, or a hub id (owner/name).",
        )
    if not allow_hub:
        raise RunFailed(
            cause,
            f"no such {what}: {name}; and this trainer downloads nothing from a hub",
            "Give an absolute path below the trainer's roots, or allow downloads on the trainer.",
        )
    return HubId(name, revision)
