"""Weights are verified: the engine holds what the trainer published, and gives tokens the same probabilities.

Two checks, because each sees what the other cannot. *Checksums* after every hand-over compare each tensor bit
for bit and name the one that differs: a noised row, two layers in each other's place, an adapter that was not
taken. *Log-probabilities* of the tokens that the engine sampled, against those of the trainer's own first
pass over them (which training makes anyway), see what is not in the weights: keys and values cached under
older weights, ids fed differently, another kernel. They are compared before the first optimiser step, on
tokens that were sampled under the weights of that pass.

How far rounding goes in a type of 16 bits depends on the weights: by 0.0003 nats or by 0.3. So where a
distance is not small, a few of the rows are scored in that type and in float32, and it is held against that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from agentrl.engine.fingerprint import HoldsWeights, fingerprint
from agentrl.engine.protocol import Engine
from agentrl.errors import ConfigError, RunStopped, unknown
from agentrl.trainers.batch import Row
from agentrl.trainers.parts import Mismatch
from agentrl.trainers.passes.forward import Forward
from agentrl.trainers.signal import spread_out

NAMED = 3
"""Tensors that a message names."""


SAME = (
    "the published weights themselves are the same: look for keys and values cached under older weights, "
    "ids that are fed differently, or another attention kernel"
)
UNKNOWN = "this engine cannot say which weights it holds: look there first"


class WeightsDiffer(RunStopped):
    """Engine and trainer do not have the same policy; the run stops before it learns from that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How far two correct implementations may be apart, in nats of a sampled token's log-probability."""

    mean: float
    largest: float

    def allows(self, mismatch: Mismatch) -> bool:
        """Whether rounding explains it; what is no number is not explained."""
        return mismatch.mean <= self.mean and mismatch.largest <= self.largest


LIMITS: Mapping[str, Limit] = {
    # Rounding alone gives about 1e-6 in float32; weights of another update are beyond the mean. In 16 bits,
    # these are for weights of 16 bits, where rounding cannot be measured: single tokens are apart by nats.
    "float64": Limit(mean=1e-4, largest=1e-2),
    "float32": Limit(mean=1e-4, largest=1e-2),
    "float16": Limit(mean=2e-2, largest=2.0),
    "bfloat16": Limit(mean=1e-1, largest=math.inf),
}
SMALL: Mapping[str, Limit] = {
    "float16": Limit(mean=1e-3, largest=0.1),
    "bfloat16": Limit(mean=5e-3, largest=0.5),
}
"""Distances at which nobody needs to measure how far rounding goes."""
WIDER = Limit(mean=4.0, largest=10.0)
"""Times the rounding of the trainer's own pass. An engine whose weights have 16 bits, too, was 1.1 to 2.8
times as far away in the mean and at most 3.4 times in the largest, over models of 2 to 16 layers."""


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
        mismatch: Mismatch,
        *,
        rows: Sequence[Row],
        version: int,
        temperature: float = 1.0,
    ) -> None:
        """Judge how far engine and trainer were apart on tokens that were sampled under the same weights.

        Args:
            engine, forward: Their types say how far rounding may go.
            mismatch: Of the tokens.
            rows: In which they stand.
            version: Of the weights.
            temperature: Of the trainer's log-probs.

        Raises:
            WeightsDiffer: Farther than rounding explains in the coarser type of the two.
            ConfigError: Nobody has said yet how far a type of this name rounds.
        """
        if engine.capabilities.dtype is None:
            return
        name, limit = coarser(engine.capabilities.dtype, type_of_passes(forward))
        if name in SMALL and forward.dtype == torch.float32:
            if SMALL[name].allows(mismatch):
                return
            limit = measured(forward, rows, name, temperature=temperature)
        if limit.allows(mismatch):
            return
        where = SAME if isinstance(engine, HoldsWeights) else UNKNOWN
        raise WeightsDiffer(
            f"engine and trainer differ in the log-probabilities of tokens sampled under version {version}: "
            f"by {mismatch.mean:.2g} nats in the mean and {mismatch.largest:.2g} at most (allowed in {name}: "
            f"{limit.mean:.2g} and {limit.largest:.2g}); {where}",
            facts={
                "mismatch_mean": mismatch.mean,
                "mismatch_max": mismatch.largest,
                "mismatch_first": mismatch.first,
                "version": version,
            },
        )


def measured(forward: Forward, rows: Sequence[Row], name: str, *, temperature: float) -> Limit:
    """Score some rows in a type of 16 bits and in float32, and allow a few times what lies between."""
    distance_N = forward.rounding(spread_out(rows), getattr(torch, name), temperature=temperature)
    least = SMALL[name]
    return Limit(
        mean=max(least.mean, WIDER.mean * float(distance_N.mean())),
        largest=max(least.largest, WIDER.largest * float(distance_N.max())),
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
