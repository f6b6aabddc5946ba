"""A hub on loopback: as much of the Hugging Face hub's HTTP API as its libraries use.

Serves folders as repositories, each publication a commit of its own. It can cut a
download, hold it, or answer with a status instead, and it remembers every request
with the bytes that it was answered with. No xet: it never offers it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

# Kept as large files, with a sha256 for their tag, as the hub does for these.
LARGE_SUFFIXES = frozenset({".safetensors", ".bin", ".parquet", ".model"})
SEND_BYTES = 1 << 16

KINDS = "models|datasets"
API = re.compile(rf"/api/(?P<kind>{KINDS})/(?P<name>[^/]+/[^/]+)(?:/(?P<rest>.+))?")
RESOLVE = re.compile(
    r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
)


@dataclass(frozen=True)
class Seen:
    """One request, and how it was answered."""

    method: str
    path: str
    range: str
    authorization: str
    status: int
    body_bytes: int


@dataclass(frozen=True)
class Served:
    """One file of a commit."""

    data: bytes
    large: bool
    claimed_bytes: int | None = None
    """What the listing says of its size, where that is not the truth."""

    @property
    def size_bytes(self) -> int:
        return len(self.data) if self.claimed_bytes is None else self.claimed_bytes

    @property
    def git_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def tag(self) -> str:
        return self.sha256 if self.large else self.git_id


@dataclass
class Repository:
    """Commits, and the branches and tags that name them."""

    commits: dict[str, Mapping[str, Served]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    """Who may read it; None: everybody."""
    hidden: bool = False
    """Private: to others it does not exist. Otherwise it is gated."""

    def find(self, revision: str) -> tuple[str, Mapping[str, Served]] | None:
        commit = self.names.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


@dataclass
class Fault:
    """What happens to requests whose path ends in `suffix`, `times` of them."""

    suffix: str
    times: int
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after_bytes: int | None = None
    hold: threading.Event | None = None
    """With cut_after_bytes: it waits for this there, and then goes on."""


class HubServer:
    """The hub; `url` is what HF_ENDPOINT is set to."""

    def __init__(self) -> None:
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.seen: list[Seen] = []
        self.holding = threading.Semaphore(0)
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Ends it; what is held is let go."""
        self._closing.set()
        with self._lock:
            for fault in self._faults:
                if fault.hold is not None:
                    fault.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def publish(
        self,
        name: str,
        files: Path | Mapping[str, bytes],
        *,
        kind: str = "models",
        branch: str = "main",
        claimed_bytes: Mapping[str, int] | None = None,
    ) -> str:
        """Makes the files a commit at the head of the branch; its hash."""
        found = _read_folder(files) if isinstance(files, Path) else files
        claimed = claimed_bytes or {}
        served = {
            path: Served(data, Path(path).suffix in LARGE_SUFFIXES, claimed.get(path))
            for path, data in sorted(found.items())
        }
        repository = self.repository(name, kind)
        told = [len(repository.commits), *((path, file.tag) for path, file in served.items())]
        commit = hashlib.sha1(json.dumps([name, told]).encode()).hexdigest()
        repository.commits[commit] = served
        repository.names[branch] = commit
        return commit

    def repository(self, name: str, kind: str = "models") -> Repository:
        """The repository of that name, made where there is none."""
        return self._repositories.setdefault((kind, name), Repository())

    def fail(self, suffix: str, status: int, times: int = 1_000_000, **headers: str) -> None:
        """Answers requests for paths with this ending with a status instead."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(suffix, times, status=status, headers=named))

    def cut(self, suffix: str, after_bytes: int, times: int = 1) -> None:
        """Ends the connection after that many bytes of the body."""
        self._faults.append(Fault(suffix, times, cut_after_bytes=after_bytes))

    def hold(self, suffix: str, after_bytes: int) -> threading.Event:
        """Stops sending after that many bytes, until the event is set; `holding` is released."""
        event = threading.Event()
        self._faults.append(Fault(suffix, 1, cut_after_bytes=after_bytes, hold=event))
        return event

    def heal(self) -> None:
        """No more faults."""
        with self._lock:
            self._faults.clear()

    def downloads(self, suffix: str = "") -> list[Seen]:
        """The GETs of files whose path ends so, in order of their ends."""
        with self._lock:
            return [
                one
                for one in self.seen
                if one.method == "GET" and "/resolve/" in one.path and one.path.endswith(suffix)
            ]

    def take_fault(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and path.endswith(fault.suffix):
                    fault.times -= 1
                    return fault
        return None

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed leave in the middle of a request; all else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing: what was asked is in `seen`."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path = unquote(url.path)
        self._fault = self.server_hub.take_fault(path)
        if self._fault is not None and self._fault.status:
            page = {"Content-Type": "text/html", **self._fault.headers}
            self._send(self._fault.status, b"<html></html>", page)
            return
        resolve, api = RESOLVE.fullmatch(path), API.fullmatch(path)
        # Slashes of a revision are sent as %2F, so they are looked for before they are decoded.
        raw = RESOLVE.fullmatch(url.path)
        if resolve is not None and raw is not None:
            kind, revision = resolve["kind"] or "models", unquote(raw["revision"])
            self._resolve(kind, raw["name"], revision, unquote(raw["path"]))
        elif api is not None:
            self._api(api["kind"], api["name"], api["rest"] or "", body)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "", "no such page")

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self._readable(kind, name)
        if repository is None:
            return
        found = repository.find(revision)
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"no revision {revision}")
            return
        commit, files = found
        if path not in files:
            text = f"no file {path}"
            self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound", text, {"X-Repo-Commit": commit})
            return
        file = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.tag}"', "Accept-Ranges": "bytes"}
        if file.large:
            headers |= {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size_bytes)}
        begin = _begin_of(self.headers.get("Range"))
        if begin is None:
            self._send(HTTPStatus.OK, file.data, headers)
            return
        if begin >= len(file.data):
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", headers)
            return
        length = len(file.data)
        headers |= {"Content-Range": f"bytes {begin}-{length - 1}/{length}"}
        self._send(HTTPStatus.PARTIAL_CONTENT, file.data[begin:], headers)

    def _api(self, kind: str, name: str, rest: str, body: bytes) -> None:
        """Info is told of a gated repository too, as the hub does."""
        repository = self._known(kind, name)
        if repository is None:
            return
        what, _, more = rest.partition("/")
        revision = more or "main" if what == "revision" else more.partition("/")[0] or "main"
        found = repository.find(revision)
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"no revision {revision}")
            return
        commit, files = found
        if what in ("", "revision"):
            siblings = [{"rfilename": path} for path in files]
            gated = "manual" if repository.token and not repository.hidden else False
            info = {"id": name, "sha": commit, "siblings": siblings, "gated": gated}
            self._send_json({**info, "private": repository.hidden, "downloads": 0, "tags": []})
        elif what == "tree":
            below = more.partition("/")[2]
            if below and below not in _folders(files):
                self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound", f"no folder {below}")
                return
            self._send_json(_tree(files, below, "recursive=true" in self.path.lower()))
        elif what == "paths-info":
            self._send_json(_paths_info(files, _paths_of(body, self.headers["Content-Type"])))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "", "no such page")

    def _known(self, kind: str, name: str) -> Repository | None:
        repository = self.server_hub._repositories.get((kind, name))
        if repository is None or (repository.hidden and not self._may_read(repository)):
            # What the hub says to people without a token, and to those with one.
            anonymous = not self.headers.get("Authorization")
            status = HTTPStatus.UNAUTHORIZED if anonymous else HTTPStatus.NOT_FOUND
            self._refuse(status, "RepoNotFound", "Repository not found")
            return None
        return repository

    def _readable(self, kind: str, name: str) -> Repository | None:
        repository = self._known(kind, name)
        if repository is not None and not self._may_read(repository):
            anonymous = not self.headers.get("Authorization")
            status = HTTPStatus.UNAUTHORIZED if anonymous else HTTPStatus.FORBIDDEN
            self._refuse(status, "GatedRepo", f"Access to {kind}/{name} is restricted")
            return None
        return repository

    def _may_read(self, repository: Repository) -> bool:
        given = self.headers.get("Authorization", "")
        return repository.token is None or given == f"Bearer {repository.token}"

    def _refuse(
        self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None
    ) -> None:
        told = {"X-Error-Message": text, **(headers or {})}
        if code:
            told["X-Error-Code"] = code
        self._send(status, json.dumps({"error": text}).encode(), told)

    def _send_json(self, value: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        sent = 0
        try:
            if self.command != "HEAD":
                for piece in self._pieces(body):
                    self.wfile.write(piece)
                    sent += len(piece)
        except OSError:  # the other side has gone
            self.close_connection = True
        finally:
            self._note(status, sent)

    def _pieces(self, body: bytes) -> Iterator[bytes]:
        stop = None if self._fault is None else self._fault.cut_after_bytes
        before = body if stop is None else body[:stop]
        for begin in range(0, len(before), SEND_BYTES):
            yield before[begin : begin + SEND_BYTES]
        if stop is None or self._fault is None:
            return
        if self._fault.hold is None:
            self.close_connection = True
            return
        self.wfile.flush()
        self.server_hub.holding.release()
        self._fault.hold.wait()
        yield body[stop:]

    def _note(self, status: int, sent: int) -> None:
        self.server_hub.note(
            Seen(
                self.command,
                unquote(urlsplit(self.path).path),
                self.headers.get("Range", ""),
                self.headers.get("Authorization", ""),
                status,
                sent,
            )
        )


def _read_folder(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _begin_of(range_header: str | None) -> int | None:
    match = re.fullmatch(r"bytes=(\d+)-", range_header or "")
    return int(match[1]) if match else None


def _entry(path: str, file: Served) -> dict[str, object]:
    entry: dict[str, object] = {
        "type": "file",
        "path": path,
        "oid": file.git_id,
        "size": file.size_bytes,
    }
    if file.large:
        entry["lfs"] = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": 134}
    return entry


def _folders(files: Mapping[str, Served]) -> set[str]:
    return {
        parent.as_posix() for path in files for parent in Path(path).parents if parent != Path()
    }


def _tree(files: Mapping[str, Served], below: str, recursive: bool) -> list[dict[str, object]]:
    prefix = f"{below}/" if below else ""
    inside = {path: file for path, file in files.items() if path.startswith(prefix)}
    listed = [_entry(path, file) for path, file in inside.items()]
    listed += [
        {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
        for folder in sorted(_folders(inside))
        if folder.startswith(prefix)
    ]
    if recursive:
        return listed
    return [entry for entry in listed if "/" not in str(entry["path"])[len(prefix) :]]


def _paths_info(files: Mapping[str, Served], paths: list[str]) -> list[dict[str, object]]:
    found = [_entry(path, files[path]) for path in paths if path in files]
    return found + [
        {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
        for path in paths
        if path in _folders(files)
    ]


def _paths_of(body: bytes, content_type: str) -> list[str]:
    if "json" in content_type:
        listed: list[str] = json.loads(body)["paths"]
        return listed
    return parse_qs(body.decode()).get("paths", [])


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """A hub without repositories; ended at the end."""
    hub = HubServer()
    try:
        yield hub
    finally:
        hub.close()
