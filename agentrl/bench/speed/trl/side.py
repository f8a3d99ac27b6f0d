"""TRL's side: a process under its own Python, which takes one training step at each word."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from agentrl.bench.speed.trl import peer
from agentrl.bench.speed.venvs import python_with
from agentrl.errors import InfrastructureError

REQUIREMENTS = ("trl==1.16.0", "torch==2.13.0", "transformers==5.23.0")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",  # none of its processes outlives ours
    "HF_HUB_OFFLINE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "PYTHONWARNINGS": "ignore",
}
LAST_LETTERS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Settings of TRL that change how fast it is and not what it computes."""

    rows: int = 8
    """Episodes of one forward and backward pass; gradients accumulate to one optimiser step."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    generation: Literal["generate", "static", "continuous"] = "generate"
    """`generate` with a growing or a static cache, or transformers' continuous batching."""
    compiled: bool = False

    def settings(self, *, episodes: int) -> dict[str, Any]:
        """Give keywords of `GRPOConfig`."""
        return {
            "per_device_train_batch_size": self.rows,
            "gradient_accumulation_steps": episodes // self.rows,
            "model_init_kwargs": {"dtype": "float32", "attn_implementation": self.attention},
            "use_transformers_continuous_batching": self.generation == "continuous",
            "cache_implementation": "static" if self.generation == "static" else None,
            "torch_compile": self.compiled,
        }

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items() if value is not False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step took and handled."""

    step_seconds: float
    rollout_seconds: float
    train_seconds: float
    cpu_seconds: float
    prompt_tokens: int
    sampled_tokens: int
    tokens: int
    """Of all rows, prompts and observations included."""
    prompts: str
    """Digest of the prompts' ids."""


class Side:
    """The process; a context that ends it.

    Args:
        python: That of an environment with REQUIREMENTS; None: one that is made for it.

    Raises:
        InfrastructureError: It cannot be made or does not start; the message ends with what it printed.
    """

    def __init__(self, python: Path | None = None) -> None:
        python = python or python_with("trl", *REQUIREMENTS)
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [python, Path(peer.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | ENVIRONMENT,
        )
        try:
            self.versions: dict[str, str] = self._hear()["versions"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def begin(self, model: Path, conversations: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Make a trainer that stands before its first step.

        Raises:
            InfrastructureError: TRL refuses the settings.
        """
        self._say({"model": str(model), "settings": dict(settings), **conversations})
        self._hear()

    def step(self) -> Step:
        """Take one step; behind the last one the trainer is gone.

        Raises:
            InfrastructureError: It failed, or a call of a tool did.
        """
        self._say("go")
        found = self._hear()
        after = self._hear()
        if any(after.get("tool_failures", ())):
            raise InfrastructureError(f"TRL: calls of the tool failed: {after['tool_failures']} of each step")
        return Step(**found)

    def _say(self, word: str | dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((word if isinstance(word, str) else json.dumps(word)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InfrastructureError(f"TRL: {answer['error']}")
        return answer

    def _died(self) -> InfrastructureError:
        self._process.wait()
        self._errors.seek(0)
        return InfrastructureError(f"TRL's process ended: {self._errors.read()[-LAST_LETTERS:]}")
