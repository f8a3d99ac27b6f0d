"""Which forward pass serves a model, found by trying: the packed one where it is right and repeatable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from agentrl.engine import trial
from agentrl.engine.feed import Feed
from agentrl.engine.kv import KVPool
from agentrl.engine.network import FAMILIES, STATIC_ROPE, Network, hooked
from agentrl.engine.reference import Reference

TILES = (16, 64)
"""What a deterministic step's number of tokens is rounded up to: the first that the trial finds exact."""


class Forward(Protocol):
    """Feeds a step's tokens."""

    @property
    def budget(self) -> int:
        """Most tokens in one step."""
        ...

    @property
    def call_cost(self) -> int:
        """What one more span costs; see `compose`."""
        ...

    def logits(self, feed: Feed, pool: KVPool) -> Tensor:
        """Logits after each of `feed.last`, [S or more, V]; keys and values of all tokens go to the pool."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How a model is served, and what is known about it."""

    packed: Network | None
    reference: Reference
    watched: Reference
    deterministic: bool
    slow_because: str | None
    """Why the reference path serves; None: the packed one does."""

    def forward(self) -> Forward:
        """The pass for the next step.

        Modules with hooks are called, prompts in one piece: what a hook sees and does is not held to the bit.
        """
        if self.packed is None:
            return self.reference
        return self.watched if self.packed.hooked() else self.packed


def choose(model: Any, *, max_context: int, deterministic: bool) -> Served:
    """Find the fastest pass that gives the model's own log-probs, bit for bit repeatable if that is asked."""
    packed: Network | None = None
    reason = _unknown(model)
    if reason is None:
        packed, reason = _packed(model, max_context, deterministic)
    watched = hooked(model.modules())
    return Served(
        packed=packed,
        reference=Reference(model, exact=deterministic and not watched),
        watched=Reference(model, exact=False),
        deterministic=deterministic and not watched,
        slow_because=reason,
    )


def _packed(model: Any, max_context: int, deterministic: bool) -> tuple[Network | None, str | None]:
    reference = Reference(model, exact=False)
    for tile in TILES if deterministic else (1,):
        network = Network(model, max_context=max_context, tile=tile, exact=deterministic)
        if not trial.agrees(network, reference, model, max_context):
            return None, "the packed pass and the model's modules disagree on a trial"
        if not deterministic or trial.repeats(network, model, max_context):
            return network, None
    return None, "this machine's kernels give a token other bits in other company"


def _unknown(model: Any) -> str | None:
    """What about a model the packed pass does not know."""
    name = type(model).__name__
    if type(model) not in FAMILIES:
        return f"{name} is none of {', '.join(f.__name__ for f in FAMILIES)}"
    rope = model.model.rotary_emb.rope_type
    if rope not in STATIC_ROPE:
        return f"{name} has rotations of type {rope!r}, which change with the length of the context"
    if set(getattr(model.config, "layer_types", None) or ()) - {"full_attention"}:
        return f"{name} has layers with a sliding window"
    changed = [
        n for n, m in model.named_modules() if n.endswith(("_proj", "lm_head")) and type(m) is not nn.Linear
    ]
    if changed:
        return f"{name}'s module {changed[0]!r} is not a plain linear map"
    return f"{name} has hooks, which the packed pass would not call" if hooked(model.modules()) else None
