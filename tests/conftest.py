"""Fixtures that several kinds of tests use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

# First: from now on torchvision can be imported here, whatever build it is of.
import trainer_svc.child  # noqa: F401
from tests.support.postgres import fresh_database, postgres_server

# Several training processes share the cores: threads that spin while they wait would
# take ten times the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Started in the background by a shell, this process would ignore Ctrl-C, and so would
# every child that a test sends it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server, started when the first test asks for it."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """URL of an empty database of the test's own."""
    return fresh_database(postgres_url)
