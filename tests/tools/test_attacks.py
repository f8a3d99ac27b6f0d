"""Every attack succeeds without isolation and fails at every level, as root, as a user and in containers."""

import asyncio
from collections.abc import Callable, Iterable
from functools import cache

import pytest
from _pytest.mark.structures import ParameterSet

from tests.tools import attacks, containers, ordinary
from tests.tools.attacks import ATTACKS

pytestmark = pytest.mark.timeout(900)  # the first test of a place makes its whole survey

KERNELS_DIFFER = {
    "network: TCP over IPv6",
    "network: UDP over IPv6",
    "network: multipath TCP",
    "network: the virtual machine's host",
    "network: a socket by a 32-bit call",
    "files: a terminal's input",
    "processes: compare",
    "kernel: io_uring",
    "kernel: page faults",
    "kernel: memory that nobody sees",
    "kernel: modules",
    "kernel: ports of the machine",
    "kernel: segments",
    "kernel: a call by the 32-bit door",
}
"""Attacks whose means a kernel may lack: without walls they must succeed or find that it does."""

SLOW = {  # for each, a faster one stands for its level or its user
    "landlock, an ordinary user",
    "a container with Docker's rights for its root",
    "without walls, an ordinary user",
}

SURVEYS: dict[str, Callable[[], dict[str, str]]] = {
    "namespaces": lambda: asyncio.run(attacks.survey("namespaces")),
    "landlock": lambda: asyncio.run(attacks.survey("landlock")),
    "namespaces, an ordinary user": lambda: ordinary.run_script("attacks.py", "namespaces"),
    "landlock, an ordinary user": lambda: ordinary.run_script("attacks.py", "landlock"),
    "a user's container without user namespaces": lambda: ordinary.run_script(
        "attacks.py", "auto", wrapper=containers.OF_A_USER
    ),
    "a container with Docker's rights for its root": lambda: containers.run_script_as_its_root(
        "attacks.py", "auto"
    ),
}
CONTROLS: dict[str, Callable[[], dict[str, str]]] = {
    "without walls": lambda: asyncio.run(attacks.survey("none")),
    "without walls, an ordinary user": lambda: ordinary.run_script("attacks.py", "none"),
}


def places(known: Iterable[str]) -> list[ParameterSet]:
    return [pytest.param(name, marks=pytest.mark.long if name in SLOW else ()) for name in known]


@cache
def survey(where: str) -> dict[str, str]:
    return (SURVEYS | CONTROLS)[where]()


def test_there_are_many_attacks() -> None:
    assert len(ATTACKS) >= 150 and KERNELS_DIFFER <= ATTACKS.keys()


@pytest.mark.parametrize("where", places(CONTROLS))
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_is_real(where: str, name: str) -> None:
    how = survey(where)[name]
    rights = where == "without walls" and ordinary.is_root()
    if not rights and ATTACKS[name].root:
        return  # the other control shows it
    assert how == "escaped" or (how == "absent" and name in KERNELS_DIFFER), how


@pytest.mark.parametrize("where", places(SURVEYS))
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_escapes(where: str, name: str) -> None:
    how = survey(where)[name]
    assert how != "escaped" and "NameError" not in how, how
