"""FleetService: trainers as people see them, and where the monitors are."""

from importlib.metadata import version

from tunewright.v1 import fleet_service_pb2, fleet_service_pb2_grpc, trainer_pb2

from scheduler_svc.application.fleet import FleetBook
from scheduler_svc.application.lead import Lead
from scheduler_svc.converters.trainers import trainer_message
from scheduler_svc.converters.violations import Violations
from scheduler_svc.domain.job import TrainerId
from scheduler_svc.hop import Hop
from scheduler_svc.rpc.changes import Changes
from scheduler_svc.rpc.context import Context
from scheduler_svc.rpc.page_tokens import PageTokens
from scheduler_svc.rpc.requests import page_size_of, trainer_id_of

VERSION = version("tunewright-server")


class FleetServicer(fleet_service_pb2_grpc.FleetServiceServicer):
    """Converts, and makes one hop to the use cases."""

    def __init__(
        self, fleet: FleetBook, lead: Lead, hop: Hop, changes: Changes, page_max: int
    ) -> None:
        self._fleet = fleet
        self._lead = lead
        self._hop = hop
        self._changes = changes
        self._page_max = page_max

    async def ListTrainers(  # noqa: N802 - the name is the contract's
        self, request: fleet_service_pb2.ListTrainersRequest, context: Context
    ) -> fleet_service_pb2.ListTrainersResponse:
        """A page of trainers, by name."""
        tokens = PageTokens(self._lead.database_uuid)
        noted = Violations()
        page_size = page_size_of(request.page_size, self._page_max, noted)
        after: TrainerId | None = None
        if request.page_token:
            with noted.noting("page_token"):
                after = TrainerId(str(tokens.open(("trainers",), request.page_token)[0]))
        noted.refuse_any()
        page = await self._hop(self._fleet.list, page_size, after)
        return fleet_service_pb2.ListTrainersResponse(
            trainers=[trainer_message(host) for host in page.hosts],
            next_page_token=tokens.seal(("trainers",), (page.after,)) if page.after else "",
        )

    async def GetTrainer(  # noqa: N802 - the name is the contract's
        self, request: fleet_service_pb2.GetTrainerRequest, context: Context
    ) -> trainer_pb2.Trainer:
        """One trainer."""
        trainer_id = trainer_id_of(request.name)
        return trainer_message(await self._hop(self._fleet.get, trainer_id))

    async def CordonTrainer(  # noqa: N802 - the name is the contract's
        self, request: fleet_service_pb2.CordonTrainerRequest, context: Context
    ) -> trainer_pb2.Trainer:
        """No new work goes there."""
        trainer_id = trainer_id_of(request.name)
        return trainer_message(await self._hop(self._fleet.cordon, trainer_id))

    async def UncordonTrainer(  # noqa: N802 - the name is the contract's
        self, request: fleet_service_pb2.UncordonTrainerRequest, context: Context
    ) -> trainer_pb2.Trainer:
        """It takes work again, and gets it at once."""
        trainer_id = trainer_id_of(request.name)
        host = await self._hop(self._fleet.uncordon, trainer_id)
        self._changes.announce()
        return trainer_message(host)

    async def GetEndpoints(  # noqa: N802 - the name is the contract's
        self, request: fleet_service_pb2.GetEndpointsRequest, context: Context
    ) -> fleet_service_pb2.Endpoints:
        """The monitors that read the feed, and the identity of this installation."""
        return fleet_service_pb2.Endpoints(
            monitors=await self._hop(self._fleet.endpoints),
            database_uuid=self._lead.database_uuid,
            version=VERSION,
        )
