"""Downloads in processes of their own, as a run makes them: the libraries read their
environment once, when they are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer_svc.child.asked import Asked
from trainer_svc.child.failure import Phase, explain
from trainer_svc.child.hub import download_model, download_rows
from trainer_svc.child.locations import HubId
from trainer_svc.child.pins import Pins
from trainer_svc.child.spool import Spool

END_SECONDS = 60
TOKEN = "hf_thisIsNoRealTokenButOneToBeHidden"


@dataclass
class Downloader:
    """A host with a cache of its own, and the feed of one job on it."""

    root: Path
    endpoint: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def spool(self) -> Path:
        return self.root / "spool.jsonl"

    @property
    def pins(self) -> Path:
        return self.root / "artifacts" / "jobs" / "j" / "pins.json"

    @property
    def cache(self) -> Path:
        return self.root / "hf" / "hub"

    def start(self, name: str, revision: str = "", **asked: Any) -> subprocess.Popen[str]:
        wanted = {"name": name, "revision": revision, "root": str(self.root), **asked}
        wanted |= {"pins": str(self.pins), "spool": str(self.spool)}
        self.root.mkdir(parents=True, exist_ok=True)
        return self._spawn("tests.integration.hub.hub_runs", json.dumps(wanted))

    def train(self, run_folder: Path) -> subprocess.Popen[str]:
        """The training process on this host."""
        self.root.mkdir(parents=True, exist_ok=True)
        return self._spawn("trainer_svc.child.qlora", str(run_folder))

    def _spawn(self, module: str, argument: str) -> subprocess.Popen[str]:
        own = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.root / "hf")}
        quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", module, argument],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **own, **quiet, **self.environment},
        )

    def run(self, name: str, revision: str = "", **asked: Any) -> dict[str, Any]:
        """What came of it, and under "printed" all that it printed."""
        process = self.start(name, revision, **asked)
        out, err = process.communicate(timeout=END_SECONDS)
        assert process.returncode == 0, err
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        return {**told, "printed": out + err}

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        written = self.spool.read_bytes() if self.spool.exists() else b""
        whole = written[: written.rfind(b"\n") + 1]  # the last line may be under way
        found = [json.loads(line)["event"] for line in whole.splitlines()]
        return [event for event in found if kind in ("", event["type"])]


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    pins, spool = Pins(Path(wanted["pins"])), Spool(Path(wanted["spool"]))
    hub_id = HubId(wanted["name"], wanted["revision"])
    try:
        if "split" not in wanted:
            folder, commit = download_model(
                hub_id, pins, spool, wanted.get("with_code", False), wanted.get("weights", True)
            )
            return {"folder": str(folder), "commit": commit}
        own = Path(wanted["root"]) / "run-cache"
        asked = Asked(wanted["split"], columns=wanted.get("columns", {}))
        rows, commit = download_rows(hub_id, asked, own, pins, spool)
        read = list(rows)
        unread = sorted({name for row in read for name in row.unread})
        found = [[row.line, row.value] for row in read]
        return {"rows": found, "unread": unread, "commit": commit}
    except Exception as error:
        import traceback

        traceback.print_exc()  # as the training process does
        failure = explain(error, Phase.MODEL)
        told = {"cause": failure.cause.removeprefix("FAILURE_CAUSE_")}
        return {**told, "message": failure.message, "hint": failure.hint}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))), flush=True)
    os._exit(0)
