"""What a trainer can be told; the only reader of its environment and flags."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import Field, field_validator
from tunewright.wire.names import TRAINER_ID_PATTERN

from svckit.config import ServiceConfig, service_settings, split_address
from svckit.spec import Backend
from trainer_svc.domain.command import DEFAULT_COMMANDS, CommandTable
from trainer_svc.domain.families import Environment
from trainer_svc.supervisor.processes import BOOT_ID_FILE
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.swift_environment import (
    SwiftEnvironment,
    find_swift,
    own_environment,
)
from trainer_svc.supervisor.system_info import missing_backends

_NAME_CHARS_MAX = 63


def name_of_host() -> str:
    """The host's name, made a valid trainer id."""
    plain = re.sub(r"[^a-z0-9.-]", "-", socket.gethostname().lower()).strip(".-")
    return plain[:_NAME_CHARS_MAX] or "trainer"


class TrainerConfig(ServiceConfig):
    """Environment `TUNEWRIGHT_TRAINER_*`, flags in kebab case. Paths may be relative."""

    model_config = service_settings("TRAINER")

    listen: str = Field("127.0.0.1:7402", description="host:port to serve on")
    name: str = Field(default_factory=name_of_host, description="id of this trainer")
    scheduler: str = Field("127.0.0.1:7400", description="host:port of the scheduler")
    advertise_address: str | None = Field(
        None, description="host:port where scheduler and monitor reach this trainer"
    )
    workspace: Path = Field(Path("trainer-workspace"), description="folder of this service alone")
    artifacts: Path | None = Field(
        None, description="artifact store: checkpoints; default <workspace>/artifacts"
    )
    outputs: Path | None = Field(None, description="output root; default <workspace>/outputs")
    model_roots: list[Path] = Field(
        default_factory=list, description="folders that models may be in; repeatable"
    )
    data_roots: list[Path] = Field(
        default_factory=list, description="folders that data may be in; repeatable"
    )
    cpu_slots: int | None = Field(
        None, ge=0, le=1024, description="CPU jobs at once; default 1 without a GPU, else 0"
    )
    allow_hub: bool = Field(False, description="models and data may come from a hub")
    swift_python: Path | None = Field(
        None, description="python of the environment that ms-swift is in; without it, no swift jobs"
    )
    trust_remote_code_models: list[str] = Field(
        default_factory=list,
        description="models (folder or hub id) whose own code may run here; repeatable",
    )
    stop_grace_seconds: float = Field(30.0, ge=0, le=3600, description="SIGTERM to SIGKILL")
    fence_grace_seconds: float = Field(5.0, ge=0, le=60, description="the same for a stale run")
    stop_margin_seconds: float = Field(
        10.0, gt=0, le=600, description="beyond the grace, before a shim that hangs is ended too"
    )
    stdout_log_bytes_max: int = Field(
        64 * 1024 * 1024, ge=1024, description="bytes kept of what a child prints"
    )
    disk_bytes_free_min: int = Field(
        1024**3, ge=0, description="free bytes without which no run is started"
    )
    heartbeat_interval_seconds: float = Field(
        5.0, gt=0, le=3600, description="until the scheduler says another one"
    )
    scheduler_timeout_seconds: float = Field(
        10.0, gt=0, le=600, description="bound of one call to the scheduler"
    )
    sample_interval_seconds: float = Field(
        10.0, gt=0, le=3600, description="time between system samples of a running job"
    )
    feed_keepalive_seconds: float = Field(
        15.0, gt=0, le=3600, description="longest silence of a feed stream"
    )
    run_retention_seconds: float = Field(
        30 * 86400.0, ge=0, description="time that the small files of a read run are kept"
    )

    data_checks_max: int = Field(2, ge=0, le=64, description="data checks at once; 0 allows none")
    data_check_seconds_max: float = Field(
        1800.0, gt=0, le=86400, description="longest that one data check may take"
    )

    boot_id_file: Path = Field(
        BOOT_ID_FILE, description="holds an id that is another one after a restart of the host"
    )

    @field_validator("name")
    @classmethod
    def _name_is_an_id(cls, value: str) -> str:
        if not TRAINER_ID_PATTERN.fullmatch(value):
            raise ValueError(f"must match {TRAINER_ID_PATTERN.pattern}, got {value!r}")
        return value

    @field_validator("model_roots", "data_roots")
    @classmethod
    def _are_folders(cls, value: list[Path]) -> list[Path]:
        """They are somebody's folders, and are never made here: a missing one is a slip, or a
        mount that is not there yet."""
        for root in value:
            folder = root.expanduser()
            if not folder.is_dir():
                problem = "is not a folder" if folder.exists() else "no such folder"
                raise ValueError(f"{root}: {problem}")
        return value

    @field_validator("scheduler", "advertise_address")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    def settings(self, commands: CommandTable | None = None) -> Settings:
        """What the supervisor is told; makes workspace, artifact store and output root.

        Raises OSError. `commands` replaces the table of backends.
        """
        workspace = _folder(self.workspace)
        swift, why_no_swift = find_swift(self.swift_python)
        return Settings(
            workspace=workspace,
            artifacts=_folder(self.artifacts or workspace / "artifacts"),
            outputs=_folder(self.outputs or workspace / "outputs"),
            model_roots=[root.expanduser().resolve() for root in self.model_roots],
            data_roots=[root.expanduser().resolve() for root in self.data_roots],
            cpu_slots=self.cpu_slots,
            stop_grace_seconds=self.stop_grace_seconds,
            fence_grace_seconds=self.fence_grace_seconds,
            stop_margin_seconds=self.stop_margin_seconds,
            stdout_log_bytes_max=self.stdout_log_bytes_max,
            allow_hub=self.allow_hub,
            disk_bytes_free_min=self.disk_bytes_free_min,
            sample_interval_seconds=self.sample_interval_seconds,
            run_retention_seconds=self.run_retention_seconds,
            data_checks_max=self.data_checks_max,
            data_check_seconds_max=self.data_check_seconds_max,
            commands=DEFAULT_COMMANDS if commands is None else commands,
            missing_backends=missing_backends(why_no_swift) if commands is None else {},
            environments=_environments(swift),
            swift=swift,
            trust_remote_code_models=frozenset(map(_model_name, self.trust_remote_code_models)),
        )


def _environments(swift: SwiftEnvironment | None) -> Mapping[Backend, Environment]:
    environments = {Backend.QLORA: own_environment()}
    if swift is not None:
        environments[Backend.SWIFT] = swift.environment
    return environments


def _folder(path: Path) -> Path:
    try:
        path.expanduser().mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{path}: is not a folder") from None
    return path.expanduser().resolve()


def _model_name(text: str) -> str:
    """A folder in the one spelling that specs have; a hub id as it is."""
    return str(PurePosixPath(text)) if text.startswith("/") else text
