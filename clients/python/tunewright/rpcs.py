"""The table of calls the SDK makes: path, kind of answer, who serves it, and what a repeat does.

Pure: no channel and no I/O. Both transports work from these rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from google.protobuf.message import Message

from tunewright.v1 import (
    data_service_pb2,
    fleet_service_pb2,
    job_pb2,
    job_service_pb2,
    monitor_service_pb2,
    recipe_service_pb2,
    trainer_pb2,
    trainer_service_pb2,
)

Answer = TypeVar("Answer", bound=Message, covariant=True)


class Host(Enum):
    """Who serves a call."""

    SCHEDULER = auto()
    MONITOR = auto()
    TRAINER = auto()

    def at(self, address: str) -> str:
        """In words, for an error."""
        return f"the {self.name.lower()} at {address}"


@dataclass(frozen=True)
class Rpc(Generic[Answer]):
    """One call.

    `repeatable` says that doing it twice is doing it once, so that it may be
    tried again when nobody knows whether the first try arrived. The others
    are tried again only when the service itself asks for it with RetryInfo.
    """

    service: str
    method: str
    answer: type[Answer]
    host: Host = Host.SCHEDULER
    repeatable: bool = True
    streams: bool = False

    @property
    def path(self) -> str:
        """The HTTP/2 path."""
        return f"/tunewright.v1.{self.service}/{self.method}"


# CreateJob and RetryJob are repeatable because each carries a request_id.
CREATE_JOB = Rpc("JobService", "CreateJob", job_pb2.Job)
RETRY_JOB = Rpc("JobService", "RetryJob", job_pb2.Job)
GET_JOB = Rpc("JobService", "GetJob", job_pb2.Job)
LIST_JOBS = Rpc("JobService", "ListJobs", job_service_pb2.ListJobsResponse)
UPDATE_JOB = Rpc("JobService", "UpdateJob", job_pb2.Job)
# A second one of these may meet the state that the first one made, and be refused.
START_JOB = Rpc("JobService", "StartJob", job_pb2.Job, repeatable=False)
CANCEL_JOB = Rpc("JobService", "CancelJob", job_pb2.Job, repeatable=False)
PAUSE_JOB = Rpc("JobService", "PauseJob", job_pb2.Job, repeatable=False)
RESUME_JOB = Rpc("JobService", "ResumeJob", job_pb2.Job, repeatable=False)
DELETE_JOB = Rpc("JobService", "DeleteJob", job_pb2.Job, repeatable=False)
ABANDON_JOB = Rpc("JobService", "AbandonJob", job_pb2.Job, repeatable=False)

CHECK_DATA = Rpc("DataService", "CheckData", data_service_pb2.CheckDataResponse, streams=True)

LIST_RECIPES = Rpc("RecipeService", "ListRecipes", recipe_service_pb2.ListRecipesResponse)
GET_RECIPE = Rpc("RecipeService", "GetRecipe", recipe_service_pb2.Recipe)
# A second one of these would find what the first one did, and be refused or do it again.
CREATE_RECIPE = Rpc("RecipeService", "CreateRecipe", recipe_service_pb2.Recipe, repeatable=False)
UPDATE_RECIPE = Rpc("RecipeService", "UpdateRecipe", recipe_service_pb2.Recipe, repeatable=False)
DELETE_RECIPE = Rpc(
    "RecipeService", "DeleteRecipe", recipe_service_pb2.DeleteRecipeResponse, repeatable=False
)

LIST_TRAINERS = Rpc("FleetService", "ListTrainers", fleet_service_pb2.ListTrainersResponse)
GET_TRAINER = Rpc("FleetService", "GetTrainer", trainer_pb2.Trainer)
CORDON_TRAINER = Rpc("FleetService", "CordonTrainer", trainer_pb2.Trainer)
UNCORDON_TRAINER = Rpc("FleetService", "UncordonTrainer", trainer_pb2.Trainer)
GET_ENDPOINTS = Rpc("FleetService", "GetEndpoints", fleet_service_pb2.Endpoints)

SUBSCRIBE = Rpc(
    "MonitorService",
    "Subscribe",
    monitor_service_pb2.SubscribeResponse,
    host=Host.MONITOR,
    streams=True,
)
STREAM_LOGS = Rpc(
    "MonitorService",
    "StreamLogs",
    monitor_service_pb2.StreamLogsResponse,
    host=Host.MONITOR,
    streams=True,
)
LIST_ENTRIES = Rpc(
    "MonitorService", "ListEntries", monitor_service_pb2.ListEntriesResponse, host=Host.MONITOR
)
GET_METRIC_SERIES = Rpc(
    "MonitorService", "GetMetricSeries", monitor_service_pb2.MetricSeries, host=Host.MONITOR
)

GET_SYSTEM_INFO = Rpc(
    "TrainerService", "GetSystemInfo", trainer_service_pb2.SystemInfo, host=Host.TRAINER
)

ALL: tuple[Rpc[Message], ...] = (
    CREATE_JOB,
    RETRY_JOB,
    GET_JOB,
    LIST_JOBS,
    UPDATE_JOB,
    START_JOB,
    CANCEL_JOB,
    PAUSE_JOB,
    RESUME_JOB,
    DELETE_JOB,
    ABANDON_JOB,
    CHECK_DATA,
    LIST_RECIPES,
    GET_RECIPE,
    CREATE_RECIPE,
    UPDATE_RECIPE,
    DELETE_RECIPE,
    LIST_TRAINERS,
    GET_TRAINER,
    CORDON_TRAINER,
    UNCORDON_TRAINER,
    GET_ENDPOINTS,
    SUBSCRIBE,
    STREAM_LOGS,
    LIST_ENTRIES,
    GET_METRIC_SERIES,
    GET_SYSTEM_INFO,
)
