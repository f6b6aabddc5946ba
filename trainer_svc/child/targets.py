"""Which layers of a model get LoRA, settled before its weights are loaded.

Owns what a name in target_modules stands for, and what "all-linear" means: every
linear layer of the language model except the output layer and routers. Fused
experts are parameters, not layers: they are reached by name only. Refuses, with
CONFIG_INVALID and the names that the model has: names that match nothing, that
are not layers LoRA can sit on, or that belong to parts which stay as they are.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from tunewright.v1.spec_pb2 import Hyperparameters

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.model import ALL_LINEAR
from trainer_svc.child.nf4 import experts

NAMED_MAX = 30
"""Names of layers in a message."""
NAME_CHARS_MAX = 100
LINEAR = (nn.Linear, Conv1D)
LAYERS = (*LINEAR, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What peft can put LoRA on."""
ROUTER_NAMES = frozenset({"gate", "router"})


@dataclass(frozen=True)
class Targets:
    """What peft is given: names of modules, or ["all-linear"], and of parameters with experts."""

    modules: tuple[str, ...]
    parameters: tuple[str, ...] = ()


def find_targets(
    model: PreTrainedModel, wanted: Hyperparameters, untouched: Sequence[str] = ()
) -> Targets:
    """What target_modules stands for in `model`, which need not have weights; the modules
    `untouched` get none. Raises RunFailed."""
    layers = _Layers(model, untouched)
    if list(wanted.target_modules) == [ALL_LINEAR]:
        return _all_linear(model, layers)
    found = [layers.place_of(name) for name in wanted.target_modules]
    absent = [name for name, place in zip(wanted.target_modules, found, strict=True) if not place]
    if absent:
        raise layers.refusal(absent)
    modules = [n for n, p in zip(wanted.target_modules, found, strict=True) if p == "layer"]
    parameters = [n for n, p in zip(wanted.target_modules, found, strict=True) if p == "experts"]
    if parameters:
        _require_reachable(parameters, wanted)
    lost = [name for name in modules if not _peft_takes(model, name.split(".")[-1])]
    if lost:
        raise _refused(
            f"target_modules: in a {model.config.model_type}, peft takes {_some(lost)} for the"
            " fused experts and not for the layers of that name",
            f"Leave {_some(lost)} out, or use [{ALL_LINEAR!r}].",
        )
    return Targets(tuple(modules), tuple(parameters))


def is_router(path: str, module: nn.Module, siblings: nn.Module) -> bool:
    """Whether a layer chooses between experts."""
    leaf = path.rsplit(".", 1)[-1]
    return "Router" in type(module).__name__ or (
        leaf in ROUTER_NAMES and hasattr(siblings, "experts")
    )


def lora_reach(model: nn.Module) -> dict[str, int]:
    """How many modules of each kind have LoRA: "linear", "experts", "routers", "other"."""
    from peft.tuners.lora import ParamWrapper
    from peft.tuners.lora.layer import LoraLayer

    reached: Counter[str] = Counter()
    for path, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        base = module.get_base_layer()
        parent = model.get_submodule(path.rpartition(".")[0])
        if isinstance(module, ParamWrapper):
            reached["experts" if module.num_experts > 1 else "routers"] += 1
        elif is_router(path, base, parent):
            reached["routers"] += 1
        else:
            reached["linear" if isinstance(base, LINEAR) else "other"] += 1
    return dict(reached)


