"""A whole installation for each module of tests: three services as processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tunewright import Client

from tests.support.assets import Assets, make_assets
from tests.support.stack import Stack, running_stack


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    """A tiny model and dialogues."""
    return make_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, assets: Assets) -> Iterator[Stack]:
    """Scheduler, monitor and one trainer with two CPU slots."""
    root = tmp_path_factory.mktemp("stack")
    with running_stack(root, roots=[assets.folder], trainer_flags=["--cpu-slots", "2"]) as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    """A client of the module's installation."""
    with Client(stack.address) as connected:
        yield connected
