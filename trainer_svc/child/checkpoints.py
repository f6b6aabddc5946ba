"""The checkpoints of one job on disk.

Owns their folder: names, proof, rotation, what a run resumes from. Each is
written aside in the same folder, sealed and renamed, so one that has its name
is whole. Only the newest `limit` and the best by evaluation loss stay. One that
does not hold its hashes is set aside, never resumed from and never counted as
one that is kept.

On a shared artifact store an attempt that was given up may still write here: an
attempt rotates only what it made or found when it began, and never replaces
what a later one made.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer_svc.child.durable import remove_tree, sync_folder
from trainer_svc.child.manifest import ManifestBroken, digest_of, prove, read, seal
from trainer_svc.child.stopping import StopMode, StopNow

STEP_DIGITS = 8
STEP_NAME = re.compile(rf"\d{{{STEP_DIGITS}}}")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is durable. `step` counts optimizer steps."""

    step: int
    attempt: int
    folder: Path
    digest: str
    size_bytes: int
    record_only: bool
    eval_loss: float | None


@dataclass(frozen=True)
class Broken:
    """A checkpoint that is not what its manifest says, and why."""

    step: int
    why: str


class CheckpointStore:
    """The checkpoints of one job, for one attempt. Every method may raise OSError."""

    def __init__(self, folder: Path, job: str, attempt: int, limit: int) -> None:
        """`limit` is how many are kept, the best one and the record at step 0 not counted."""
        self._folder = folder
        self._job = job
        self._attempt = attempt
        self._limit = limit
        self._found: frozenset[tuple[int, int]] = frozenset()
        self.scratch = folder / f".tmp-{attempt}"

    def open(self) -> None:
        """Makes the folder, and clears what killed attempts left half written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(".tmp-*"):
            remove_tree(left)
        self.scratch.mkdir()
        self._found = frozenset((entry.step, entry.attempt) for entry in self.every())

    def close(self) -> None:
        """Removes what is half written; safe to call twice."""
        remove_tree(self.scratch)

    def save(
        self, files: Path, step: int, record_only: bool, eval_loss: float | None
    ) -> Checkpoint:
        """Makes the folder `files`, which lies in the scratch folder, the checkpoint of `step`.

        Raises StopNow if a later attempt made one of that step: this one was given up.
        """
        fields = {
            "job": self._job,
            "attempt": self._attempt,
            "step": step,
            "record_only": record_only,
            "eval_loss": eval_loss,
        }
        sealed = seal(files, fields)
        final = self._folder / f"{step:0{STEP_DIGITS}}"
        if self._is_of_a_later_attempt(final):
            raise StopNow(StopMode.FENCE)
        if final.exists():  # of an earlier attempt; a rename does not replace a full folder
            final.rename(self.scratch / f"replaced-{step}")
        files.rename(final)
        sync_folder(self._folder)
        remove_tree(self.scratch / f"replaced-{step}")
        return Checkpoint(
            step, self._attempt, final, sealed.digest, sealed.size_bytes, record_only, eval_loss
        )

    def rotate(self) -> list[int]:
        """Removes what is over the limit; the steps removed. Call after a save, so that the
        newest is known to be good."""
        kept = [entry for entry in self.every() if not entry.record_only and self._is_ours(entry)]
        newest = {entry.step for entry in kept[-self._limit :]}
        best = best_of(kept)
        removed = []
        for entry in kept:
            if entry.step not in newest and entry != best:
                self._remove(entry)
                removed.append(entry.step)
        return removed

    def every(self) -> list[Checkpoint]:
        """Those with a readable manifest, by step. Their hashes are not proven."""
        found = []
        for folder in self._step_folders():
            try:
                found.append(_checkpoint(folder, read(folder)))
            except ManifestBroken:
                continue
        return found

    def resume_point(self) -> tuple[Checkpoint | None, list[Broken]]:
        """The highest checkpoint that holds its hashes, and those above it that do not. The
        latter are set aside under another name."""
        broken = []
        for folder in reversed(list(self._step_folders())):
            try:
                found = _checkpoint(folder, prove(folder))
            except ManifestBroken as error:
                broken.append(Broken(int(folder.name), str(error)))
                self._set_aside(folder)
                continue
            if not found.record_only:
                return found, broken
        return None, broken

    def discard(self) -> list[int]:
        """Removes all of them, for a run that starts over; the steps removed."""
        folders = list(self._step_folders())
        for folder in folders:
            remove_tree(folder)
        return [int(folder.name) for folder in folders]

    def _is_ours(self, entry: Checkpoint) -> bool:
        return entry.attempt == self._attempt or (entry.step, entry.attempt) in self._found

    def _is_of_a_later_attempt(self, folder: Path) -> bool:
        try:
            found = _checkpoint(folder, read(folder))
        except ManifestBroken:
            return False
        return found.attempt > self._attempt and not self._is_ours(found)

    def _remove(self, entry: Checkpoint) -> None:
        aside = self.scratch / f"removed-{entry.step}"
        with suppress(FileNotFoundError):  # an attempt that was given up was faster
            entry.folder.rename(aside)
        remove_tree(aside)

    def _step_folders(self) -> Iterator[Path]:
        for folder in sorted(self._folder.iterdir()):
            if STEP_NAME.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                yield folder

    def _set_aside(self, folder: Path) -> None:
        aside = folder.with_name(f".invalid-{folder.name}")
        remove_tree(aside)
        folder.rename(aside)


def best_of(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """The one with the lowest evaluation loss, the earlier of two equal ones."""
    rated = [entry for entry in checkpoints if entry.eval_loss is not None]
    return min(rated, key=lambda entry: (entry.eval_loss or 0.0, entry.step), default=None)


def _checkpoint(folder: Path, manifest: dict[str, Any]) -> Checkpoint:
    step, eval_loss = manifest.get("step"), manifest.get("eval_loss")
    if step != int(folder.name):
        raise ManifestBroken(f"{folder} holds step {step}")
    size_bytes = sum(int(entry["size_bytes"]) for entry in manifest["files"].values())
    digest = digest_of((folder / "manifest.json").read_bytes())
    record_only = bool(manifest.get("record_only"))
    attempt = int(manifest.get("attempt") or 0)
    return Checkpoint(step, attempt, folder, digest, size_bytes, record_only, eval_loss)
