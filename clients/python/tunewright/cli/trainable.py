"""Which models a trainer can train, as lines for people. Pure.

Reads what a trainer reports of each backend's environment (trainer.proto).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tunewright.fields import enum_short_name
from tunewright.v1 import spec_pb2, trainer_pb2


def family_fields(
    capabilities: trainer_pb2.TrainerCapabilities,
) -> Iterator[tuple[str, str]]:
    """("qlora trains text", "Qwen3, ..."), and so on; nothing for a trainer that is older."""
    for backend in capabilities.backends:
        name = backend_name(backend)
        mine = [one for one in capabilities.families if one.backend == backend]
        for kind, reads_pictures in (("text", False), ("pictures", True)):
            able = [
                one.family for one in mine if one.reads_pictures == reads_pictures and _is_able(one)
            ]
            if able:
                yield f"{name} trains {kind}", ", ".join(able)
        unsupported = [one.family for one in mine if one.unsupported]
        if unsupported:
            yield f"{name} does not train", ", ".join(unsupported)
        features = [
            one.feature
            for one in capabilities.features
            if one.backend == backend and not one.missing_packages
        ]
        if features:
            yield f"{name} takes", ", ".join(features)
        note = capabilities.backend_notes.get(spec_pb2.Backend.Name(backend))
        if note:
            yield f"{name} note", note


def missing_packages(
    capabilities: trainer_pb2.TrainerCapabilities,
) -> Mapping[str, Mapping[str, list[str]]]:
    """What is missing, by backend and package: for which families and features."""
    found: dict[str, dict[str, list[str]]] = {}
    for family in capabilities.families:
        if not family.unsupported:
            _note(found, family.backend, family.missing_packages, family.family)
    for feature in capabilities.features:
        _note(found, feature.backend, feature.missing_packages, feature.feature)
    return found


def backend_name(backend: spec_pb2.Backend.ValueType) -> str:
    """ "qlora"."""
    return enum_short_name(spec_pb2.Backend.DESCRIPTOR, backend).lower()


def _is_able(family: trainer_pb2.FamilySupport) -> bool:
    return not family.missing_packages and not family.unsupported


def _note(
    found: dict[str, dict[str, list[str]]],
    backend: spec_pb2.Backend.ValueType,
    packages: Iterable[str],
    wanted_by: str,
) -> None:
    for package in packages:
        found.setdefault(backend_name(backend), {}).setdefault(package, []).append(wanted_by)
