"""Weights are verified: the engine holds what the trainer published, and gives tokens the same probabilities.

Two checks, because each sees what the other cannot. *Checksums* after every hand-over compare each tensor bit
for bit and name the one that differs: a noised row, two layers in each other's place, an adapter that was not
taken. *Log-probabilities* of the tokens that the engine sampled, against those of the trainer's own first
pass over them (which training makes anyway), see what is not in the weights: keys and values cached under
older weights, ids fed differently, another kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from agentrl.engine.fingerprint import HoldsWeights, fingerprint
from agentrl.engine.protocol import Engine
from agentrl.errors import ConfigError, RunStopped, unknown
from agentrl.trainers.forward import Forward

NAMED = 3
"""Tensors that a message names."""


SAME = (
    "the weights themselves are the same: look for keys and values cached under older weights, ids that are "
    "fed differently, or another attention kernel"
)
UNKNOWN = "this engine cannot say which weights it holds: look there first"


class WeightsDiffer(RunStopped):
    """Engine and trainer do not have the same policy; the run stops before it learns from that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How far two correct implementations may be apart, in nats of a sampled token's log-probability."""

    mean: float
    largest: float


LIMITS: Mapping[str, Limit] = {
    # Rounding alone gives about 1e-6 in float32 and about 1e-2 in bfloat16, where single tokens of low
    # probability may be apart by nats; weights of another update are beyond the mean in both.
    "float64": Limit(mean=1e-4, largest=1e-2),
    "float32": Limit(mean=1e-4, largest=1e-2),
    "float16": Limit(mean=2e-2, largest=2.0),
    "bfloat16": Limit(mean=1e-1, largest=math.inf),
}


@dataclass(slots=True, kw_only=True)
class Verifier:
    """Hands weights over and checks what came of it; keeps the fingerprint of all that was ever published.

    So a tensor that is not published every time (the base under an adapter) is still compared every time.
    """

    published: dict[str, int] = field(default_factory=dict)

    async def publish(self, engine: Engine, tensors: Mapping[str, Tensor], version: int) -> None:
        """Give the engine new weights and compare what it then holds.

        Raises:
            WeightsDiffer: Names the tensors.
        """
        await engine.update(tensors, version)
        if engine.version != version:
            raise WeightsDiffer(f"the engine serves version {engine.version} after an update to {version}")
        if not isinstance(engine, HoldsWeights):
            return
        dtype = dtype_of(engine)
        before = dict(self.published)
        self.published |= {
            name: fingerprint(t if dtype is None else t.to(dtype)) for name, t in tensors.items()
        }
        held = await engine.fingerprints()
        wrong = [name for name, value in self.published.items() if held.get(name) != value]
        if wrong:
            words = [self._describe(name, held, before) for name in wrong[:NAMED]]
            more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            raise WeightsDiffer(
                f"the engine does not hold the weights that were published as version {version}: "
                f"{'; '.join(words)}{more}: the hand-over lost or changed them"
            )

    def _describe(self, name: str, held: Mapping[str, int], before: Mapping[str, int]) -> str:
        """Say what is wrong with a tensor."""
        if name not in held:
            return f"{name!r} is not there"
        if held[name] == before.get(name):
            return f"{name!r} still has its earlier values"
        other = next((n for n, value in self.published.items() if value == held[name] and n != name), None)
        return f"{name!r} holds what belongs to {other!r}" if other else f"{name!r} has other values"

    def compare(
        self,
        engine: Engine,
        forward: Forward,
        *,
        mean: float,
        largest: float,
        version: int,
        first: float | None = None,
    ) -> None:
        """Judge how far engine and trainer were apart on tokens that were sampled under the same weights.

        Args:
            engine, forward: Their types say how far rounding may go.
            mean, largest: Distance of a token, in nats.
            version: Of the weights.
            first: The mean over first turns, for whoever reads why the run stopped.

        Raises:
            WeightsDiffer: Farther than rounding explains in the coarser type of the two.
            ConfigError: Nobody has said yet how far a type of this name rounds.
        """
        if engine.capabilities.dtype is None:
            return
        name, limit = coarser(engine.capabilities.dtype, type_of_passes(forward))
        if mean <= limit.mean and largest <= limit.largest:
            return
        raise WeightsDiffer(
            f"engine and trainer differ in the log-probabilities of tokens sampled under version {version}: "
            f"by {mean:.2g} nats in the mean and {largest:.2g} at most (allowed in {name}: {limit.mean:g} "
            f"and {limit.largest:g}); {SAME if isinstance(engine, HoldsWeights) else UNKNOWN}",
            facts={
                "mismatch_mean": mean,
                "mismatch_max": largest,
                "mismatch_first": first,
                "version": version,
            },
        )


def dtype_of(engine: Engine) -> torch.dtype | None:
    """Give the type in which an engine holds its weights; None where it has none."""
    name = engine.capabilities.dtype
    return None if name is None else getattr(torch, name)


def type_of_passes(forward: Forward) -> str:
    """Name the type in which the trainer computes, such as 'bfloat16'."""
    return "bfloat16" if forward.precision == "bf16" else str(forward.dtype).removeprefix("torch.")


def coarser(*names: str) -> tuple[str, Limit]:
    """Give the type that rounds most, and its limit.

    >>> coarser("float32", "bfloat16")[0]
    'bfloat16'
    """
    for name in names:
        if name not in LIMITS:
            raise ConfigError(unknown("type of weights with a limit in LIMITS", name, LIMITS))
    return max(((name, LIMITS[name]) for name in names), key=lambda pair: pair[1].mean)
