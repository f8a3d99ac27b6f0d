"""What must hold of every played episode, checked against what the model was really fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.codec import from_bytes, to_bytes
from agentrl.episode import Context, Episode, ScoredEpisode, ScoredGroup
from agentrl.message import Part, Text, ToolResult
from agentrl.trainers.batch import Row, make_batch
from agentrl.trainers.passes.forward import Forward
from tests.rollout.worlds import (
    TOOLS,
    Heard,
    Kit,
    World,
)

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A finished episode and what was heard of it."""

    kit: Kit
    episode: Episode
    heard: Sequence[Heard]
    temperature: float

    def bias(self, context: Context) -> Doubles:
        """What was added to the logit of each token of a context."""
        heard, values = iter(self.heard), np.zeros(len(context))
        for one in self.episode.contexts:
            for request in [next(heard) for segment in one.segments if segment.kind == "action"]:
                for position, bias in request.bias.items() if one is context else ():
                    values[position] = bias
        return values


def assert_received(played: Played) -> None:
    """Each request was drawn behind exactly the segments before it, and its tokens stand as they came."""
    heard = iter(played.heard)
    for context in played.episode.contexts:
        ids: list[int] = []
        for segment in context.segments:
            if segment.kind == "action":
                request = next(heard)
                assert request.prompt == ids and request.ids == segment.ids.tolist()
                assert request.seen == (ids + request.ids)[:-1]
            ids += segment.ids.tolist()
        assert context.ids.tolist() == ids
    assert next(heard, None) is None


def assert_sampled_columns(played: Played) -> None:
    """Log-probs are finite exactly at what was sampled, and equal a float64 pass over the whole."""
    model = played.kit.exact_model()
    for context in played.episode.contexts:
        actions = np.concatenate([np.full(len(s), s.kind == "action") for s in context.segments])
        for name in ("logp", "untempered", "entropy"):
            assert np.array_equal(np.isfinite(context.column(name)), actions)
        assert np.array_equal(context.sampled, actions) and np.array_equal(context.trained, actions)
        with torch.inference_mode():
            logits = model(input_ids=torch.from_numpy(context.ids[None].astype(np.int64))).logits[0, :-1]
        places = torch.from_numpy(np.flatnonzero(actions))
        targets = torch.from_numpy(context.ids.astype(np.int64))[places]
        logits = logits[places - 1].double()
        logits[torch.arange(len(places)), targets] += torch.from_numpy(played.bias(context))[places]
        for name, temperature in (("untempered", 1.0), ("logp", played.temperature)):
            want = (logits / temperature).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
            got = context.column(name)[actions]  # type: ignore[arg-type]
            np.testing.assert_allclose(got, want.numpy(), atol=1e-5, rtol=0)
    assert played.episode.num_sampled == sum(len(r.ids) for r in played.heard)


def harmless(parts: Sequence[Part]) -> list[Part]:
    return [
        ToolResult(call_id=p.call_id, name=p.name, text="x", error=p.error)
        if isinstance(p, ToolResult)
        else Text("x")
        for p in parts
    ]


def assert_no_control_from_outside(played: Played, world: World) -> None:
    """Control ids in what was fed are those that the template writes around harmless words, BOS once."""
    kit, episode = played.kit, played.episode

    def controls(ids: Any) -> list[int]:
        return [i for i in ids.tolist() if i in kit.controls]

    system = "x" if world.system else ""
    prompt = kit.dialect.prompt(system, TOOLS, harmless(episode.first.parts)).ids
    for number, context in enumerate(episode.contexts):
        first, *rest = context.segments
        if number == 0:
            assert controls(first.ids) == controls(prompt)
        if kit.bos is not None:
            fed = np.concatenate([s.ids for s in context.segments if s.kind != "action"])
            assert np.flatnonzero(fed == kit.bos).tolist() == [0]
        closed = False
        for segment in rest:
            if segment.kind == "action":
                closed = int(segment.ids[-1]) in kit.dialect.stop_ids
                continue
            parts = episode.turns[segment.turn].observation.parts
            written = kit.dialect.observation(parts, closed=closed).ids
            assert segment.ids.tolist() == written.tolist()
            template = kit.dialect.observation(harmless(parts), closed=closed).ids
            assert controls(segment.ids) == controls(template)


def assert_stored_to_the_bit(episode: Episode) -> None:
    stored = to_bytes(episode)
    again: Episode = from_bytes(stored)
    assert to_bytes(again) == stored
    assert again.turns == episode.turns and again.first == episode.first
    for old, new in zip(episode.contexts, again.contexts, strict=True):
        assert old.ids.tobytes() == new.ids.tobytes() and old.turns.tobytes() == new.turns.tobytes()
        for name in ("logp", "untempered", "entropy"):
            assert old.column(name).tobytes() == new.column(name).tobytes()
        for before, after in zip(old.segments, new.segments, strict=True):
            assert (before.kind, before.sampled, before.media) == (after.kind, after.sampled, after.media)


def assert_trained_as_sampled(played: Played) -> None:
    """The trainer's rows train what was sampled, nothing else; its float64 pass agrees with the engine."""
    episode = played.episode
    group = ScoredGroup(id="g", episodes=(ScoredEpisode(episode=episode, reward=1.0),))
    batch = make_batch([group])
    pairs = [(c, r) for c, r in zip(episode.contexts, map(Row.of, episode.contexts), strict=True)]
    pairs = [(c, r) for c, r in pairs if len(r.positions)]
    sampled = [i for request in played.heard for i in request.ids]
    assert [i for row in batch.rows for i in row.targets.tolist()] == sampled
    assert batch.num_tokens == int(batch.length_E) == len(sampled)
    behaviour = np.concatenate([c.column("logp")[c.sampled] for c in episode.contexts])
    assert batch.columns["behaviour"].numpy().tobytes() == behaviour.tobytes()
    with torch.no_grad():
        scores = Forward(played.kit.exact_model())(batch.rows, temperature=played.temperature)
    bias = np.concatenate([played.bias(c)[r.positions + 1] for c, r in pairs]) / played.temperature
    plain = scores.logp_N.double().numpy()
    want = plain + bias - np.log1p(np.exp(plain) * np.expm1(bias))
    np.testing.assert_allclose(behaviour, want, atol=1e-5, rtol=0)


def assert_read_once(played: Played) -> None:
    """What the environment got is what the sampled ids say."""
    turns = iter(played.episode.turns)
    for context in played.episode.contexts:
        for segment in (s for s in context.segments if s.kind == "action"):
            turn = next(turns)
            action = played.kit.dialect.parse(segment.ids.tolist(), TOOLS)
            assert (turn.action.text, turn.action.calls) == (action.text, action.calls)
            assert turn.action.malformed[: len(action.malformed)] == action.malformed
