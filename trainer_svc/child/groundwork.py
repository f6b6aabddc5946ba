"""What a QLoRA run needs before its data: the model's folder, and its tokenizer or processor.

Owns the order of those steps, which a run and a data check share: what cannot
be trained is refused before anything is read or loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer_svc.child.failure import Phase
from trainer_svc.child.kinds import kind_of, require_possible
from trainer_svc.child.locations import find_model
from trainer_svc.child.model import BaseModel, check_kind
from trainer_svc.child.model_folder import require_weights
from trainer_svc.child.positions import require_positions
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.spool import Spool

if TYPE_CHECKING:
    from trainer_svc.child.targets import Targets


@dataclass(frozen=True)
class Groundwork:
    """The base model, and its tokenizer, or a processor that has one."""

    base: BaseModel
    processing: Any


def lay_groundwork(
    run: RunSpec, spool: Spool, enter: Callable[[Phase], None], weights: bool = True
) -> Groundwork:
    """Finds, downloads where that is allowed, and checks; `enter` hears of each phase. Without
    `weights` none are downloaded.

    Raises RunFailed, and what the libraries raise.
    """
    require_possible(run)
    enter(Phase.MODEL)
    base = find_base(run, spool, weights)
    if weights or not base.revision:  # those of a folder are there, or the job cannot run
        require_weights(base.folder, base.name)
    check_kind(base, run.spec.model_kind)
    return Groundwork(base, kind_of(run).load_processing(base))


def judge_values(run: RunSpec, base: BaseModel, enter: Callable[[Phase], None]) -> "Targets":
    """What LoRA is for; refuses values that do not fit the model, by its modules without their
    weights. Raises RunFailed, and what the libraries raise."""
    from trainer_svc.child.targets import find_targets

    kind, wanted = kind_of(run), run.spec.hyperparameters
    empty = kind.empty(base)
    enter(Phase.CONFIG)
    untouched = kind.untouched(empty)
    require_positions(empty, wanted, untouched)
    return find_targets(empty, wanted, untouched)


def find_base(run: RunSpec, spool: Spool, weights: bool = True) -> BaseModel:
    """The model in a folder on this host. Raises RunFailed."""
    asked = run.spec.model
    found = find_model(asked.name, asked.revision, run.model_roots, run.allow_hub)
    if isinstance(found, Path):
        return BaseModel(asked.name, "", found, run.trust_remote_code)
    from trainer_svc.child.hub import download_model
    from trainer_svc.child.pins import pins_of

    folder, commit = download_model(found, pins_of(run), spool, run.trust_remote_code, weights)
    return BaseModel(asked.name, commit, folder, run.trust_remote_code)
