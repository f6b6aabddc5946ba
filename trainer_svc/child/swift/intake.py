"""From the checkpoints that ms-swift writes to those of the job.

Owns when one of them is whole: ms-swift says so in its log, and points a link
at it, both only after its last file is written. Its files are then linked aside,
sealed and kept by CheckpointStore. ms-swift removes its own old ones, and may do
so meanwhile: one that lacks a file then is passed over. Refuses one with a
weight that is NaN or infinite (RunFailed, DIVERGED).
"""

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunewright.v1.feed_pb2 import CheckpointSaved

from trainer_svc.child.checkpoints import Checkpoint, CheckpointStore
from trainer_svc.child.durable import remove_tree
from trainer_svc.child.manifest import MANIFEST
from trainer_svc.child.spool import Spool
from trainer_svc.child.swift.adapter import require_finite

NAME = re.compile(r"checkpoint-(\d+)")
LATEST_LINK = "last-checkpoint"
ADAPTER = "adapter_model.safetensors"
# Pickles that nothing reads. What resuming reads (optimizer, scheduler, random state) stays.
UNUSED = frozenset({"training_args.bin", "README.md"})
# One that lacks any of them cannot be resumed from; each process writes a random state.
NEEDED = (ADAPTER, "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state*.pth")


@dataclass(frozen=True)
class Found:
    """A checkpoint of ms-swift's."""

    step: int
    folder: Path


class Intake:
    """Takes in the checkpoints of one run of ms-swift."""

    def __init__(self, output: Path, store: CheckpointStore, spool: Spool) -> None:
        self._output = output
        self._store = store
        self._spool = spool
        self._whole_up_to = 0
        self._seen: set[int] = set()
        self.last: Checkpoint | None = None

    def heard_of(self, step: int) -> None:
        """ms-swift says that it has written the checkpoint of `step`."""
        self._whole_up_to = max(self._whole_up_to, step)

    def whole(self, ended_well: bool = False) -> list[Found]:
        """Those that are whole and not taken in, by step. `ended_well`: nobody writes any
        more, and the last one was not torn."""
        found = sorted(self._found(), key=lambda one: one.step)
        if ended_well:
            return found
        up_to = max(self._whole_up_to, self._linked_step())
        return [one for one in found if one.step <= up_to]

    def take(self, found: Found, eval_loss: float | None) -> None:
        """Makes it a checkpoint of the job. One that ms-swift removes meanwhile is passed
        over: a newer one is there. Raises RunFailed, OSError, StopNow."""
        self._seen.add(found.step)
        aside = self._store.scratch / f"taken-{found.step}"
        remove_tree(aside)
        with suppress(FileNotFoundError):
            link_files(found.folder, aside, UNUSED)
        if not all(any(aside.glob(name)) for name in NEEDED):
            remove_tree(aside)
            return
        require_finite(aside / ADAPTER, found.step)
        self.last = self._store.save(aside, found.step, record_only=False, eval_loss=eval_loss)
        self._spool.checkpoint_saved(
            CheckpointSaved(
                step=self.last.step,
                path=str(self.last.folder),
                manifest_digest=self.last.digest,
                size_bytes=self.last.size_bytes,
                record_only=False,
                eval_loss=eval_loss,
            )
        )
        self._store.rotate()

    def take_all(self, found: list[Found], eval_losses: Mapping[int, float]) -> None:
        """Takes in several, in order."""
        for one in found:
            self.take(one, eval_losses.get(one.step))

    def _found(self) -> list[Found]:
        if not self._output.is_dir():
            return []
        return [
            Found(int(name[1]), path)
            for path in self._output.iterdir()
            if (name := NAME.fullmatch(path.name))
            and int(name[1]) not in self._seen
            and path.is_dir()
            and not path.is_symlink()
        ]

    def _linked_step(self) -> int:
        try:
            name = NAME.fullmatch(Path(os.readlink(self._output / LATEST_LINK)).name)
        except OSError:  # there is none yet; ms-swift before 4.6 makes none
            return 0
        return int(name[1]) if name else 0


def link_for_resume(start: Checkpoint, folder: Path) -> Path:
    """The checkpoint under a name that ms-swift takes, below `folder`; nothing is copied."""
    target = folder / f"checkpoint-{start.step}"
    link_files(start.folder, target, frozenset({MANIFEST}))
    return target


def link_files(source: Path, target: Path, without: frozenset[str]) -> None:
    """Gives every file below `source` a second name below `target`. Raises OSError."""
    for root, _, names in os.walk(source, onerror=_raise):
        here = target / Path(root).relative_to(source)
        here.mkdir(parents=True)
        for name in names:
            if name not in without:
                _link(Path(root, name), here / name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without second names
        shutil.copyfile(source, target, follow_symlinks=False)


def _raise(error: OSError) -> None:
    raise error
