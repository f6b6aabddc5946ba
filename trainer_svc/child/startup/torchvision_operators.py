"""Makes torchvision importable where its compiled extension does not load.

Owns the declarations of the operators that the extension would bring. A build
of torchvision for another build of torch (the usual wheel beside a CPU-only
torch) cannot load it, and then `import torchvision` fails: the package
registers gradients and shapes for operators that do not exist. The image
processors of transformers and qwen_vl_utils use none of them. After install(),
torchvision is imported as usual; only if its extension did not load are the
operators declared, and calling one raises NotImplementedError. Costs nothing
where torchvision is never imported, and imports nothing but the standard
library before that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any

# Decides whether the extension loads; imported before anything that needs the operators.
EXTENSION = "torchvision.extension"
_BOXES = "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_GRADIENT = "float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_SIZE = "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_STRIDES = (
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h,"
    " SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask"
)
_CONVOLVED = "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias"
# As the extension of torchvision 0.28 declares them.
SCHEMAS: Sequence[str] = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "box_iou_rotated(Tensor boxes1, Tensor boxes2) -> Tensor",
    f"roi_align({_BOXES}, int sampling_ratio, bool aligned) -> Tensor",
    (
        "qroi_align(Tensor input, Tensor rois, float input_scale, int input_zero_point,"
        " float rois_scale, int rois_zero_point, float spatial_scale, SymInt pooled_height,"
        " SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor"
    ),
    (
        f"_roi_align_backward(Tensor grad, Tensor rois, {_GRADIENT}, {_SIZE}, int sampling_ratio,"
        " bool aligned) -> Tensor"
    ),
    f"roi_pool({_BOXES}) -> (Tensor, Tensor)",
    f"_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, {_GRADIENT}, {_SIZE}) -> Tensor",
    f"ps_roi_align({_BOXES}, int sampling_ratio) -> (Tensor, Tensor)",
    (
        f"_ps_roi_align_backward(Tensor grad, Tensor rois, Tensor channel_mapping, {_GRADIENT},"
        f" int sampling_ratio, {_SIZE}) -> Tensor"
    ),
    f"ps_roi_pool({_BOXES}) -> (Tensor, Tensor)",
    (
        f"_ps_roi_pool_backward(Tensor grad, Tensor rois, Tensor channel_mapping, {_GRADIENT},"
        f" {_SIZE}) -> Tensor"
    ),
    f"deform_conv2d({_CONVOLVED}, {_STRIDES}) -> Tensor",
    (
        f"_deform_conv2d_backward(Tensor grad, {_CONVOLVED}, {_STRIDES})"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
# A library's declarations live as long as the object does.
_declared: list[Any] = []


def install() -> None:
    """From now on torchvision can be imported. Safe to call twice, and under two names."""
    if EXTENSION in sys.modules:
        return
    if not any(type(finder).__name__ == _Finder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def are_declared() -> bool:
    """Whether this process has declared the operators, because the extension did not load."""
    return bool(_declared)


class _Finder(MetaPathFinder):
    """Finds one module only, and lets everything else be found as usual."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As Python asks every finder."""
        if name != EXTENSION:
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is None or not isinstance(found.loader, SourceFileLoader):
            return found
        return spec_from_file_location(name, found.origin, loader=_Loader(name, found.loader.path))


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        """Runs the module; then declares what it could not load."""
        super().exec_module(module)
        has_operators: Callable[[], bool] | None = getattr(module, "_has_ops", None)
        if has_operators is not None and not has_operators():
            _declare()


def _declare() -> None:
    import torch

    if _declared:
        return
    make: Any = torch.library.Library  # untyped
    library = make("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        name = schema.partition("(")[0]
        library.define(schema)
        library.impl(name, _refusing(name), "CPU")
    _declared.append(library)


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(*_arguments: Any, **_named: Any) -> Any:
        raise NotImplementedError(
            f"torchvision::{name} is declared only: torchvision's compiled extension does not"
            " load, because it was built for another build of torch"
        )

    return refuse
