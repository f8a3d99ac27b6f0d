"""Writes a training run down as it goes on, and finds it again after a crash.

A step is committed in this order: its rows reach the disk, then its checkpoint. What is found again is the
last whole checkpoint; rows behind it are removed, except the episodes that its own weights have played, which
the coming step takes over. So a run that is killed at any moment loses at most the step that it was in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from agentrl.ending import Ending
from agentrl.errors import ConfigError
from agentrl.progress import Progress
from agentrl.rollout.protocol import RolloutStrategy
from agentrl.runs import STOPPED, RunFolder
from agentrl.store.errors import StoreError
from agentrl.store.recording import Recorded
from agentrl.store.store import Store
from agentrl.trainers.checkpoints import START, Checkpoints, TornError, load_weights
from agentrl.trainers.metrics import StepMetrics
from agentrl.trainers.run.loop import Loop
from agentrl.trainers.run.plan import Plan
from agentrl.trainers.tiny.demonstrations import WARM
from agentrl.trainers.tiny.milestones import Milestones


@dataclass(slots=True, kw_only=True)
class Keeper:
    """What is written down of one run."""

    store: Store
    checkpoints: Checkpoints
    every: int = 1
    found: dict[str, Any] | None = None
    """The state that the run goes on from; None where it starts."""
    step: int = 0
    """The last step that a crash cannot take away."""
    committed: int = 0
    """The last step whose rows are written."""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, folder: RunFolder, plan: Plan) -> Keeper:
        """Find what was written down, and remove what lies behind the last whole checkpoint.

        Raises:
            StoreError: It cannot be read or written.
        """
        checkpoints = Checkpoints(folder=folder.checkpoints, run=folder.id, keep=plan.checkpoint.keep)
        state, torn = checkpoints.latest()
        step = 0 if state is None else int(state["step"])
        store = Store(folder.path, run=folder.id, url=plan.store.url)
        try:
            if state is None and store.last_step > plan.checkpoint.every:  # else killed between the two
                raise StoreError(
                    f"{folder.path} holds {store.last_step} steps and no checkpoint: put a copy back into "
                    f"{checkpoints.folder}, or start anew with --fresh"
                )
            store.rewind(step)
            checkpoints.discard_after(step if state is not None else -1)
        except BaseException:
            store.close()
            raise
        notes = [f"{words}: the run goes on from step {step}" for words in torn]
        found = state if step else None
        return cls(
            store=store,
            checkpoints=checkpoints,
            every=plan.checkpoint.every,
            found=found,
            step=step,
            committed=step,
            notes=notes,
        )

    def greet(self, progress: Progress, steps: int) -> None:
        """Say where the run goes on."""
        for line in self.notes:
            progress.note(line)
        if self.step:
            progress.note(f"goes on after step {self.step} of {steps}")

    def steps(self) -> list[StepMetrics]:
        """Give the metrics of the committed steps."""
        return [StepMetrics(**row) for row in self.store.metrics()]

    def recorded(self, inner: RolloutStrategy, phase: str, step: Callable[[], int] = lambda: 0) -> Recorded:
        """Let a strategy play only what is not written down yet."""
        return Recorded(inner=inner, store=self.store, phase=phase, step=step)

    # ------------------------------------------------------------------ start

    def start(self) -> dict[str, Any] | None:
        """Give the state that the first step begins with; None where it must be made (again)."""
        try:
            return self.checkpoints.load(START)
        except TornError:
            return None

    def milestones(self) -> Milestones:
        """Give where a warm start keeps what it has trained so far."""
        file = self.checkpoints.folder / "warm-start.safetensors"
        return Milestones(file=file, run=self.checkpoints.run)

    def save_start(self, model: nn.Module, **more: Any) -> None:
        """Write down the weights that the first step begins with, and forget what led to them."""
        self.checkpoints.save(START, {"weights": weights_of(model), "rng": rng_state(), **more})
        self.store.forget(WARM)
        self.milestones().forget()

    # ------------------------------------------------------------------ steps

    async def commit(self, loop: Loop, metrics: StepMetrics, seconds: Mapping[str, float]) -> None:
        """Make a finished step last."""
        state = loop.state_dict() | {"rng": rng_state(), "seconds": dict(seconds)}
        await asyncio.to_thread(self._commit, metrics, state, last=metrics.step == metrics.steps)

    def _commit(self, metrics: StepMetrics, state: Mapping[str, Any], *, last: bool) -> None:
        self.store.commit(metrics.step, asdict(metrics))
        self.committed = metrics.step
        if last or metrics.step % self.every == 0:
            self.checkpoints.save(metrics.step, state)
            self.step = metrics.step

    def close(self) -> None:
        """Close the store."""
        self.store.close()


@contextlib.contextmanager
def kept(plan: Plan, folder: RunFolder, progress: Progress) -> Iterator[Keeper]:
    """Hold a run's store and lock; says how to go on; a new run that could not begin leaves nothing."""
    try:
        with nothing_new(folder):
            keeper = Keeper.open(folder, plan)
        try:
            keeper.greet(progress, plan.recipe.steps)
            yield keeper
        except KeyboardInterrupt:
            done = f"{keeper.step} of {plan.recipe.steps} steps are saved in {folder.path}"
            progress.note(f"{done}; the same command goes on from there")
            raise
        except StoreError:
            raise
        except ConfigError as error:
            if folder.new and not keeper.committed:
                keeper.store.erase()
                folder.discard()
            else:  # what was found there, as a warm start, may have taken hours
                write_ending(folder, error, keeper)
            raise
        except Exception as error:
            write_ending(folder, error, keeper)
            raise
        finally:
            keeper.close()
    finally:
        folder.close()


@contextlib.contextmanager
def nothing_new(folder: RunFolder) -> Iterator[None]:
    """Leave no new run behind whose store cannot be opened: the same name is free for another one."""
    try:
        yield
    except BaseException:  # also an interrupt while a mistyped host does not answer
        if folder.new:
            folder.discard()
        raise


def write_ending(folder: RunFolder, error: Exception, keeper: Keeper) -> None:
    """Write down why the run stops; where even that cannot be written, the error itself says so."""
    with contextlib.suppress(StoreError):
        folder.write_json(STOPPED, Ending.of(error, step=keeper.committed + 1).to_json())


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Give a model's weights by name, tied ones once."""
    return {name: p.detach() for name, p in model.named_parameters()}


def restore(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Give a model the weights of a checkpoint, and torch its random state."""
    load_weights(weights_of(model), state["weights"])
    set_rng_state(state["rng"])


def rng_state() -> dict[str, Any]:
    """Give the state of torch's own generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Set torch's own generators."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
