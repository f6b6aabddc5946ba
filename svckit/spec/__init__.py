"""The job spec: one validated model for RPCs and recipe files."""

from svckit.spec.enums import Accelerator, Backend, DataFormat, ModelKind
from svckit.spec.invalid import InvalidSpec
from svckit.spec.model import (
    DataSource,
    Hyperparameters,
    JobSpec,
    ModelSource,
    Resources,
    RetryPolicy,
    SwiftOptions,
)

__all__ = [
    "Accelerator",
    "Backend",
    "DataFormat",
    "DataSource",
    "Hyperparameters",
    "InvalidSpec",
    "JobSpec",
    "ModelKind",
    "ModelSource",
    "Resources",
    "RetryPolicy",
    "SwiftOptions",
]
