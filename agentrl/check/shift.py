"""Changes that must not matter to an environment: another clock, order of files, host and user."""

from __future__ import annotations

import datetime
import getpass
import os
import platform
import random
import socket
import time
from collections.abc import Iterable
from typing import Any

SECONDS = 400 * 86400 + 5 * 3600 + 7 * 60 + 11.125
CLOCKS = {"time": SECONDS, "time_ns": int(SECONDS) * 10**9}
HOST, USER = "agentrl-check-host", "agentrl-check-user"
READERS = ("localtime", "gmtime", "ctime")


def apply(changes: Iterable[str]) -> None:
    """Make the named changes to this process."""
    makers = {"clock": move_clock, "files": mix_files, "host": rename_host}
    for name in changes:
        if name in makers:
            makers[name]()


def rename_host() -> None:
    """Give the machine and the user names that cannot be mistaken."""
    real = os.uname()
    moved_uname = os.uname_result((real.sysname, HOST, real.release, real.version, real.machine))
    os.uname = lambda: moved_uname
    socket.gethostname = platform.node = lambda: HOST
    socket.getfqdn = lambda name="": name or HOST
    os.getlogin = getpass.getuser = lambda: USER
    os.environ |= {n: USER for n in ("USER", "LOGNAME", "USERNAME")} | {"HOSTNAME": HOST}


def mix_files() -> None:
    """List folders in an order that changes from call to call, as file systems are allowed to."""
    real = os.listdir

    def listdir(path: Any = ".") -> list[Any]:
        names = list(real(path))
        random.SystemRandom().shuffle(names)
        return names

    os.listdir = listdir


def move_clock() -> None:
    """Move the calendar by more than a year; what measures durations stays."""
    for name, offset in CLOCKS.items():
        setattr(time, name, moved(getattr(time, name), offset))
    for name in READERS:
        setattr(time, name, reading(getattr(time, name)))
    real_strftime = time.strftime
    time.strftime = lambda form, moment=None: real_strftime(form, moment or time.localtime())
    datetime.datetime = MovedDatetime  # type: ignore[misc]
    datetime.date = MovedDate  # type: ignore[misc]


def moved(clock: Any, offset: float) -> Any:
    """Give a clock that runs ahead."""
    return lambda: clock() + offset


def reading(reader: Any) -> Any:
    """Give a function of time whose default is the moved clock."""
    return lambda seconds=None: reader(time.time() if seconds is None else seconds)


class _Like(type):
    """Lets instances of the real class pass as instances of the moved one."""

    real: type

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.real)


class _LikeDatetime(_Like):
    real = datetime.datetime


class _LikeDate(_Like):
    real = datetime.date


class MovedDatetime(datetime.datetime, metaclass=_LikeDatetime):
    """A datetime whose present is moved."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Give the moved present."""
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        """Give the moved present in UTC, without a zone."""
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        """Give the moved present."""
        return cls.now()


class MovedDate(datetime.date, metaclass=_LikeDate):
    """A date whose present is moved."""

    @classmethod
    def today(cls) -> Any:
        """Give the moved day."""
        return cls.fromtimestamp(time.time())
