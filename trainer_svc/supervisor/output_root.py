"""The output root: walking below it without ever following a link.

Every step is taken from the descriptor of the folder before it, with
O_NOFOLLOW, so a link that is swapped in at the last moment is met, not
followed. Refuses with OutputInvalid.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

STAGING = ".staging"
_RENAME_NOREPLACE = 1
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIBC = ctypes.CDLL(None, use_errno=True)


class OutputInvalid(Exception):
    """The output folder is taken, is a link, or leads out of the output root."""


def parts_of(output_dir: str) -> Sequence[str]:
    """The steps of a relative output_dir. Raises OutputInvalid."""
    path = PurePosixPath(output_dir)
    parts = path.parts
    if not parts or path.is_absolute() or ".." in parts or "\0" in output_dir:
        raise OutputInvalid(f"output_dir {output_dir!r} is not a relative path without '..'")
    if parts[0] == STAGING:
        raise OutputInvalid(f"output_dir must not be below {STAGING}")
    return parts


def check_free(root: Path, output_dir: str) -> None:
    """Raises OutputInvalid unless a result could be put at `output_dir` now. Makes nothing."""
    *parents, last = parts_of(output_dir)
    with _opened(root) as folder:
        for index, name in enumerate(parents):
            try:
                folder.enter(name)
            except FileNotFoundError:
                return
            except OSError as error:
                raise _not_a_folder("/".join(parents[: index + 1]), error) from None
        folder.refuse_taken(last, output_dir)


@contextlib.contextmanager
def parent_of(root: Path, output_dir: str) -> Iterator[tuple[int, str]]:
    """The parent's descriptor and the last name of `output_dir`; missing parents are made.

    Raises OutputInvalid.
    """
    *parents, last = parts_of(output_dir)
    with _opened(root) as folder:
        for index, name in enumerate(parents):
            try:
                folder.enter_or_make(name)
            except OSError as error:
                raise _not_a_folder("/".join(parents[: index + 1]), error) from None
        yield folder.fd, last


@contextlib.contextmanager
def staging_of(root: Path) -> Iterator[int]:
    """The descriptor of the staging folder; it is made if it is missing."""
    with _opened(root) as folder:
        try:
            folder.enter_or_make(STAGING)
        except OSError as error:
            raise _not_a_folder(STAGING, error) from None
        yield folder.fd


def rename_without_replacing(source: tuple[int, str], target: tuple[int, str]) -> None:
    """Moves a folder, both ends given as (descriptor of the parent, name).

    Raises FileExistsError if something is at the target, OSError otherwise.
    """
    (source_fd, source_name), (target_fd, target_name) = source, target
    failed = _LIBC.renameat2(
        source_fd,
        os.fsencode(source_name),
        target_fd,
        os.fsencode(target_name),
        _RENAME_NOREPLACE,
    )
    if not failed:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), target_name)
    # A file system without the flag (NFS): a folder still never replaces anything but an
    # empty folder, and that is looked for first.
    if _exists(target_fd, target_name):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target_name)
    os.rename(source_name, target_name, src_dir_fd=source_fd, dst_dir_fd=target_fd)


def open_folder_at(parent_fd: int, name: str) -> int:
    """The descriptor of a folder below another one; OSError for a link or anything else."""
    return os.open(name, _FOLDER_FLAGS, dir_fd=parent_fd)


class _Folder:
    """A descriptor that walks downwards."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def enter(self, name: str) -> None:
        below = open_folder_at(self.fd, name)
        os.close(self.fd)
        self.fd = below

    def enter_or_make(self, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self.fd)
            os.fsync(self.fd)
        self.enter(name)

    def refuse_taken(self, name: str, output_dir: str) -> None:
        if _exists(self.fd, name):
            link = stat.S_ISLNK(os.lstat(name, dir_fd=self.fd).st_mode)
            what = "is a link" if link else "is taken"
            raise OutputInvalid(f"output_dir {output_dir!r} {what}")


@contextlib.contextmanager
def _opened(root: Path) -> Iterator[_Folder]:
    folder = _Folder(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        yield folder
    finally:
        os.close(folder.fd)


def _exists(parent_fd: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputInvalid(f"output_dir: {error.strerror}") from None
    return True


def _not_a_folder(path: str, error: OSError) -> OutputInvalid:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return OutputInvalid(f"{path!r} on the way to output_dir is a link or not a folder")
    return OutputInvalid(f"{path!r} on the way to output_dir: {error.strerror}")
