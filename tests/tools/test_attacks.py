"""Every attack succeeds without isolation and fails at every level, as root and as an ordinary user."""

import asyncio
from typing import Literal

import pytest

from agentrl.tools.sandbox.probe import probe_level
from tests.tools import attacks, ordinary

LEVELS: tuple[Literal["namespaces", "landlock"], ...] = ("namespaces", "landlock")


def escaped(results: dict[str, str]) -> list[str]:
    return [name for name, how in results.items() if how == "escaped"]


def test_every_attack_is_real() -> None:
    results = asyncio.run(attacks.survey("none"))
    assert escaped(results) == list(results), results


def test_every_attack_is_real_for_an_ordinary_user() -> None:
    results = ordinary.run_script("attacks.py", "none")
    assert escaped(results) == list(results), results


@pytest.mark.parametrize("level", LEVELS)
def test_no_attack_escapes(level: Literal["namespaces", "landlock"]) -> None:
    report = probe_level(level)
    if not report.works:
        pytest.skip(report.detail)
    results = asyncio.run(attacks.survey(level))
    assert not escaped(results)
    assert results.keys() == attacks.ATTACKS.keys()


@pytest.mark.parametrize("level", LEVELS)
def test_no_attack_escapes_an_ordinary_user(level: attacks.Level) -> None:
    results = ordinary.run_script("attacks.py", level)
    assert not escaped(results)
    assert results.keys() == attacks.ATTACKS.keys()


def test_a_container_without_user_namespaces_gets_the_other_level() -> None:
    without = ("bwrap", "--unshare-user", "--disable-userns", "--dev-bind", "/", "/", "--")
    results = ordinary.run_script("attacks.py", "auto", wrapper=without)
    assert not escaped(results)
    assert results.keys() == attacks.ATTACKS.keys()
