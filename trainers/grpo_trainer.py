"""A thin door to training, in the manner of TRL."""

from __future__ import annotations

import sys
from typing import Any

from agentrl.progress import Progress, progress_for
from agentrl.trainers.grpo import grpo
from agentrl.trainers.run.plan import make_plan
from agentrl.trainers.run.session import train


class GRPOTrainer:
    """Trains a model on an environment with GRPO; the same as `agentrl train`.

    Args:
        model: "tiny", or the folder of a Hugging Face checkpoint.
        env: An environment's class or any of its names.
        seed: Every random choice follows from it.
        run: Name of the folder under `runs/`; None makes one of the others.
        fresh: Delete what an earlier run of this name left.
        progress: Shown there; None: on stdout.
        settings: Keywords of `agentrl.trainers.grpo.grpo`, such as `steps=20`, and settings of other parts by
            name, as in `**{"env.level": 1}`.

    Raises:
        ConfigError: Something does not exist, or has a wrong value; it is found before anything is made.
    """

    def __init__(
        self,
        model: str,
        env: str | type,
        *,
        seed: int = 0,
        run: str | None = None,
        fresh: bool = False,
        progress: Progress | None = None,
        **settings: Any,
    ) -> None:
        self.plan = make_plan(env, model=str(model), algorithm=grpo, seed=seed, settings=settings)
        self._env, self._run, self._fresh, self._progress = env, run, fresh, progress
        self._settings = settings

    def train(self) -> dict[str, Any]:
        """Train, measure before and after on held-out tasks, save; gives what `agentrl train --json` prints.

        The trained model is an ordinary Hugging Face folder, `model/` in the folder `result["run"]`.

        Raises:
            ConfigError: The model cannot learn the demonstrations, or every episode fails.
            FailureBudgetSpent: Too much of the infrastructure failed.
        """
        progress = self._progress or progress_for(sys.stdout)
        try:
            return train(
                self._env,
                model=self.plan.model,
                algorithm=grpo,
                seed=self.plan.seed,
                run=self._run,
                fresh=self._fresh,
                settings=self._settings,
                progress=progress,
            )
        finally:
            progress.close()
