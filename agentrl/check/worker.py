"""The process in which an environment is checked: it forks once per check and kills what is left.

It reads one JSON request per line and answers with one JSON line each. A fork per check means that no check
sees what another one did to classes and modules, and that a hung environment is killed and named.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentrl.check import shift
from agentrl.check.bench import Bench
from agentrl.check.catalog import PROBES
from agentrl.check.experts import ExpertRaised
from agentrl.check.report import Faulty, Hung, NotApplicable
from agentrl.errors import ConfigError, InfrastructureError
from agentrl.registry import resolve_env

Reply = dict[str, Any]
PR_SET_CHILD_SUBREAPER = 36
MEMORY = 6 << 30


def main(changes: str) -> None:
    """Serve requests until the input ends; `changes` names what differs from an ordinary process."""
    answers, requests = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(0))
    os.dup2(2, 1)
    close_stdin()
    adopt_orphans()
    shift.apply(changes.split(","))
    for line in requests:
        request = json.loads(line) | {"changes": changes.split(",")}
        imported = preload(request)
        reply = imported or run_forked(request)
        print(json.dumps(reply), file=answers, flush=True)


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, so that none escapes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class NoInput(io.TextIOWrapper):
    """A standard input at which nobody sits."""

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """Refuse."""
        raise EOFError("it reads stdin (input()), where nobody types: take input from the model's calls")

    def read(self, size: int | None = -1, /) -> str:
        """Refuse."""
        return self.readline()


def close_stdin() -> None:
    """Let reading from stdin fail at once, here and in processes below, instead of waiting."""
    null = open(os.devnull, "rb")
    os.dup2(null.fileno(), 0)
    sys.stdin = NoInput(null)


def preload(request: Reply) -> Reply | None:
    """Import the environment's module once, before forking; gives a verdict where that fails."""
    try:
        resolve_env(request["name"], **request["settings"])
    except ConfigError as error:
        return {"passed": False, "detail": str(error), "config": True}
    threads = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    if threads and request["check"] == "loads":
        shown = ", ".join(threads)
        return {
            "passed": False,
            "detail": f"importing it started threads ({shown}): start them in open_shared or reset",
        }
    return None


def run_forked(request: Reply) -> Reply:
    """Run one check in a fork and give its verdict, or say where it hung or died."""
    reader, writer = os.pipe()
    folder = tempfile.mkdtemp(prefix="check-")
    if os.fork() == 0:
        os.close(reader)
        execute(request, writer, folder)
        os._exit(0)
    os.close(writer)
    try:
        return read_verdict(reader, request["deadline"])
    finally:
        os.close(reader)
        kill_children()
        shutil.rmtree(folder, ignore_errors=True)


def read_verdict(reader: int, seconds: float) -> Reply:
    """Read notes until the verdict comes, the process dies or time is up."""
    note, rest, end = "starting", b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if not select.select([reader], [], [], left)[0]:
            break
        data = os.read(reader, 65536)
        if not data:
            return {
                "passed": False,
                "detail": f"the process died while {note}: the environment ended it",
                "died": True,
            }
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "note" not in message:
                return dict(message)
            note = message["note"]
    why = f"hung while {note}: no answer within {seconds:.0f} s; give what it waits for a time limit"
    return {"passed": False, "detail": why, "hung": True}


def kill_children() -> None:
    """Kill and reap every process below this one."""
    for _ in range(100):
        children = child_pids()
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


def child_pids() -> list[int]:
    """Give the direct children of this process."""
    pids = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            pids += [int(p) for p in (task / "children").read_text().split()]
    return pids


def execute(request: Reply, pipe: int, folder: str) -> None:
    """Run one check here, with a folder of its own for temporary files, and write its verdict."""
    os.setsid()
    adopt_orphans()
    limit_memory()
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    spec = resolve_env(request["name"], **request["settings"])  # its file's name may be relative
    if "folder" in request["changes"] and not uses_paths(request["settings"]):
        os.chdir(folder)

    def send(message: Reply) -> None:
        os.write(pipe, json.dumps(message).encode() + b"\n")

    bench = Bench(
        spec=spec,
        seconds=request["seconds"],
        seeds=request["seeds"],
        seed=request["seed"],
        folder=folder,
        note=lambda text: send({"note": text[:1000]}),
    )
    with contextlib.suppress(BaseException):
        asyncio.run(judge(PROBES[request["check"]], bench, send))


def uses_paths(settings: Reply) -> bool:
    """Whether a setting names something in the current folder, which its author may do."""
    return any(isinstance(v, str) and v and os.path.exists(v) for v in settings.values())


def limit_memory() -> None:
    """Turn an argument that asks for gigabytes into a MemoryError, before it harms the machine."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


async def judge(probe: Callable[[Bench], Any], bench: Bench, send: Callable[[Reply], None]) -> None:
    """Send a probe's verdict before the loop is torn down, which may hang in a faulty environment."""
    verdict: Reply = {"passed": False}
    try:
        found = await probe(bench)
        verdict = (
            {"passed": True, "detail": found} if isinstance(found, str) else {"passed": True, "data": found}
        )
    except ExpertRaised as reason:
        verdict = {"passed": True, "detail": f"not applicable: {reason}", "expert": str(reason)}
    except NotApplicable as reason:
        verdict = {"passed": True, "detail": f"not applicable: {reason}"}
    except Faulty as fault:
        verdict |= {"detail": str(fault), "hung": isinstance(fault, Hung)}
    except (InfrastructureError, ConfigError) as error:
        verdict |= {"detail": f"{bench.doing}: {error}"}
    except BaseException as error:  # noqa: BLE001 - whatever an environment raises is a finding
        where = traceback.extract_tb(error.__traceback__)[-1]
        shown = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        verdict |= {"detail": f"{bench.doing}: raised {shown}"}
    send(verdict)


if __name__ == "__main__":
    main(sys.argv[1])
