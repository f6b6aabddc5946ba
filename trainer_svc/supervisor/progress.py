"""The latest progress of a run, kept up from its spool line by line."""

from __future__ import annotations

import threading

from google.protobuf import json_format
from tunewright.v1 import feed_pb2, job_pb2

from trainer_svc.supervisor.run_folder import RunFolder
from trainer_svc.supervisor.stream_lines import read_lines

_PHASES = {
    "MODEL_DOWNLOADING": "downloading model",
    "DATA_DOWNLOADING": "downloading data",
    "MODEL_LOADING": "loading model",
    "MODEL_LOADED": "model loaded",
    "DATA_PREPARING": "preparing data",
    "TRAINING_STARTED": "training",
    "NOTHING_LEFT": "staging result",
}
# Long enough for a count of rows and the end of a path.
_PHASE_CHARS_MAX = 200


class ProgressReader:
    """Reads what was added to the spool since the last time."""

    def __init__(self, folder: RunFolder) -> None:
        self._file = folder.stream_file("spool")
        self._position = 0
        self._progress = job_pb2.Progress()
        # Heartbeats, reports and ListRuns read in threads of their own.
        self._lock = threading.Lock()

    def read(self) -> job_pb2.Progress:
        """The progress as of now, as a copy. Blocking; malformed lines are passed over."""
        with self._lock:
            while True:
                before = self._position
                for line in read_lines(self._file, before, writer_gone=False):
                    self._position = line.after
                    self._take(line.data)
                if self._position == before:
                    latest = job_pb2.Progress()
                    latest.CopyFrom(self._progress)
                    return latest

    def _take(self, data: bytes) -> None:
        entry = feed_pb2.Entry()
        try:
            json_format.Parse(data, entry, ignore_unknown_fields=True)
        except (json_format.ParseError, UnicodeDecodeError):
            return
        kind = entry.WhichOneof("payload")
        if kind is None:
            return
        self._progress.update_time.CopyFrom(entry.time)
        if kind == "train_metrics":
            self._trained(entry.train_metrics)
        elif kind == "eval_metrics":
            self._progress.eval_loss = entry.eval_metrics.loss
        elif kind == "checkpoint_saved" and not entry.checkpoint_saved.record_only:
            self._progress.checkpoint_step = entry.checkpoint_saved.step
            # ms-swift need not have logged the step that it saved.
            self._progress.step = max(self._progress.step, entry.checkpoint_saved.step)
        elif kind == "data_prepared":
            self._progress.phase = "preparing data"
        elif kind == "event":
            self._event(entry.event)

    def _trained(self, metrics: feed_pb2.TrainMetrics) -> None:
        progress = self._progress
        progress.phase = "training"
        progress.step = metrics.step
        progress.total_steps = metrics.total_steps
        progress.epoch = metrics.epoch
        for name in ("loss", "learning_rate", "tokens_per_second"):
            if metrics.HasField(name):
                setattr(progress, name, getattr(metrics, name))
        if metrics.HasField("eta"):
            progress.eta.CopyFrom(metrics.eta)

    def _event(self, event: feed_pb2.Event) -> None:
        phase = _PHASES.get(event.type)
        if phase is not None:
            self._progress.phase = phase
        elif event.type == "DATA_PROGRESS":
            self._progress.phase = f"preparing data: {event.message}"[:_PHASE_CHARS_MAX]
        if event.type == "HUB_PINNED":
            self._progress.revisions[event.details["name"]] = event.details["revision"]
        total = event.details.get("total_steps", "")
        if total.isdecimal():
            self._progress.total_steps = int(total)
