"""Turns batches into optimiser steps; the loop, demonstrations and (later) pairs drive it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from agentrl.errors import ConfigError
from agentrl.torch_threads import threads_for, torch_threads
from agentrl.trainers.batch import Row, TrainBatch
from agentrl.trainers.comm import Comm, LocalComm
from agentrl.trainers.optimiser import NonFiniteError, Optimiser, OptimiserSettings
from agentrl.trainers.parts import ForwardSpec, StepContext
from agentrl.trainers.passes.backward import backward
from agentrl.trainers.passes.forward import Forward, Scores
from agentrl.trainers.passes.lora import Adapter
from agentrl.trainers.passes.settings import UpdateSettings
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


class Scorer(Protocol):
    """Scores the trained tokens of rows."""

    def __call__(self, rows: Sequence[Row], *, temperature: float = 1.0, entropy: bool = False) -> Scores: ...


class Updater:
    """Owns the weights' training: passes, accumulation, denominators, optimiser, precision.

    Args:
        model: A causal language model of Hugging Face; it is trained in place and kept in evaluation mode.
        settings: Of the optimiser; the learning rate must be given.
        total_steps: Steps of the driver, which the schedule spans.
        update: How passes run, and whether an adapter is trained.
        seed: Of the dealing out of episodes to minibatches, and of an adapter.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: OptimiserSettings,
        *,
        total_steps: int,
        update: UpdateSettings | None = None,
        seed: int = 0,
        comm: Comm | None = None,
    ) -> None:
        self.update = update or UpdateSettings()
        self.model, self.seed, self.comm = model, seed, comm or LocalComm()
        self.threads = threads_for(model)
        self.forward = self.update.forward(model)
        self.adapter = self._adapter()
        self.optimiser = Optimiser(model.parameters(), settings, total_steps=total_steps)
        self.reference: Scorer | None = None
        self.version = 0

    def _adapter(self) -> Adapter | None:
        rank, alpha = self.update.lora_rank, self.update.alpha
        return Adapter(self.model, rank=rank, alpha=alpha, seed=self.seed) if rank else None

    def restart_schedule(self, settings: OptimiserSettings, *, total_steps: int) -> None:
        """Begin another schedule, with the moments kept; betas and weight decay stay as they were."""
        self.optimiser.restart_schedule(settings, total_steps=total_steps)

    def keep_reference(self) -> None:
        """Keep the present weights as the reference model of KL terms; with an adapter, those without it."""
        if self.adapter is None:
            self.reference = self.update.forward(copy.deepcopy(self.model).requires_grad_(False))
        else:
            self.reference = WithoutAdapter(self.forward, self.adapter)

    def score(self, rows: Sequence[Row], *, temperature: float = 1.0, entropy: bool = False) -> Scores:
        """Score rows under the present weights, without gradient."""
        with torch.no_grad(), torch_threads(self.threads):
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
        rate = self.optimiser.learning_rate
        with torch_threads(self.threads):
            loss = backward(self.forward, rows, lambda _, scores: -scores.logp_N.sum() / count)
            norm = self.apply(loss)
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
            with torch.no_grad(), torch_threads(self.threads):
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
        with torch_threads(self.threads):
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
        """Give the weights by name, an adapter merged; shared and not copied where they are as they are.

        Tied ones come once.
        """
        if self.adapter is not None:
            return self.adapter.named_tensors()
        return {name: p.detach() for name, p in self.model.named_parameters()}

    def ordinary(self) -> Ordinary:
        """Give what saves the weights as they are now as an ordinary model folder, also during training."""
        return Ordinary(self)

    def merge(self) -> None:
        """End the training of an adapter: the model is an ordinary one again, with what was learnt."""
        if self.adapter is not None:
            self.adapter.merge()
            self.adapter = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights.

        An adapter is all in it; it belongs to the weights of the start.
        """
        state = {"optimiser": self.optimiser.state_dict(), "version": self.version}
        return state if self.adapter is None else state | {"adapter": self.adapter.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what a checkpoint kept."""
        if (self.adapter is not None) != ("adapter" in state):
            raise ConfigError("the checkpoint and update.lora_rank differ on whether there is an adapter")
        if self.adapter is not None:
            self.adapter.load_state_dict(state["adapter"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.version = int(state["version"])


@dataclass(frozen=True, slots=True)
class WithoutAdapter:
    """Scores rows as if nothing had been trained."""

    forward: Forward
    adapter: Adapter

    def __call__(self, rows: Sequence[Row], *, temperature: float = 1.0, entropy: bool = False) -> Scores:
        """Score rows."""
        with self.adapter.off():
            return self.forward(rows, temperature=temperature, entropy=entropy)


@dataclass(frozen=True, slots=True)
class Ordinary:
    """Writes an updater's weights as a Hugging Face folder."""

    updater: Updater

    def save_pretrained(self, save_directory: str) -> None:
        """Write configuration and weights."""
        model: Any = self.updater.model
        if self.updater.adapter is None:
            model.save_pretrained(save_directory)
        else:
            model.save_pretrained(save_directory, state_dict=self.updater.named_tensors())
