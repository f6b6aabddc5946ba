"""The steps of a data check, for each backend: those of a run, up to its data.

Owns what a check leaves out: weights, checkpoints, training. Where the model
cannot be used, the rows are read and checked all the same: what is wrong with
them is said in one go.
"""

from pathlib import Path
from typing import Any

from tunewright.v1.spec_pb2 import BACKEND_SWIFT, MODEL_KIND_VLM

from trainer_svc.child.attempt import ExitedWithoutWords
from trainer_svc.child.data_check.findings import Findings
from trainer_svc.child.failure import Phase
from trainer_svc.child.receipts import Tally
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.source_rows import check_rows
from trainer_svc.child.sources import PARTS, find_sources, rules_of
from trainer_svc.child.spool import Spool
from trainer_svc.child.steps import total_steps


def check(run: RunSpec, spool: Spool, findings: Findings) -> None:
    """Looks at everything and says the outcome. Raises ExitedWithoutWords after that: then
    there is one failure more, and the output of ms-swift says which."""
    steps = 0
    cache = run.paths.cache
    prepare = _prepare_swift if run.spec.backend == BACKEND_SWIFT else _prepare_qlora
    try:
        steps = prepare(run, cache, spool, findings)
    except ExitedWithoutWords:
        findings.conclude(steps)
        raise
    except Exception as error:
        findings.fail(error)
        if not findings.has_read:
            _read_rows(run, cache, spool, findings)
    findings.conclude(steps)


def _prepare_qlora(run: RunSpec, cache: Path, spool: Spool, findings: Findings) -> int:
    from trainer_svc.child.groundwork import lay_groundwork
    from trainer_svc.child.kinds import kind_of

    ground = lay_groundwork(run, spool, findings.enter, weights=False)
    tokenizer: Any = getattr(ground.processing, "tokenizer", ground.processing)
    findings.decode = lambda ids: str(
        tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )
    findings.enter(Phase.DATA)
    data = kind_of(run).prepare(run, ground.processing, cache, spool, findings)
    return total_steps(len(data.train), run.spec.hyperparameters) if len(data.train) else 0


def _prepare_swift(run: RunSpec, cache: Path, spool: Spool, findings: Findings) -> int:
    from trainer_svc.child.swift.environment import devices
    from trainer_svc.child.swift.preparation import Places, Preparation
    from trainer_svc.child.swift.process import Tree

    tree = Tree()
    try:
        places = Places(cache, run.paths.run / "output")
        ready = Preparation(run, places, tree, spool, findings).execute(findings.enter, False)
    finally:
        tree.end()
    wanted = run.spec.hyperparameters
    rows = ready.data.train_rows // (run.spec.resources.gpu_count or devices(run))
    return 0 if wanted.packing or not rows else total_steps(rows, wanted)


def _read_rows(run: RunSpec, cache: Path, spool: Spool, findings: Findings) -> None:
    """Reads and checks the rows of every source, and encodes none."""
    findings.enter(Phase.DATA)
    wanted = run.spec.hyperparameters
    cuts = run.spec.model_kind != MODEL_KIND_VLM
    try:
        cache.mkdir(parents=True, exist_ok=True)
        rules = rules_of(run, cache, findings)
        for part in PARTS:
            for source in find_sources(run, part, cache, spool, findings):
                tally = Tally(part, source.given, source.place, wanted.max_length, cuts=cuts)
                for _ in check_rows(source, rules, tally):
                    pass
                findings.require_enough(tally, rules.max_dropped_fraction)
    except Exception as error:
        findings.fail(error)
