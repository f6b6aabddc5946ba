"""What the weights of a loaded model take, kind by kind, and what LoRA reaches.

python -m trainer_svc.child.weights_account FOLDER [--full-precision] prints what a
model would take, from its config alone.

Owns the account that event and manifest give: it is read from the modules as
they are, never from what was asked for. `plan` computes the same without weights;
a test holds the two together.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import QuantState
from bitsandbytes.nn.modules import Int8Params, Params4bit
from bitsandbytes.nn.parametrize import Bnb4bitParametrization
from torch import nn
from transformers import PreTrainedModel

from trainer_svc.child.nf4 import is_experts, packed_names
from trainer_svc.child.targets import LINEAR, is_router

# bitsandbytes: 64 weights share a scale, 256 scales share a scale of theirs.
BLOCK, BLOCK_OF_SCALES = 64, 256
FLOAT_BYTES = 4
CODES_BYTES = (16 + 256) * FLOAT_BYTES + FLOAT_BYTES
"""The values of 4-bit and 8-bit codes, and the mean of the scales, per packed parameter."""
PARAMETRIZED = ".parametrizations."


@dataclass
class Account:
    """Bytes and parameters by kind: "linear", "experts", "embeddings", "output", "routers",
    "beside" (what is beside the language model: a vision tower), "other"."""

    packed_bytes: Counter[str] = field(default_factory=Counter)
    full_bytes: Counter[str] = field(default_factory=Counter)
    parameters: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    """Of what is packed: "nf4, double quantisation", "int8", ...; in parameters."""
    unpacked_bytes: int = 0
    """Of all layers' packed experts, unpacked. They are kept for the backward pass unless the
    activations are recomputed (gradient_checkpointing)."""
    unpacked_bytes_max: int = 0
    """Of one layer's, while it computes."""

    @property
    def quantisation(self) -> str:
        """The formats, the one with most parameters first; "none" without any."""
        return "; ".join(name for name, _ in self.formats.most_common()) or "none"

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.packed_bytes.total() + self.full_bytes.total()

    def as_dict(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "format": self.quantisation,
            "parameters": self.parameters,
            "quantised_bytes": dict(sorted(self.packed_bytes.items())),
            "full_precision_bytes": dict(sorted(self.full_bytes.items())),
            "experts_unpacked_bytes": self.unpacked_bytes,
            "experts_unpacked_bytes_max": self.unpacked_bytes_max,
        }

    def sentence(self) -> str:
        """For people."""
        full = _listed(self.full_bytes)
        if not self.formats:
            return f"nothing is quantised; {in_units(self.bytes)} in full precision ({full})"
        return (
            f"{in_units(self.packed_bytes.total())} in {self.quantisation}"
            f" ({_listed(self.packed_bytes)}), {in_units(self.full_bytes.total())} in full"
            f" precision ({full})"
        )

    def add_packed(self, kind: str, parameters: int, size_bytes: int, name: str) -> None:
        """A quantised parameter; `name` is its format's."""
        self.packed_bytes[kind] += size_bytes
        self.parameters += parameters
        self.formats[name] += parameters

    def add_full(self, kind: str, parameter: torch.Tensor) -> None:
        """One in full precision."""
        self.full_bytes[kind] += parameter.numel() * parameter.element_size()
        self.parameters += parameter.numel()


def measure(model: PreTrainedModel, beside: Sequence[str] = ()) -> Account:
    """The account of a loaded model without LoRA; `beside` names the modules beside its
    language model."""
    account = Account()
    for path, module, name, parameter in _parameters(model):
        parametrization = _parametrization(module, name)
        place = path.partition(PARAMETRIZED)[0]
        kind = _kind(model, place, model.get_submodule(place), parameter, beside)
        if parametrization is not None:
            state = parametrization.quant_state
            account.add_packed(
                "experts", _numel(state), _packed_bytes(parameter, state), _format(state)
            )
            account.unpacked_bytes += _unpacked_bytes(state)
            of_layer = sum(_unpacked_bytes(one) for one in _states(model.get_submodule(place)))
            account.unpacked_bytes_max = max(account.unpacked_bytes_max, of_layer)
        elif isinstance(parameter, Params4bit):
            state = parameter.quant_state
            account.add_packed(kind, _numel(state), _packed_bytes(parameter, state), _format(state))
        elif isinstance(parameter, Int8Params):
            account.add_packed(kind, parameter.numel(), parameter.numel(), "int8")
        else:
            account.add_full(kind, parameter)
    return account


