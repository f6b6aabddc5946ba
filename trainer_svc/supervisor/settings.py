"""What the supervisor is told: folders, limits, times. Filled in by the wiring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from svckit.spec import Backend
from trainer_svc.domain.command import DEFAULT_COMMANDS, CommandTable
from trainer_svc.domain.families import Environment
from trainer_svc.supervisor.swift_environment import SwiftEnvironment


@dataclass(frozen=True)
class Settings:
    """All paths are absolute and resolved."""

    workspace: Path
    artifacts: Path
    outputs: Path
    model_roots: Sequence[Path] = ()
    data_roots: Sequence[Path] = ()
    cpu_slots: int | None = None
    """None: one without a GPU, none with one."""
    stop_grace_seconds: float = 30.0
    fence_grace_seconds: float = 5.0
    stop_margin_seconds: float = 10.0
    """Time that a shim has, beyond the grace, before its tree is ended without it."""
    stdout_log_bytes_max: int = 64 * 1024 * 1024
    allow_hub: bool = False
    disk_bytes_free_min: int = 1024**3
    sample_interval_seconds: float = 10.0
    run_retention_seconds: float = 30 * 86400.0
    data_checks_max: int = 2
    """Data checks at once; none of them holds a slot."""
    data_check_seconds_max: float = 1800.0
    commands: CommandTable = field(default_factory=lambda: DEFAULT_COMMANDS)
    missing_backends: Mapping[Backend, str] = field(default_factory=dict)
    """Why a backend of the table, or one that is known, cannot run here."""
    environments: Mapping[Backend, Environment] = field(default_factory=dict)
    """What is installed where each backend trains; left out: not looked at."""
    swift: SwiftEnvironment | None = None
    trust_remote_code_models: frozenset[str] = frozenset()
    """Names, as a spec gives them, of models whose own code an administrator allowed."""
