"""Ten ways to spoil a run, each by a part, an environment or an engine that a user could have written."""

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from agentrl.engine.protocol import Capabilities, Chunk, Engine, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import Context, Episode, Floats, Group, Ids, ScoredGroup
from agentrl.errors import ToolError
from agentrl.rollout.protocol import RolloutStrategy, WorkItem
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from agentrl.trainers.batch import TrainBatch
from agentrl.trainers.parts import Advantage, Bound, StepContext, Tokens
from agentrl.trainers.recipe import Recipe
from tests.diagnose.running import SMALL, Case
from tests.learning.envs.two_hop import TwoHop

# ------------------------------------------------------------------ engines


@dataclass
class Unverified:
    """An engine of somebody else's: it does not say which weights it holds, nor of which type they are."""

    inner: Engine

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.inner.capabilities, dtype=None)

    @property
    def version(self) -> int:
        return self.inner.version

    def generate(self, ids: Sequence[int] | Ids, sampling: Sampling, *, seed: int) -> AsyncGenerator[Chunk]:
        return self.inner.generate(ids, sampling, seed=seed)

    async def score(self, ids: Sequence[int] | Ids) -> Floats:
        return await self.inner.score(ids)

    async def update(self, named_tensors: Mapping[str, Tensor], version: int) -> None:
        await self.inner.update(named_tensors, version)

    async def pause(self) -> None:
        await self.inner.pause()

    async def resume(self) -> None:
        await self.inner.resume()

    async def close(self) -> None:
        await self.inner.close()


class Stale(Unverified):
    """Takes the first weights and then only their number."""

    first: dict[str, Tensor] | None = None

    async def update(self, named_tensors: Mapping[str, Tensor], version: int) -> None:
        self.first = self.first or {n: t.clone() for n, t in named_tensors.items()}
        await super().update(self.first, version)


class Honest(Stale):
    """The same, but it says which weights it holds: the run stops at once."""

    inner: TorchEngine

    async def fingerprints(self) -> Mapping[str, int]:
        return await self.inner.fingerprints()

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities


# --------------------------------------------------------------- strategies


@dataclass
class Rewritten:
    """Changes what was played before it is written down and trained on."""

    inner: RolloutStrategy
    change: Callable[[Context], Context]

    async def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
        async for group in self.inner.collect(work):
            yield replace(group, episodes=tuple(map(self.changed, group.episodes)))

    def changed(self, episode: Episode) -> Episode:
        return replace(episode, contexts=tuple(map(self.change, episode.contexts)))


def observations_as_actions(context: Context) -> Context:
    """The mask of those who train on all that stands behind the prompt."""
    return replace(
        context,
        segments=tuple(replace(s, kind="action") if s.kind == "observation" else s for s in context.segments),
    )


def without_first_token(context: Context) -> Context:
    """Another template: what is trained on lacks a token wherever something from outside was written."""
    return replace(context, segments=tuple(s if s.sampled else s[1:] for s in context.segments))


def behind_the_prompt(context: Context) -> Context:
    """A template that writes tool results otherwise as soon as they are no longer the latest."""
    first, *rest = context.segments
    return replace(
        context, segments=(first, *(s if s.sampled else replace(s, ids=s.ids[::-1]) for s in rest))
    )


# ------------------------------------------------------------------- recipes


@dataclass(frozen=True, slots=True)
class Negated:
    """Baseline minus reward."""

    inner: Advantage

    def __call__(self, batch: TrainBatch, context: StepContext) -> Tensor:
        return -self.inner(batch, context)


def negated_loss(log_ratio_N: Tensor, bounds: tuple[Bound, Bound], tokens: Tokens) -> Tensor:
    """A loss that is an objective."""
    return log_ratio_N.exp() * tokens.advantage_N


def one_for_all(group: ScoredGroup, context: StepContext) -> ScoredGroup:
    """A reward transform that forgets the rewards."""
    return replace(group, episodes=tuple(replace(e, reward=0.5) for e in group.episodes))


