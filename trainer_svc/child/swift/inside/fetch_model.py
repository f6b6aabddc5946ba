"""Downloads a model from ModelScope: python fetch_model.py, a JSON request on stdin.

Runs in ms-swift's environment, which has the hub's own library. The request is
{"name", "revision", "patterns", "answer"}; the answer, a file, is {"folder",
"revision", "commit"}. The commit is empty where the hub does not tell it.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

DEFAULT_REVISION = "master"


def main() -> int:
    """Answers one request; the exit code."""
    request = json.loads(sys.stdin.readline())
    from modelscope import snapshot_download  # type: ignore[import-not-found]

    revision = request["revision"] or DEFAULT_REVISION
    folder = snapshot_download(
        request["name"], revision=revision, allow_patterns=request["patterns"]
    )
    commit = commit_of(request["name"], revision)
    answer = {"folder": folder, "revision": revision, "commit": commit}
    Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")
    return 0


def commit_of(name: str, revision: str) -> str:
    """The newest commit among the files of a revision; "" where the hub does not tell."""
    with contextlib.suppress(Exception):  # it is good to know, and a run does without
        from modelscope.hub.api import HubApi  # type: ignore[import-not-found]

        files: list[dict[str, Any]] = HubApi().get_model_files(
            name, revision=revision, recursive=True
        )
        newest = max(files, key=lambda file: int(file.get("CommittedDate") or 0))
        return str(newest.get("Revision") or newest.get("CommitId") or "")
    return ""


if __name__ == "__main__":
    sys.exit(main())
