"""NF4 that reaches the experts of a mixture of experts.

transformers keeps a layer's experts in three-dimensional parameters, and its own
quantiser packs linear layers only: the experts, most of such a model, would stay
in full precision. The quantiser here packs them as well, one parameter at a time
while the weights are read, so that they are never on the device unpacked as a
whole. A layer's experts are unpacked while that layer computes, by the
parametrization that bitsandbytes has for this.

Owns which parameters are experts, and which modules NF4 leaves alone.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.nn.modules import Linear4bit
from bitsandbytes.nn.parametrize import replace_parameter_4bit_prequantized
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name, should_convert_module
from transformers.utils.quantization_config import QuantizationMethod

METHOD = "tunewright_nf4"
# What transformers keeps on its models and modules for quantisers.
KEPT_IN_FLOAT32, INITIALISED = "_keep_in_fp32_modules", "_is_hf_initialized"
EXPERT_DIMENSIONS = 3
"""Experts, outputs, inputs."""


def nf4_config(dtype: torch.dtype, unquantised: Sequence[str] = ()) -> BitsAndBytesConfig:
    """NF4 with double quantisation, computing in `dtype`; the modules named stay as they are."""
    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # no stubs
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(unquantised) or None,  # in spite of its name
    )
    config.quant_method = METHOD  # type: ignore[assignment]  # a name that is registered below
    return config


def is_experts(module: nn.Module, parameter: torch.Tensor) -> bool:
    """Whether `parameter`, one of `module`'s own, holds a matrix for each expert."""
    if parameter.dim() != EXPERT_DIMENSIONS or isinstance(module, nn.Conv1d):
        return False
    counts = (getattr(module, name, None) for name in ("num_experts", "total_experts"))
    return parameter.shape[0] in counts or type(module).__name__.endswith("Experts")


def experts(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """The name of each parameter with experts, its module, and its name there."""
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if is_experts(module, parameter):
                yield f"{path}.{name}", module, name


def packed_names(model: PreTrainedModel, unquantised: Sequence[str] = ()) -> set[str]:
    """The parameters of an unquantised model that NF4 packs."""
    kept = HfQuantizer.get_modules_to_not_convert(
        model, list(unquantised) or None, list(getattr(model, KEPT_IN_FLOAT32, None) or ())
    )
    linear = (
        f"{path}.weight"
        for path, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, Conv1D))
        and should_convert_module(path, kept)
    )
    of_experts = (name for name, _, _ in experts(model) if should_convert_module(name, kept))
    return {*linear, *of_experts}


class PackExperts(Bnb4bitQuantize):
    """Packs what was read: a linear layer's weight as bitsandbytes does it, or experts."""

    def convert(  # type: ignore[override,no-untyped-def]  # the base takes any keyword
        self, input_dict: dict[str, Any], model: nn.Module | None = None, **keywords
    ) -> dict[str, torch.Tensor]:
        """The packed tensor of each name in `input_dict`."""
        packed: dict[str, torch.Tensor] = {}
        for name, read in input_dict.items():
            module, _ = get_module_from_name(model, name)
            if isinstance(module, Linear4bit):
                packed |= super().convert({name: read}, model=model, **keywords)
                continue
            value = read[0] if isinstance(read, list) else read
            data, state = functional.quantize_4bit(
                value.contiguous(), compress_statistics=True, quant_type="nf4"
            )
            self.hf_quantizer.states[name] = state
            setattr(module, INITIALISED, True)
            packed[name] = nn.Parameter(data, requires_grad=False)
        return packed


@register_quantizer(METHOD)
class Nf4Quantizer(Bnb4BitHfQuantizer):
    """bitsandbytes' quantiser, for linear layers and experts."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.states: dict[str, functional.QuantState] = {}

    def param_needs_quantization(
        self, model: PreTrainedModel, param_name: str, **keywords: Any
    ) -> bool:
        """Whether the parameter is packed when it is read."""
        if super().param_needs_quantization(model, param_name, **keywords):
            return True
        if param_name in self.states:
            return True
        module, name = get_module_from_name(model, param_name)
        parameter = dict(module.named_parameters(recurse=False)).get(name)
        return (
            parameter is not None
            and is_experts(module, parameter)
            and should_convert_module(param_name, self.modules_to_not_convert)
        )

    def get_quantize_ops(self) -> PackExperts:
        """What packs one parameter."""
        return PackExperts(self)  # type: ignore[no-untyped-call]  # no stubs

    def _process_model_after_weight_loading(
        self, model: PreTrainedModel, **keywords: Any
    ) -> PreTrainedModel:
        for path, state in self.states.items():
            module, name = get_module_from_name(model, path)
            place = module.get_parameter(name).device
            replace_parameter_4bit_prequantized(module, name, state.as_dict(packed=False), place)
        self.states.clear()
        # What the libraries know is said about it: bitsandbytes, in 4 bits.
        self.quantization_config.quant_method = QuantizationMethod.BITS_AND_BYTES
        model.quantization_method = QuantizationMethod.BITS_AND_BYTES  # type: ignore[assignment]
        super()._process_model_after_weight_loading(model, **keywords)
        return model