def first_turns_only(advantage_N: Tensor, batch: TrainBatch, context: StepContext) -> Tensor:
    """A mask that leaves out all turns but the first."""
    return advantage_N * (batch.turn_N == 0)


# -------------------------------------------------------------- environments


def indifferent(env: type[ToolEnv]) -> type[ToolEnv]:
    """Every answer is as good as any other."""

    class Indifferent(env):  # type: ignore[misc, valid-type]
        def reward(self, answer: str) -> float:
            return 0.5

    return Indifferent


def leaky(env: type[ToolEnv], answer: Callable[[Any], object]) -> type[ToolEnv]:
    """The task's text says what is to be found out."""

    class Leaky(env):  # type: ignore[misc, valid-type]
        def task(self, rng: Any) -> str:
            question = super().task(rng)
            return f"{question} {answer(self)}"

    return Leaky


def out_of_order(env: type[ToolEnv], name: str, error: Exception) -> type[ToolEnv]:
    """A tool raises in training, whatever it is asked."""
    original = getattr(env, name)

    @tool
    @functools.wraps(original)
    def broken(self: Any, *given: Any, **named: Any) -> object:
        if self.split == "train":
            raise error
        return original(self, *given, **named)

    return type("OutOfOrder", (env,), {name: broken})


def case(env: type = TwoHop, *, settings: dict[str, Any] | None = None, **parts: Any) -> Case:
    return Case(env=env, settings=settings or {}, **parts)


def rewriting(change: Callable[[Context], Context]) -> Callable[[RolloutStrategy], RolloutStrategy]:
    return lambda inner: Rewritten(inner, change)


def with_parts(**parts: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, **parts)


RATE = SMALL["learning_rate"]


def of_any(env: type) -> dict[str, tuple[str, Case]]:
    """Give what can be done to any environment: what must be named first, and the run."""
    return {
        "wrong mask": ("wrong-mask", case(env, strategy=rewriting(observations_as_actions))),
        "half a mask": ("wrong-mask", case(env, recipe=with_parts(shapers=(first_turns_only,)))),
        "stale weights": ("stale-weights", case(env, engine=Stale)),
        "stale weights that are caught": ("stale-weights", case(env, engine=Honest)),
        "forgotten reward": (
            "constant-reward",
            case(env, recipe=with_parts(reward_transforms=(one_for_all,))),
        ),
        "truncated turns": ("truncation", case(env, settings={"rollout.max_tokens_per_turn": 3})),
        "template drift": ("template-drift", case(env, strategy=rewriting(without_first_token))),
        "unseen template drift": (
            "template-drift",
            case(env, strategy=rewriting(behind_the_prompt), engine=Unverified),
        ),
        "learning rate x 100": (
            "learning-rate-too-high",
            case(env, settings={"learning_rate": 100 * RATE, "steps": 4}),
        ),
        "learning rate / 100": ("learning-rate-too-low", case(env, settings={"learning_rate": RATE / 100})),
        "wrong sign": (
            "wrong-sign",
            case(env, recipe=lambda recipe: replace(recipe, advantage=Negated(recipe.advantage))),
        ),
        "wrong loss": ("wrong-sign", case(env, recipe=with_parts(surrogate=negated_loss))),
    }


def of_tools(
    env: type[ToolEnv], name: str, answer: Callable[[Any], object], turns: int
) -> dict[str, tuple[str, Case]]:
    """Give what can be done to an environment with tools; `turns` are fewer than its expert takes."""
    told, bug = ToolError("the directory cannot be reached"), OSError("connection refused")
    return {
        "constant reward": ("constant-reward", case(indifferent(env))),
        "truncated episodes": ("truncation", case(env, settings={"rollout.max_turns": turns})),
        "leaking prompt": ("leaking-prompt", case(leaky(env, answer))),
        "failing tool": ("failing-tool", case(out_of_order(env, name, told))),
        "raising tool": ("failing-tool", case(out_of_order(env, name, bug))),
    }