class _Layers:
    """The names of one model's modules, sorted by what LoRA can do with them."""

    def __init__(self, model: PreTrainedModel, untouched: Sequence[str]) -> None:
        known: Any = model  # its methods are untyped
        vocabulary = (known.get_input_embeddings(), known.get_output_embeddings())
        self.linear: list[str] = []
        self.routers: list[str] = []
        self._layers: list[str] = []
        self._vocabulary: list[str] = []
        self._beside: list[str] = []
        self._others: list[str] = []
        for path, module in model.named_modules():
            if any(path == part or path.startswith(f"{part}.") for part in untouched):
                self._beside.append(path)
            elif any(module is one for one in vocabulary):
                self._vocabulary.append(path)
            elif is_router(path, module, model.get_submodule(path.rpartition(".")[0])):
                self.routers.append(path)
            elif isinstance(module, LAYERS):
                self._layers.append(path)
                self.linear += [path] if isinstance(module, LINEAR) else []
            else:
                self._others.append(path)
        self.experts = [name for name, _, _ in experts(model) if not self._is_beside(name)]

    def place_of(self, name: str) -> str:
        """ "layer", "experts" or "" of what `name` matches."""
        if any(_matches(name, path) for path in self._layers):
            return "layer"
        return "experts" if any(_matches(name, path) for path in self.experts) else ""

    def refusal(self, absent: Sequence[str]) -> RunFailed:
        """Why these names are of no use."""
        reasons = "; ".join(self._reason(name) for name in absent[:5])
        more = f"; and {len(absent) - 5} more" if len(absent) > 5 else ""
        names = sorted({path.rsplit(".", 1)[-1] for path in self.linear})
        fused = sorted({".".join(path.split(".")[-2:]) for path in self.experts})
        hint = f"The model's linear layers are {_some(names)}"
        if fused:
            hint += f", and its experts, which are fused, {_some(fused)}"
        return _refused(f"target_modules: {reasons}{more}", f"{hint}; or use [{ALL_LINEAR!r}].")

    def _reason(self, name: str) -> str:
        shown = name[:NAME_CHARS_MAX]
        if any(_matches(name, path) for path in self._vocabulary):
            return f"{shown} is a layer of the vocabulary, which stays as it is"
        if any(_matches(name, path) for path in self.routers):
            return f"{shown} is the router of the experts, which stays as it is"
        if any(_matches(name, path) for path in self._beside):
            return f"{shown} is beside the language model, in a part that stays as it is"
        if any(_matches(name, path) for path in self._others):
            return f"{shown} is not a layer that LoRA can sit on"
        return f"the model has no module {shown}"

    def _is_beside(self, name: str) -> bool:
        return any(name.startswith(f"{path}.") for path in self._beside)


def _all_linear(model: PreTrainedModel, layers: _Layers) -> Targets:
    """As peft has it where it means every linear layer; else by name, because peft would take it
    for routers and fused experts too."""
    if not layers.routers and not layers.experts:
        return Targets((ALL_LINEAR,))
    reached = [path for path in layers.linear if _peft_takes(model, path.rsplit(".", 1)[-1])]
    if not reached:
        raise _refused(
            "target_modules: the model has no linear layers besides routers and experts",
            "Name the parameters with experts in target_modules.",
        )
    return Targets(tuple(reached))


def _peft_takes(model: PreTrainedModel, leaf: str) -> bool:
    """Whether peft leaves this name alone: for models whose experts were layers once, it takes
    the old names for the fused parameters."""
    config = LoraConfig(target_modules=[leaf])
    try:
        convert_peft_config_for_transformers(config, model, None)
    except ValueError:  # a part of what is fused
        return False
    return leaf in (config.target_modules or ())


def _require_reachable(names: Sequence[str], wanted: Hyperparameters) -> None:
    """LoRA on a parameter is added to it while it is used: what is packed cannot take it, and
    there is no input that dropout could be applied to."""
    for obstacle, present in (
        ("load_in_4bit", wanted.load_in_4bit),
        ("lora_dropout", wanted.lora_dropout > 0),
        ("use_dora", wanted.use_dora),
    ):
        if present:
            off = "0" if obstacle == "lora_dropout" else "false"
            raise _refused(
                f"target_modules: LoRA on fused experts ({_some(names)}) does not work with"
                f" {obstacle}",
                f"Set {obstacle} to {off}, or leave the experts out.",
            )


def _matches(name: str, path: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(_shown(names))


def _shown(names: Sequence[str]) -> Iterator[str]:
    yield from (name[:NAME_CHARS_MAX] for name in names[:NAMED_MAX])
    if len(names) > NAMED_MAX:
        yield f"and {len(names) - NAMED_MAX} more"


def _refused(message: str, hint: str) -> RunFailed:
    return RunFailed(Cause.CONFIG_INVALID, message, hint)
