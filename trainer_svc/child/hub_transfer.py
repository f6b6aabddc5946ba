"""Brings files of one commit into the hub's cache on this host, and tells how far it is.

Owns the large files: each is written to one file beside its place, whoever
downloads it, so that a download goes on where an earlier one was cut or killed,
and has its place only once its hash holds. The rest, and files that a hub offers
through xet, are the library's. Refuses to begin what does not fit on the disk
(RunFailed, DISK_FULL).
"""

import fcntl
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from trainer_svc.child.durable import sha256_hex, sync_folder
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.hub_faults import DownloadBroken
from trainer_svc.child.pins import Repository
from trainer_svc.child.spool import Spool

FILES_AT_ONCE = 4
PROGRESS_SECONDS = 5.0
LOCK_POLL_SECONDS = 0.25
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file of a commit. `sha256` only of large ones that come by plain HTTP. `by_xet`: what
    comes is counted by that library, in its own way."""

    path: str
    size_bytes: int
    sha256: str
    by_xet: bool = False


class _Cancelled(Exception):
    """Nobody waits for this download any more."""


def list_files(repository: Repository, commit: str) -> list[HubFile]:
    """What the hub has at that commit. Raises what the library raises, RunFailed."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    entries = HfApi().list_repo_tree(
        repository.name, recursive=True, revision=commit, repo_type=repository.kind.value
    )
    return [_hub_file(entry) for entry in entries if isinstance(entry, RepoFile)]


def _hub_file(entry: Any) -> HubFile:
    by_xet = entry.xet_hash is not None and _xet_is_usable()
    large = entry.lfs is not None and not by_xet
    if large and not SHA256.fullmatch(entry.lfs.sha256):  # it becomes a path
        raise RunFailed(
            Cause.ENVIRONMENT_INVALID,
            f"the hub's listing has no SHA-256 for {entry.path}, but {entry.lfs.sha256!r:.100}",
            "Use another hub (HF_ENDPOINT in the trainer's environment).",
        )
    return HubFile(entry.path, entry.size, entry.lfs.sha256 if large else "", by_xet)


