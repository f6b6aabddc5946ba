"""What the monitor can be told: environment TUNEWRIGHT_MONITOR_*, then flags."""

from __future__ import annotations

import socket
from typing import Self

from pydantic import Field, field_validator, model_validator

from monitor_svc.domain.records import Retention
from monitor_svc.hub import HubSettings
from monitor_svc.ingest.appender import AppendSettings
from monitor_svc.ingest.ingest import IngestSettings
from svckit.config import ServiceConfig, service_settings, split_address

_SECONDS_PER_DAY = 86_400.0


class MonitorConfig(ServiceConfig):
    """The monitor's configuration; all bounds have defaults that suit fifty hosts."""

    model_config = service_settings("MONITOR")

    listen: str = Field("127.0.0.1:7401", description="host:port to serve on")
    scheduler: str = Field("127.0.0.1:7400", description="host:port of the scheduler")
    database_url: str = Field(
        "sqlite:///./tunewright-monitor.db", description="sqlite:///FILE or postgresql://..."
    )
    advertise_address: str = Field(
        "", description="host:port that clients reach it at; empty: the one it listens on"
    )
    name: str = Field("", description="name for good, of several monitors; empty: the host's")
    lease_seconds: float = Field(10.0, gt=0, description="silence after which another takes over")
    discovery_seconds: float = Field(10.0, gt=0, description="between two looks for trainers")
    label_refresh_seconds: float = Field(5.0, gt=0, description="between two tries at labels")
    job_wait_seconds: float = Field(
        5.0, ge=0, le=60, description="longest wait for word of a job while no scheduler answers"
    )
    hold_seconds_max: float = Field(
        600.0, gt=0, description="longest that a job's end waits for its last entries"
    )
    append_linger_seconds: float = Field(
        0.02, ge=0, le=1, description="how long the first entry waits for others to be stored with"
    )
    append_entries_max: int = Field(512, ge=1, description="entries to a transaction, about")
    retain_entries_max: int = Field(0, ge=0, description="entries kept of a job; 0: all")
    retain_days: float = Field(
        0.0, ge=0, description="days that a job's entries are kept after its last; 0: for ever"
    )
    retention_check_seconds: float = Field(60.0, gt=0, description="between two looks at that")
    subscriber_buffer_max: int = Field(
        1024, ge=16, description="entries that wait for a slow subscriber"
    )
    message_entries_max: int = Field(1024, ge=1, description="entries to a message at most")
    keepalive_seconds: float = Field(15.0, gt=0, description="silence before a keepalive entry")
    poll_seconds: float = Field(
        0.25, gt=0, description="between two looks for what other monitors stored (PostgreSQL)"
    )

    @field_validator("scheduler")
    @classmethod
    def _scheduler_is_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _advertised_is_host_and_port(self) -> Self:
        if self.advertise_address:
            split_address(self.advertise_address)
        return self

    @property
    def monitor_name(self) -> str:
        """`name`, or the host's."""
        return self.name or socket.gethostname().lower()

    def hub_settings(self, *, is_shared: bool) -> HubSettings:
        """Bounds of the fan-out; `is_shared` if other monitors may use the same database."""
        return HubSettings(
            buffer_entries_max=self.subscriber_buffer_max,
            message_entries_max=self.message_entries_max,
            keepalive_seconds=self.keepalive_seconds,
            poll_seconds=self.poll_seconds if is_shared else 0.0,
        )

    def ingest_settings(self, address: str, instance: str) -> IngestSettings:
        """Bounds of the way in; `address` is where clients reach this monitor."""
        return IngestSettings(
            scheduler_address=self.scheduler,
            reader=f"monitors/{self.monitor_name}",
            reader_address=address,
            instance=instance,
            lease_seconds=self.lease_seconds,
            discovery_seconds=self.discovery_seconds,
            label_refresh_seconds=self.label_refresh_seconds,
            hold_seconds_max=self.hold_seconds_max,
            trim_seconds=self.retention_check_seconds,
            retention=Retention(self.retain_entries_max, self.retain_days * _SECONDS_PER_DAY),
            append=AppendSettings(self.append_linger_seconds, self.append_entries_max),
        )
