"""The checker's side: worker processes that answer requests within a deadline or are killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

IMPORT_SECONDS = 60.0
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Lab:
    """Workers by what differs in them, started when first needed; closing kills all that is left.

    One lab may serve many environments: `with Lab() as lab: check_environment(name, lab=lab)`.
    """

    def __init__(self) -> None:
        self._workers: dict[str, WorkerProcess] = {}

    def ask(self, changes: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have a check done in a process with some `changes`: some of `run.CAUSES`, joined by commas."""
        worker = self._workers.get(changes)
        if worker is None or not worker.alive:
            worker = self._workers[changes] = WorkerProcess(changes)
        return worker.ask(request)

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()


class WorkerProcess:
    """One process that runs checks in forks of itself."""

    def __init__(self, changes: str) -> None:
        kept = [c for c in changes.split(",") if c not in {"hash", "zone"}]
        environment = dict(os.environ) | THREADS | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        environment.pop("PYTHONWARNINGS", None)
        environment["PYTHONHASHSEED"] = "4711" if "hash" in changes else "1"
        if "clock" in changes:
            environment["TZ"] = "Asia/Kathmandu"
        self._errors = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "agentrl.check.worker", ",".join(kept)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,
        )
        self._rest = b""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Give the answer to a request; a worker that does not answer is killed and says so."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._read_line(request["deadline"] + IMPORT_SECONDS)
        except (BrokenPipeError, EOFError):
            return {"passed": False, "detail": f"the process died: {self._last_error()}", "config": True}
        except TimeoutError:
            self.kill()
            return {
                "passed": False,
                "detail": "importing the environment did not end",
                "config": True,
                "hung": True,
            }
        return dict(json.loads(answer))

    def _read_line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        descriptor, end = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._rest:
            if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError
            data = os.read(descriptor, 1 << 16)
            if not data:
                raise EOFError
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def kill(self) -> None:
        """End it; ending its input lets it go by itself first, so that it can reap what it adopted."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()
