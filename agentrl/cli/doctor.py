"""`agentrl doctor`: what this machine has, by really trying each part."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from agentrl.cli.command import Command
from agentrl.cli.drivers import driver
from agentrl.cli.output import Output
from agentrl.errors import ConfigError

EXTRAS = {
    "renderers": ("renderers", "published checkpoints: their chat templates"),
    "lora": ("peft", "training adapters instead of all weights"),
    "postgres": ("psycopg", "rows of runs in PostgreSQL: store.url"),
}
IMPORT_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of trying one part."""

    name: str
    ok: bool
    detail: str
    needed_for: str
    required: bool = False


def find_python() -> Iterator[Finding]:
    """Say which Python runs."""
    ok = (3, 11) <= sys.version_info < (3, 14)
    yield Finding(
        name="python",
        ok=ok,
        detail=f"{platform.python_version()}, {sys.executable}",
        needed_for="all",
        required=True,
    )


def find_torch() -> Iterator[Finding]:
    """Import torch, multiply something, and look for a GPU."""
    needed = "training, and bench with a model"
    try:
        import torch

        (torch.ones(8, 8) @ torch.ones(8, 8)).sum().item()
    except Exception as error:  # a broken installation raises anything
        yield Finding(
            name="torch",
            ok=False,
            detail=f"{type(error).__name__}: {error}",
            needed_for=needed,
            required=True,
        )
        return
    detail = f"{torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores"
    yield Finding(name="torch", ok=True, detail=detail, needed_for=needed, required=True)
    yield Finding(
        name="gpu",
        ok=torch.cuda.is_available(),
        detail=gpu_names(),
        needed_for="models beyond some million parameters",
    )


def gpu_names() -> str:
    """Name the GPUs that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return "none that torch can use"
    devices = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
    return ", ".join(f"{d.name}, {d.total_memory / 2**30:.0f} GiB" for d in devices)


def find_memory() -> Iterator[Finding]:
    """Read free memory and disk."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = available_memory() or free
    yield Finding(
        name="memory", ok=available > 2**30, detail=f"{available / 2**30:.1f} GiB free", needed_for="training"
    )
    disk = shutil.disk_usage(Path.cwd()).free
    yield Finding(
        name="disk",
        ok=disk > 2**30,
        detail=f"{disk / 2**30:.1f} GiB free in {Path.cwd()}",
        needed_for="runs/",
    )


def available_memory() -> int | None:
    """Give the memory that a new process can have, in bytes, as Linux estimates it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def find_sandbox() -> Iterator[Finding]:
    """Run a call in each sandbox level."""
    try:
        levels = driver("sandbox-levels")()
    except ConfigError as error:
        yield Finding(
            name="sandbox", ok=False, detail=str(error), needed_for="tools that run code", required=True
        )
        return
    works = [level.name for level in levels if level.works]
    detail = f"{works[0]} is used" if works else "no level works: environments that run code refuse to start"
    yield Finding(
        name="sandbox", ok=bool(works), detail=detail, needed_for="tools that run code", required=True
    )
    for level in levels:
        said = "a call ran in it" if level.works else level.detail
        yield Finding(name=f"sandbox:{level.name}", ok=level.works, detail=said, needed_for="isolation")


def find_extras() -> Iterator[Finding]:
    """Really import what is optional, each in a process of its own."""
    for extra, (module, needed) in EXTRAS.items():
        ok, detail = try_import(module)
        if detail == "":
            detail = f"not installed: pip install 'agentrl[{extra}]'"
        yield Finding(name=extra, ok=ok, detail=detail, needed_for=needed)


def try_import(module: str) -> tuple[bool, str]:
    """Import a module elsewhere: whether it worked, and what was said; '' if it is not installed."""
    if find_spec(module) is None:
        return False, ""
    try:
        command = [sys.executable, "-W", "ignore", "-c", f"import {module}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"import {module} took more than {IMPORT_SECONDS} s"
    if done.returncode:
        return False, f"import {module} failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1]
    return True, "imported"


PARTS: tuple[Callable[[], Iterator[Finding]], ...] = (
    find_python,
    find_torch,
    find_memory,
    find_sandbox,
    find_extras,
)


def configure(parser: argparse.ArgumentParser) -> None:
    """There are no options."""


def run(options: argparse.Namespace, out: Output) -> int:
    """Try everything; exit code 1 when something required does not work."""
    findings = []
    for part in PARTS:
        for finding in part():
            findings.append(finding)
            mark = "ok  " if finding.ok else "FAIL" if finding.required else "–   "
            out.say(f"  {mark}  {finding.name:<19} {finding.detail}  ({finding.needed_for})")
    healthy = all(f.ok for f in findings if f.required)
    out.say("everything that is required works" if healthy else "something that is required does not work")
    out.result({"ok": healthy, "parts": [asdict(f) for f in findings]})
    return 0 if healthy else 1


COMMAND = Command(
    section="This machine",
    summary="try what this machine has, and say what it is needed for",
    examples=("agentrl doctor", "agentrl doctor --json"),
    configure=configure,
    run=run,
)