def _xet_is_usable() -> bool:
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def cached_path(repository: Repository, commit: str, path: str) -> Path | None:
    """Where the file lies in the cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        repository.name, path, revision=commit, repo_type=repository.kind.value
    )
    return Path(found) if isinstance(found, str) and os.path.exists(found) else None


class Transfer:
    """One download of several files. Call `run` again after a passing fault."""

    def __init__(
        self, repository: Repository, commit: str, files: Sequence[HubFile], spool: Spool
    ) -> None:
        self._repository = repository
        self._commit = commit
        self._files = files
        self._spool = spool
        # Bytes that are here, by path. Each is written by one thread at a time.
        self._here = {file.path: self._bytes_here(file) for file in files}

    @property
    def bytes_done(self) -> int:
        """Bytes of the files that are on this host."""
        return sum(self._here.values())

    @property
    def bytes_total(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self._files)

    @property
    def is_done(self) -> bool:
        """Whether every file is in its place."""
        return not self._missing()

    def require_space(self) -> None:
        """Raises RunFailed when the rest does not fit on the disk."""
        cache = _cache_folder()
        left = self.bytes_total - self.bytes_done
        free = shutil.disk_usage(_that_exists(cache)).free
        if left > free:
            raise RunFailed(
                Cause.DISK_FULL,
                f"{self._repository.words} needs {left:,} more bytes below {cache}, and only"
                f" {free:,} are free",
                "Free space there, or set HF_HOME in the trainer's environment to a larger disk.",
            )

    def run(self) -> None:
        """Raises what the library raises, DownloadBroken and OSError."""
        cancelled = threading.Event()
        pool = ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="download")
        try:
            pending: set[Future[None]] = {
                pool.submit(self._fetch, file, cancelled) for file in self._missing()
            }
            while pending:
                done, pending = wait(pending, PROGRESS_SECONDS, FIRST_EXCEPTION)
                for one in done:
                    one.result()
                if pending:
                    self.tell()
        finally:
            # Nobody waits for them: a stop is to be quick, and each file has its lock.
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
        self.tell()

    def tell(self) -> None:
        """How far it is, to the feed."""
        done, total = self.bytes_done, self.bytes_total
        files = len(self._files) - len(self._missing())
        self._spool.event(
            "DOWNLOAD_PROGRESS",
            f"{self._repository.words}: {done:,} of {total:,} bytes,"
            f" {files} of {len(self._files)} files",
            bytes_done=done,
            bytes_total=total,
            files_done=files,
            files_total=len(self._files),
            name=self._repository.key,
            revision=self._commit,
        )

    def _missing(self) -> list[HubFile]:
        return [file for file in self._files if not self._is_cached(file)]

    def _is_cached(self, file: HubFile) -> bool:
        return cached_path(self._repository, self._commit, file.path) is not None

    def _bytes_here(self, file: HubFile) -> int:
        if self._is_cached(file):
            return file.size_bytes
        for path in (self._blob(file), _partial(self._blob(file))):
            if file.sha256 and path.exists():
                return min(path.stat().st_size, file.size_bytes)
        return 0

    def _blob(self, file: HubFile) -> Path:
        """Where the library looks for the content, by its hash."""
        from huggingface_hub.file_download import repo_folder_name

        kind, name = self._repository.kind.value, self._repository.name
        folder = _cache_folder() / repo_folder_name(repo_id=name, repo_type=kind)
        return folder / "blobs" / file.sha256

    def _fetch(self, file: HubFile, cancelled: threading.Event) -> None:
        from huggingface_hub import hf_hub_download

        meter = _meter(self._here, file, cancelled)
        if file.sha256:
            self._fetch_large(file, meter, cancelled)
            meter = _meter({}, file, cancelled)
        hf_hub_download(
            self._repository.name,
            file.path,
            repo_type=self._repository.kind.value,
            revision=self._commit,
            tqdm_class=meter,
        )
        self._here[file.path] = file.size_bytes

    def _fetch_large(self, file: HubFile, meter: type[Any], cancelled: threading.Event) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # is lazy

        blob = self._blob(file)
        url = hf_hub_url(
            self._repository.name,
            file.path,
            repo_type=self._repository.kind.value,
            revision=self._commit,
        )
        blob.parent.mkdir(parents=True, exist_ok=True)
        with _sole_writer(_partial(blob), blob, cancelled) as stream:
            if stream is None:
                return
            begin = stream.seek(0, os.SEEK_END)
            if begin > file.size_bytes:
                begin = stream.truncate(0)
            http_get(
                url,
                stream,
                resume_size=begin,
                headers=build_hf_headers(),
                expected_size=file.size_bytes,
                displayed_filename=file.path,
                tqdm_class=meter,
            )
            stream.flush()
            os.fsync(stream.fileno())
            self._prove(file, _partial(blob))
            _partial(blob).rename(blob)
            sync_folder(blob.parent)

    def _prove(self, file: HubFile, partial: Path) -> None:
        if sha256_hex(partial) == file.sha256:
            return
        partial.unlink()
        self._here[file.path] = 0
        raise DownloadBroken(f"{file.path} came with another hash than the hub's listing has")


@contextmanager
def _sole_writer(
    partial: Path, blob: Path, cancelled: threading.Event
) -> Iterator[BinaryIO | None]:
    """The file to append to, locked; None once somebody else has brought the whole.

    Where locks mean nothing (some network file systems) two may write at once; the hash
    then does not hold, and it is downloaded again.
    """
    while not blob.exists():
        with partial.open("ab") as stream:
            while not _locks(stream):
                if cancelled.wait(LOCK_POLL_SECONDS):
                    raise _Cancelled
            if _is_at(stream, partial):
                yield stream
                return
    yield None


def _locks(stream: BinaryIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(stream: BinaryIO, path: Path) -> bool:
    """False when it was renamed or removed while this one waited for the lock."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _partial(blob: Path) -> Path:
    # The library's commands that clean its cache know this ending.
    return blob.with_name(f"{blob.name}.resumable.incomplete")


def _cache_folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def _that_exists(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _meter(here: dict[str, int], file: HubFile, cancelled: threading.Event) -> type[Any]:
    """What the library takes for a progress bar: it counts what is here, and ends a
    download that nobody waits for."""

    class Meter:
        """Has what the library asks of a bar, also for a download through xet."""

        total = 0

        def __init__(self, *_args: Any, initial: int = 0, **_kwargs: Any) -> None:
            here[file.path] = initial

        def __enter__(self) -> "Meter":
            return self

        def __exit__(self, *_exception: object) -> None:
            self.close()

        def update(self, count: float | None = 1) -> None:
            if cancelled.is_set():
                raise _Cancelled
            here[file.path] = _within(file, here[file.path] + int(count or 0))

        def update_transfer(self, count: float | None = 1) -> None:
            """Bytes on the wire, of which xet needs fewer than the file has."""

        def set_postfix_str(self, postfix: str, refresh: bool = False) -> None:
            """Nothing is shown here."""

        def set_transfer_postfix_str(self, postfix: str, refresh: bool = False) -> None:
            """Nor here."""

        def close(self) -> None:
            """There is nothing to end."""

    return Meter


def _within(file: HubFile, arrived_bytes: int) -> int:
    """No more bytes than the file has. Raises DownloadBroken when more have come."""
    if arrived_bytes > file.size_bytes and not file.by_xet:
        raise DownloadBroken(
            f"{file.path} is longer than the {file.size_bytes:,} bytes of the hub's listing"
        )
    return min(arrived_bytes, file.size_bytes)


def by_path(files: Sequence[HubFile]) -> Mapping[str, HubFile]:
    """The files, to look up."""
    return {file.path: file for file in files}
