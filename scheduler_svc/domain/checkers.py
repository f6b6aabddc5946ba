"""Which trainers can check data.

Pure. A check takes no slot and no GPU: all that counts is that the trainer is
heard of and has the backend. Refuses, in the words of a job that waits, where
there is none (TrainerUnavailable).
"""

from __future__ import annotations

from scheduler_svc.domain.errors import TrainerNotFound, TrainerUnavailable
from scheduler_svc.domain.fleet import Fleet, Host, TrainerState
from scheduler_svc.domain.job import TrainerId
from scheduler_svc.domain.pending import cut, no_backend, why_no_work
from scheduler_svc.domain.requirement import Requirement


def checkers(need: Requirement, trainer_id: TrainerId | None, fleet: Fleet) -> list[Host]:
    """Those to ask, in this order: the one that is named, else any, the least busy first.

    One that is named may be cordoned, or lack the backend: then its own answer says so.
    """
    if trainer_id is not None:
        return [_named(trainer_id, fleet)]
    hosts = list(fleet.values())
    if not hosts:
        raise TrainerUnavailable("no trainers are registered")
    able = [host for host in hosts if need.backend in host.trainer.capabilities.backends]
    if not able:
        raise TrainerUnavailable(no_backend(need, hosts))
    ready = [host for host in able if host.takes_work]
    if not ready:
        shut = cut([why_no_work(host) for host in able])
        raise TrainerUnavailable(f"no trainer can check data now: {shut}")
    return sorted(ready, key=lambda host: (len(host.slots), host.trainer_id))


def _named(trainer_id: TrainerId, fleet: Fleet) -> Host:
    host = fleet.get(trainer_id)
    if host is None:
        raise TrainerNotFound(trainer_id)
    if host.state is not TrainerState.READY:
        raise TrainerUnavailable(f"trainers/{why_no_work(host)}")
    return host
