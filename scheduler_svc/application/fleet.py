"""The trainers as people see them: look at, cordon; and where the monitors are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scheduler_svc.application.liveness import Liveness
from scheduler_svc.application.ports import Clock, Reading, Store
from scheduler_svc.domain.errors import TrainerNotFound
from scheduler_svc.domain.fleet import Fleet, Host, fleet_of
from scheduler_svc.domain.job import TrainerId


@dataclass(frozen=True, slots=True)
class HostPage:
    """A page of hosts, by id. `after` None: it is the last."""

    hosts: tuple[Host, ...]
    after: TrainerId | None


class FleetBook:
    """Reads and steers the fleet."""

    def __init__(self, store: Store, clock: Clock, liveness: Liveness) -> None:
        self._store = store
        self._clock = clock
        self._liveness = liveness

    def list(self, page_size: int, after: TrainerId | None = None) -> HostPage:
        """Trainers with ids greater than `after`, 1 to 1000 of them."""
        with self._store.read() as tx:
            hosts = self.read(tx)
        found = [host for one, host in hosts.items() if after is None or one > after]
        page = found[:page_size]
        more = len(found) > page_size
        return HostPage(tuple(page), page[-1].trainer_id if more else None)

    def get(self, trainer_id: TrainerId) -> Host:
        """One trainer. Raises TrainerNotFound."""
        with self._store.read() as tx:
            host = self.read(tx).get(trainer_id)
        if host is None:
            raise TrainerNotFound(trainer_id)
        return host

    def cordon(self, trainer_id: TrainerId) -> Host:
        """No new work goes there; what runs, runs on. Raises TrainerNotFound."""
        return self._set_cordoned(trainer_id, cordoned=True)

    def uncordon(self, trainer_id: TrainerId) -> Host:
        """It takes work again; GPUs set aside for a fault of theirs do, too."""
        return self._set_cordoned(trainer_id, cordoned=False)

    def endpoints(self) -> tuple[str, ...]:
        """Addresses of the monitors that read the feed, the latest heard of first."""
        with self._store.read() as tx:
            found = [monitor.address for monitor in tx.monitors() if monitor.address]
        return tuple(dict.fromkeys(found))

    def read(self, tx: Reading) -> Fleet:
        """All hosts by id, in the order of their ids, as of now."""
        trainers = [self._liveness.latest(one) for one in tx.trainers()]
        states = self._liveness.states(trainers, self._clock.monotonic())
        return fleet_of(trainers, states, tx.held_slots())

    def _set_cordoned(self, trainer_id: TrainerId, *, cordoned: bool) -> Host:
        with self._store.write() as tx:
            trainer = tx.trainer(trainer_id)
            if trainer is None:
                raise TrainerNotFound(trainer_id)
            faulty = trainer.faulty_gpu_ids if cordoned else frozenset[str]()
            tx.put_trainer(replace(trainer, cordoned=cordoned, faulty_gpu_ids=faulty))
        return self.get(trainer_id)
