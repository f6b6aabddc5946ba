"""Putting a result at its place: verified, moved in one step, never over anything.

The output folder is the old state or the new, whatever happens: the only
write that anybody can see is one rename. Restart-safe: a result that was
moved, and not yet recorded, is recognised by its manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svckit.crash import crash_point
from trainer_svc.domain.runs import RunKey
from trainer_svc.supervisor.output_root import (
    OutputInvalid,
    open_folder_at,
    parent_of,
    rename_without_replacing,
    staging_of,
)

MANIFEST = "manifest.json"
_CHUNK_BYTES = 1024 * 1024
_MANIFEST_BYTES_MAX = 16 * 1024 * 1024


class StagedResultInvalid(Exception):
    """What is staged is not what its manifest says."""


@dataclass(frozen=True)
class Publication:
    """What is to be put where. `digest` is that of manifest.json, as "sha256:<hex>"."""

    key: RunKey
    root: Path
    output_dir: str
    digest: str

    @property
    def staged_name(self) -> str:
        """The result's name in the staging folder."""
        return f"{self.key.job_id}-{self.key.attempt}"

    @property
    def path(self) -> str:
        """Where the result will be, absolute."""
        return str(self.root / self.output_dir)


def verify_staged(publication: Publication) -> None:
    """Holds every staged file against the manifest, and puts it on the disk.

    Does nothing if the result was moved already. Raises StagedResultInvalid,
    OutputInvalid, OSError.
    """
    with staging_of(publication.root) as staging_fd:
        try:
            folder_fd = open_folder_at(staging_fd, publication.staged_name)
        except FileNotFoundError:
            if is_in_place(publication):
                return
            raise StagedResultInvalid("no result is staged") from None
        try:
            _verify(folder_fd, publication)
        finally:
            os.close(folder_fd)


def move_into_place(publication: Publication) -> None:
    """Moves the staged result; does nothing if it is there already.

    Raises OutputInvalid if the place is taken or a link is on the way, and
    StagedResultInvalid if there is nothing to move.
    """
    if is_in_place(publication):
        return
    name = publication.staged_name
    with (
        staging_of(publication.root) as staging_fd,
        parent_of(publication.root, publication.output_dir) as (parent_fd, last),
    ):
        try:
            rename_without_replacing((staging_fd, name), (parent_fd, last))
        except FileExistsError:
            raise OutputInvalid(f"output_dir {publication.output_dir!r} is taken") from None
        except FileNotFoundError:
            raise StagedResultInvalid("no result is staged") from None
        crash_point("result_renamed_unsynced")
        os.fsync(parent_fd)
        os.fsync(staging_fd)


def is_in_place(publication: Publication) -> bool:
    """True if the very result is at its place. Raises OutputInvalid for a link on the way."""
    with parent_of(publication.root, publication.output_dir) as (parent_fd, last):
        try:
            folder_fd = open_folder_at(parent_fd, last)
        except OSError:
            return False
        try:
            return _digest(_read_file(folder_fd, MANIFEST)) == publication.digest
        except (OSError, StagedResultInvalid):
            return False
        finally:
            os.close(folder_fd)


def _verify(folder_fd: int, publication: Publication) -> None:
    manifest = _read_file(folder_fd, MANIFEST)
    if _digest(manifest) != publication.digest:
        raise StagedResultInvalid("the staged manifest is not the one that the run reported")
    expected = _files_of(manifest)
    found = dict(_walk(folder_fd, ""))
    missing = expected.keys() - found.keys()
    extra = found.keys() - expected.keys() - {MANIFEST}
    if missing or extra:
        named = sorted(missing or extra)[0]
        raise StagedResultInvalid(f"{named} is {'missing' if missing else 'not in the manifest'}")
    for path, wanted in expected.items():
        if found[path] != (wanted.get("size_bytes"), wanted.get("sha256")):
            raise StagedResultInvalid(f"{path} is not what the manifest says")


def _files_of(manifest: bytes) -> dict[str, Any]:
    try:
        files = json.loads(manifest)["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise StagedResultInvalid(f"the staged manifest cannot be read: {error!r}") from None
    if not isinstance(files, dict) or not all(isinstance(one, dict) for one in files.values()):
        raise StagedResultInvalid("the staged manifest lists no files")
    return files


def _walk(folder_fd: int, prefix: str) -> Iterator[tuple[str, tuple[int, str]]]:
    """Every file below, with size and sha256; each is synced, links are refused."""
    for name in sorted(os.listdir(folder_fd)):
        mode = os.lstat(name, dir_fd=folder_fd).st_mode
        path = f"{prefix}{name}"
        if stat.S_ISDIR(mode):
            below_fd = open_folder_at(folder_fd, name)
            try:
                yield from _walk(below_fd, f"{path}/")
            finally:
                os.close(below_fd)
        elif stat.S_ISREG(mode):
            yield path, _measured(folder_fd, name)
        else:
            raise StagedResultInvalid(f"{path} is neither a file nor a folder")
    os.fsync(folder_fd)


def _measured(folder_fd: int, name: str) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        while chunk := os.read(fd, _CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        os.fsync(fd)
    finally:
        os.close(fd)
    return size, digest.hexdigest()


def _read_file(folder_fd: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    with os.fdopen(fd, "rb") as stream:
        data = stream.read(_MANIFEST_BYTES_MAX + 1)
    if len(data) > _MANIFEST_BYTES_MAX:
        raise StagedResultInvalid(f"{name} is larger than {_MANIFEST_BYTES_MAX} bytes")
    return data


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
