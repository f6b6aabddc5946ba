"""The SDK's tables against the contract, and its imports against their promise."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from tunewright import errors, rpcs
from tunewright.errors import ApiError, TunewrightError
from tunewright.requests import JobArguments
from tunewright.rpcs import Rpc
from tunewright.wire.reasons import CODES

SECRET = "s3cr3t"


@pytest.mark.parametrize("rpc", rpcs.ALL, ids=lambda rpc: rpc.method)
def test_every_call_is_in_the_contract(rpc: Rpc[Message]) -> None:
    service = descriptor_pool.Default().FindServiceByName(f"tunewright.v1.{rpc.service}")

    method = service.methods_by_name[rpc.method]

    assert method.output_type.full_name == rpc.answer.DESCRIPTOR.full_name
    assert method.server_streaming == rpc.streams
    assert rpc.path == f"/tunewright.v1.{rpc.service}/{rpc.method}"


def test_every_code_that_a_reason_has_is_raised_as_an_exception_of_its_own() -> None:
    kinds = {errors.EXCEPTIONS[code] for code in CODES.values()}

    assert ApiError not in kinds
    assert len(kinds) == len(set(CODES.values()))


def test_every_error_is_in_the_drawing_at_the_top_of_its_module() -> None:
    drawing = errors.__doc__ or ""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, TunewrightError)
    ]

    assert len(kinds) > 15
    assert [kind.__name__ for kind in kinds if kind.__name__ not in drawing] == []


def test_the_arguments_that_the_readme_shows_exist() -> None:
    # What the README's example gives.
    assert {
        "model",
        "train_data",
        "output_dir",
        "accelerator",
    } <= JobArguments.__annotations__.keys()


def imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_messages_can_be_imported_without_grpc() -> None:
    modules = imported_by("from tunewright.v1 import feed_pb2")

    assert "tunewright.v1.feed_pb2" in modules
    assert not {"grpc", "tunewright.client", "typer", "rich"} & modules


def test_the_sdk_can_be_imported_without_the_command_line() -> None:
    modules = imported_by("from tunewright import Client, AsyncClient")

    assert {"grpc", "tunewright.aio.client"} <= modules
    assert not {"typer", "rich", "tunewright.cli", "pydantic", "svckit"} & modules


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import tunewright

    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        _ = tunewright.Clinet
