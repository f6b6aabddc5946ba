"""The identity of the artifact store: hosts that mount one can resume each other's jobs."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from pathlib import Path

from trainer_svc.supervisor.durable import make_folder, sync_folder

_FILE = ".store-uuid"


def artifact_store_uuid(artifacts: Path) -> str:
    """The store's UUID; the first trainer that asks makes it. Raises OSError."""
    make_folder(artifacts)
    aside = artifacts / f"{_FILE}.{os.getpid()}.{time.monotonic_ns()}"
    with open(aside, "w", encoding="ascii") as stream:
        stream.write(str(uuid.uuid4()))
        stream.flush()
        os.fsync(stream.fileno())
    # A link never replaces: of two trainers that come at once, one makes it, both read it.
    with contextlib.suppress(FileExistsError):
        os.link(aside, artifacts / _FILE)
    aside.unlink()
    sync_folder(artifacts)
    return (artifacts / _FILE).read_text(encoding="ascii").strip()
