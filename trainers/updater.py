"""Turns batches into optimiser steps; the loop, demonstrations and (later) pairs drive it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from agentrl.errors import ConfigError
from agentrl.trainers.backward import backward
from agentrl.trainers.batch import Row, TrainBatch
from agentrl.trainers.comm import Comm, LocalComm
from agentrl.trainers.forward import Forward, Precision, Scores
from agentrl.trainers.optimiser import NonFiniteError, Optimiser, OptimiserSettings
from agentrl.trainers.parts import ForwardSpec, StepContext
from agentrl.trainers.policy import PolicyStats
from agentrl.trainers.policy_step import PolicyStep
from agentrl.trainers.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class SftStats:
    """What one step on demonstrations did."""

    loss: float
    """Mean negative log-likelihood of a trained token, in nats."""
    num_tokens: int
    grad_norm: float
    learning_rate: float


class Updater:
    """Owns the weights' training: passes, accumulation, denominators, optimiser, precision.

    Args:
        model: A causal language model of Hugging Face; it is trained in place and kept in evaluation mode.
        settings: Of the optimiser; the learning rate must be given.
        total_steps: Steps of the driver, which the schedule spans.
        precision: `bf16` runs passes under autocast; weights stay as they are.
        max_tokens: Most tokens of one pass, padding included.
        seed: Of the dealing out of episodes to minibatches.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: OptimiserSettings,
        *,
        total_steps: int,
        precision: Precision = "fp32",
        max_tokens: int = 4096,
        seed: int = 0,
        comm: Comm | None = None,
    ) -> None:
        if max_tokens < 1:
            raise ConfigError(f"max_tokens={max_tokens}: need 1 or more")
        self.model, self.seed, self.comm = model, seed, comm or LocalComm()
        self.forward = Forward(model, max_tokens=max_tokens, precision=precision)
        self.optimiser = Optimiser(model.parameters(), settings, total_steps=total_steps)
        self.reference: Forward | None = None
        self.version = 0

    def restart_schedule(self, settings: OptimiserSettings, *, total_steps: int) -> None:
        """Begin another schedule, with the moments kept; betas and weight decay stay as they were."""
        self.optimiser.restart_schedule(settings, total_steps=total_steps)

    def keep_reference(self) -> None:
        """Copy the present weights as the reference model of KL terms."""
        frozen = copy.deepcopy(self.model).requires_grad_(False)
        self.reference = Forward(frozen, max_tokens=self.forward.max_tokens, precision=self.forward.precision)

    def score(self, rows: Sequence[Row], *, temperature: float = 1.0, entropy: bool = False) -> Scores:
        """Score rows under the present weights, without gradient."""
        with torch.no_grad():
            return self.forward(rows, temperature=temperature, entropy=entropy)

    def sft_step(self, rows: Sequence[Row]) -> SftStats:
        """Take one step of maximum likelihood on the trained tokens of `rows`, each token weighing the same.

        Raises:
            ConfigError: No row has a trained token.
            NonFiniteError: The loss or the gradient is not finite.
        """
        rows = [row for row in rows if len(row.positions)]
        count = float(self.comm.sum(torch.tensor(float(sum(len(r.positions) for r in rows)))))
        if not count:
            raise ConfigError(
                f"{len(rows)} demonstrations without a token of the agent: nothing to learn from"
            )
        loss = backward(self.forward, rows, lambda _, scores: -scores.logp_N.sum() / count)
        rate, norm = self.optimiser.learning_rate, self.apply(loss)
        self.finish_step()
        return SftStats(loss=loss, num_tokens=int(count), grad_norm=norm, learning_rate=rate)

    def annotate(self, batch: TrainBatch, spec: ForwardSpec, *, temperature: float = 1.0) -> TrainBatch:
        """Add the columns that parts read and that need a pass of their own before the update.

        `old` is among them only if a part reads it before the update; else the update sees to it.
        """
        reads = spec.before | spec.during
        if spec.before & {"old", "old_entropy"} or "old_entropy" in reads:
            scores = self.score(batch.rows, temperature=temperature, entropy="old_entropy" in reads)
            batch = batch.with_column("old", scores.logp_N.cpu())
            if scores.entropy_N is not None:
                batch = batch.with_column("old_entropy", scores.entropy_N.cpu())
        if "reference" in reads:
            if self.reference is None:
                raise ConfigError("a part reads the reference model: call keep_reference() before training")
            with torch.no_grad():
                batch = batch.with_column(
                    "reference", self.reference(batch.rows, temperature=temperature).logp_N.cpu()
                )
        return batch

    def policy_step(
        self, batch: TrainBatch, advantage_N: Tensor, recipe: Recipe, context: StepContext
    ) -> PolicyStats:
        """Take the optimiser steps of one step of reinforcement learning.

        Raises:
            ValueError: Not one advantage per trained token.
            NonFiniteError: An advantage, the loss or the gradient is not finite.
        """
        if advantage_N.shape != batch.episode_N.shape:
            shapes = f"{tuple(advantage_N.shape)}, tokens {tuple(batch.episode_N.shape)}"
            raise ValueError(f"advantage {shapes}: need one per trained token; batch.spread makes it so")
        if not bool(advantage_N.isfinite().all()):
            raise NonFiniteError("an advantage is not finite: look at the recipe's advantage and shapers")
        rate = self.optimiser.learning_rate
        stats = PolicyStep(self, batch, advantage_N.detach(), recipe, context).run()
        if not stats.skipped:
            self.finish_step()
        return replace(stats, learning_rate=rate)

    def apply(self, loss: float) -> float:
        """Step the optimiser on the gathered gradients; gives their norm."""
        if not math.isfinite(loss):
            self.optimiser.zero_grad()
            raise NonFiniteError(f"the loss is {loss} at learning rate {self.optimiser.learning_rate:.3g}")
        return self.optimiser.apply(self.comm)

    def finish_step(self) -> None:
        """Count a step of the driver."""
        self.optimiser.advance()
        self.version += 1

    def named_tensors(self) -> dict[str, Tensor]:
        """Give the weights by name, shared and not copied; tied ones once."""
        return {name: p.detach() for name, p in self.model.named_parameters()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights."""
        return {"optimiser": self.optimiser.state_dict(), "version": self.version}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what a checkpoint kept."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.version = int(state["version"])
