"""A model that was warm-started once for all runs."""

from pathlib import Path

import pytest

from tests.diagnose.running import started
from tests.learning.envs.guess import Guess
from tests.learning.envs.two_hop import TwoHop


@pytest.fixture(scope="session")
def two_hop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a checkpoint that solves about a quarter of the tasks of an environment with two tools."""
    return started(TwoHop, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def guess(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the same for an environment without tools."""
    return started(Guess, tmp_path_factory.mktemp("models"))