def plan(
    model: PreTrainedModel,
    nf4: bool,
    dtype: torch.dtype,
    unquantised: Sequence[str] = (),
) -> Account:
    """The same of a model without weights, as load_base would load it."""
    account = Account()
    packed = packed_names(model, unquantised) if nf4 else set()
    for path, module, name, parameter in _parameters(model):
        kind = _kind(model, path, module, parameter, unquantised)
        if f"{path}.{name}" not in packed:
            account.add_full(kind, torch.empty_like(parameter, dtype=dtype, device="meta"))
            continue
        blocks = -(-parameter.numel() // BLOCK)
        size_bytes = (
            -(-parameter.numel() // 2)
            + blocks
            + -(-blocks // BLOCK_OF_SCALES) * FLOAT_BYTES
            + CODES_BYTES
        )
        account.add_packed(kind, parameter.numel(), size_bytes, "nf4, double quantisation")
        if kind == "experts":
            account.unpacked_bytes += parameter.numel() * dtype.itemsize
            own = (one.numel() for one in module.parameters(recurse=False) if one.dim() > 2)
            of_layer = sum(own) * dtype.itemsize
            account.unpacked_bytes_max = max(account.unpacked_bytes_max, of_layer)
    return account


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, torch.Tensor]]:
    """Module path, module, name and value of each parameter, once."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield path, module, name, parameter


def _kind(
    model: PreTrainedModel,
    path: str,
    module: nn.Module,
    parameter: torch.Tensor,
    beside: Sequence[str],
) -> str:
    known: Any = model  # its methods are untyped
    if module is known.get_input_embeddings():
        return "embeddings"
    if module is known.get_output_embeddings():
        return "output"
    if any(path == part or path.startswith(f"{part}.") for part in beside):
        return "beside"
    if is_experts(module, parameter) or type(module).__name__.endswith("Experts"):
        return "experts"
    if is_router(path, module, model.get_submodule(path.rpartition(".")[0])):
        return "routers"
    return "linear" if isinstance(module, LINEAR) and parameter.dim() > 1 else "other"


def _parametrization(module: nn.Module, name: str) -> Bnb4bitParametrization | None:
    """What unpacks the parameter, if `module` is the list that torch keeps it in."""
    if name != "original" or not isinstance(module, nn.ModuleList):
        return None
    return next((one for one in module if isinstance(one, Bnb4bitParametrization)), None)


def _states(module: nn.Module) -> Iterator[QuantState]:
    for listed in getattr(module, "parametrizations", {}).values():
        yield from (one.quant_state for one in listed if isinstance(one, Bnb4bitParametrization))


def _numel(state: QuantState) -> int:
    return int(torch.Size(state.shape).numel())


def _unpacked_bytes(state: QuantState) -> int:
    return _numel(state) * int(state.dtype.itemsize)


def _packed_bytes(data: torch.Tensor, state: QuantState) -> int:
    tensors = [data, state.absmax, state.code]
    if state.nested:
        tensors += [state.state2.absmax, state.state2.code, state.offset]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _format(state: QuantState) -> str:
    return f"{state.quant_type}, double quantisation" if state.nested else str(state.quant_type)


def _listed(sizes: Counter[str]) -> str:
    return ", ".join(f"{kind} {in_units(size)}" for kind, size in sizes.most_common())


def in_units(size_bytes: int) -> str:
    """ "1.2 GiB"."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    from trainer_svc.child.failure import RunFailed
    from trainer_svc.child.model import BaseModel, empty_model

    parser = argparse.ArgumentParser(
        prog="weights_account", description="Prints what a model's weights take, from its config."
    )
    parser.add_argument("folder", type=Path, help="folder with config.json; weights are not read")
    parser.add_argument("--full-precision", action="store_true", help="without NF4")
    options = parser.parse_args(arguments)
    folder: Path = options.folder.resolve()
    try:
        model = empty_model(BaseModel(str(folder), "", folder))
    except (RunFailed, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    account = plan(model, not options.full_precision, torch.bfloat16)
    print(account.sentence(), file=sys.stderr)
    print(json.dumps(account.as_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
