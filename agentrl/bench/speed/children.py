"""Measurements in a fresh process, and what a process holds."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import subprocess
import sys
from typing import Any

from agentrl.errors import InfrastructureError

LAST_LINES = 400


def in_child(function: str, *arguments: str) -> Any:
    """Call `module:function` in a process of its own with one thread per library; gives what it returned.

    Raises:
        InfrastructureError: It failed.
    """
    command = [sys.executable, "-m", "agentrl.bench.speed.children", function, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise InfrastructureError(f"{function} failed: {done.stderr[-LAST_LINES:]}")
    return json.loads(done.stdout.splitlines()[-1])


def resident_bytes() -> int:
    """Memory that this process holds, garbage and free pages given back first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Call what the command line names and print what it returned as JSON."""
    place, _, name = sys.argv[1].partition(":")
    print(json.dumps(getattr(importlib.import_module(place), name)(*sys.argv[2:])))


if __name__ == "__main__":
    main()
