"""Writing files so that a power cut leaves the old state or the new, never a mix.

Owns: atomic single-file writes, fsync of folders, sha256 of files. Refuses
nothing: a full disk or a missing folder is an OSError for the caller.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

READ_BYTES = 1 << 20


def write_atomically(path: Path, data: bytes) -> None:
    """Puts `data` at `path`: written aside in the same folder, fsynced, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames and new names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Makes every file and folder below `folder` durable, and `folder` itself."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            descriptor = os.open(Path(root, name), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(root))


def sha256_hex(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, sorted by its relative path."""
    found = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    yield from sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def remove_tree(folder: Path) -> None:
    """Removes `folder` and all below it; one that is not there is no error."""
    shutil.rmtree(folder, ignore_errors=True)
