"""The whole application layer, put together: what servicers, loops and simulations call.

Every public method is synchronous, makes its own short transactions, and raises
subclasses of svckit.refusal.Refusal. Nothing here sleeps, logs or starts a thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.application.creation import Creation
from scheduler_svc.application.data_checks import DataChecks
from scheduler_svc.application.dispatch import Dispatch
from scheduler_svc.application.feed import Feed
from scheduler_svc.application.fleet import FleetBook
from scheduler_svc.application.jobs import Jobs
from scheduler_svc.application.lead import Lead
from scheduler_svc.application.liveness import Liveness
from scheduler_svc.application.orders import Orders
from scheduler_svc.application.ports import Clock, Ids, Store
from scheduler_svc.application.progress import ProgressBoard
from scheduler_svc.application.recipes import Recipes
from scheduler_svc.application.registry import Registry
from scheduler_svc.application.settings import Settings
from scheduler_svc.application.upkeep import Upkeep
from scheduler_svc.application.views import Views


@dataclass(frozen=True, slots=True)
class Scheduler:
    """The use cases, by who needs them."""

    lead: Lead
    """take_lead() once at start, before anything but reads; database_uuid, generation."""
    jobs: Jobs
    """JobService."""
    recipes: Recipes
    """RecipeService."""
    fleet: FleetBook
    """FleetService."""
    data_checks: DataChecks
    """DataService."""
    registry: Registry
    """TrainerRegistryService."""
    feed: Feed
    """FeedService."""
    dispatch: Dispatch
    """run() in a loop, and whenever a job was queued or a slot came free."""
    orders: Orders
    """stop_of(job_id) after a cancel or pause: what to push to which trainer at once."""
    upkeep: Upkeep
    """run() once a second: expiry, recovery, run timeouts, storing progress, collection."""


def build(store: Store, clock: Clock, ids: Ids, settings: Settings | None = None) -> Scheduler:
    """Wires the use cases over these ports."""
    chosen = settings or Settings()
    liveness = Liveness(chosen)
    lead = Lead(store, clock, ids, liveness)
    progress = ProgressBoard(store)
    fleet = FleetBook(store, clock, liveness)
    orders = Orders(store, chosen)
    return Scheduler(
        lead=lead,
        jobs=Jobs(
            store, clock, Creation(store, clock, ids, chosen), Views(store, clock, fleet, progress)
        ),
        recipes=Recipes(store, clock),
        fleet=fleet,
        data_checks=DataChecks(store, fleet),
        registry=Registry(store, clock, chosen, lead, liveness, progress),
        feed=Feed(store, clock),
        dispatch=Dispatch(store, clock, chosen, lead, fleet),
        orders=orders,
        upkeep=Upkeep(store, clock, chosen, lead, liveness, progress),
    )
