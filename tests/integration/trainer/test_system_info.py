"""What the service says of its host, and what is not in its process."""

from __future__ import annotations

from tunewright.v1 import spec_pb2, trainer_service_pb2

from tests.integration.trainer.fake_scheduler import FakeScheduler
from tests.integration.trainer.patience import eventually
from tests.integration.trainer.service import TrainerService, mapped_files


async def test_system_info_answers_what_a_user_asks_first(service: TrainerService) -> None:
    info = await service.trainer.GetSystemInfo(trainer_service_pb2.GetSystemInfoRequest())

    assert info.trainer == "trainers/host-a"
    assert info.library_versions["torch"]
    assert info.memory_bytes_total >= info.memory_bytes_available > 0
    assert {disk.role for disk in info.disks} == {"workspace", "artifacts", "outputs"}
    assert list(info.capabilities.backends) == [spec_pb2.BACKEND_QLORA]
    assert info.capabilities.cpu_slots == 2


async def test_there_is_no_torch_in_the_process(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    await service.trainer.GetSystemInfo(trainer_service_pb2.GetSystemInfoRequest())
    await eventually(lambda: scheduler.heartbeats)
    assert service.process is not None

    maps = mapped_files(service.process.pid)

    assert "torch" not in maps
    assert "transformers" not in maps


async def test_a_registration_says_who_it_is(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    await eventually(lambda: scheduler.registrations)

    request = scheduler.registrations[0]

    assert request.trainer == "trainers/host-a"
    assert request.workspace_uuid == service.uuid
    assert request.capabilities.artifact_store
    assert request.boot_id
    assert request.incarnation
