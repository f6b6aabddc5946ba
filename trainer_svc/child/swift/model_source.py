"""Where an ms-swift run's base model lies, brought here if it must be.

Owns which hub an id means: Hugging Face with use_hf, else ModelScope, whose
library lives in ms-swift's environment. Whatever brings it, the folder is looked
at before anything loads from it (remote_code.py). Refuses what locations.py and
the hubs refuse (RunFailed).
"""

import json
from pathlib import Path
from tempfile import mkdtemp

from trainer_svc.child.attempt import ExitedWithoutWords
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.hub import CODE_FILES, MODEL_FILES, WEIGHTS, download_model
from trainer_svc.child.locations import HubId, find_model
from trainer_svc.child.model import BaseModel
from trainer_svc.child.model_folder import require_weights
from trainer_svc.child.pins import Pins, Repository, RepositoryKind, pins_of
from trainer_svc.child.run_spec import RunSpec, SwiftEnvironment
from trainer_svc.child.spool import Spool
from trainer_svc.child.swift import inside
from trainer_svc.child.swift.environment import looking_environment
from trainer_svc.child.swift.process import Tree
from trainer_svc.child.swift.relay import Relay
from trainer_svc.child.swift.remote_code import require_no_code
from trainer_svc.child.tokenizer_files import require_as_sentencepiece

SCRIPT = Path(inside.__path__[0], "fetch_model.py")
TURN_SECONDS = 0.1


def find_base(
    run: RunSpec,
    swift: SwiftEnvironment,
    tree: Tree,
    cache: Path,
    spool: Spool,
    weights: bool = True,
) -> BaseModel:
    """The model in a folder that may be loaded; without `weights` none are downloaded. Raises
    RunFailed, ExitedWithoutWords."""
    asked = run.spec.model
    found = find_model(asked.name, asked.revision, run.model_roots, run.allow_hub)
    revision = ""
    if isinstance(found, Path):
        folder = found
    elif run.spec.swift.use_hf:
        folder, revision = download_model(
            found, pins_of(run), spool, run.trust_remote_code, weights
        )
    else:
        folder, revision = _from_modelscope(run, swift, tree, cache, spool, found, weights)
    require_no_code(folder, asked.name, run.trust_remote_code)
    if weights or isinstance(found, Path):
        require_weights(folder, asked.name)
    require_as_sentencepiece(folder, asked.name)
    return BaseModel(asked.name, revision, folder)


def _from_modelscope(
    run: RunSpec,
    swift: SwiftEnvironment,
    tree: Tree,
    cache: Path,
    spool: Spool,
    hub_id: HubId,
    weights: bool,
) -> tuple[Path, str]:
    model = Repository(RepositoryKind.MODEL, hub_id.name, hub_id.revision)
    spool.event("MODEL_DOWNLOADING", f"downloading {model.words}", name=model.key)
    cache.mkdir(parents=True, exist_ok=True)
    answer = Path(mkdtemp(dir=cache)) / "model.json"
    files = [one for one in MODEL_FILES if weights or one != WEIGHTS]
    request = {
        "name": hub_id.name,
        "revision": hub_id.revision,
        "patterns": [*files, *([CODE_FILES] if run.trust_remote_code else [])],
        "answer": str(answer),
    }
    environment = looking_environment(run, cache, uses_hub=True)
    argv = [str(swift.python), str(SCRIPT)]
    program = tree.start(argv, environment, run.paths.run, asks=True)
    program.ask(json.dumps(request).encode() + b"\n")
    relay = Relay(program)
    while (code := program.poll()) is None:
        relay.pump(TURN_SECONDS)
    relay.drain()
    if code != 0:
        raise ExitedWithoutWords(code)
    told = json.loads(answer.read_bytes())
    revision = _pinned(pins_of(run), model, told["commit"], told["revision"])
    text = f"{model.words} is used at revision {revision}"
    spool.event("HUB_PINNED", text, name=model.key, revision=revision)
    return Path(told["folder"]), revision


def _pinned(pins: Pins, model: Repository, commit: str, revision: str) -> str:
    """What the job's first attempt had. ModelScope is asked for branches and tags, which move:
    one that has moved meanwhile is refused (RunFailed)."""
    known = pins.put(model, commit or revision)
    if commit and known not in (commit, revision):
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"{model.words} has changed on the hub since this job began: it was {known}, and"
            f" {revision} is {commit} now",
            "Hand in a new job; it uses what the hub has now.",
        )
    return known
