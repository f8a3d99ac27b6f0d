"""The optimiser steps of one step of reinforcement learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from agentrl.task import derive_seed
from agentrl.trainers.batch import TrainBatch
from agentrl.trainers.parts import Mismatch, StepContext, Tokens, Totals
from agentrl.trainers.passes.backward import backward
from agentrl.trainers.passes.forward import Scores
from agentrl.trainers.policy import PolicyStats, plan_minibatches, policy_loss, units_of
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.signal import Move, spread_out

if TYPE_CHECKING:
    from agentrl.trainers.updater import Updater


class PolicyStep:
    """Deals a batch out to minibatches, cuts these to fit memory, and steps.

    *Old* log-probabilities are the trainer's own, under the weights before the step. The first minibatch
    takes them from its own first pass, the others from a pass without gradient before anything moves; with
    one minibatch there is no such pass. Tokens of zero advantage count in every denominator but are not
    passed through the model where their gradient is zero anyway. Behaviour log-probabilities serve a check
    alone.
    """

    def __init__(
        self, updater: Updater, batch: TrainBatch, advantage_N: Tensor, recipe: Recipe, context: StepContext
    ) -> None:
        self.updater, self.batch, self.recipe, self.context = updater, batch, recipe, context
        self.spec = recipe.forward_spec()
        device = updater.forward.device
        dtype = torch.promote_types(torch.float32, updater.forward.dtype)
        self.advantage_N = advantage_N.to(device, dtype)
        self.episode_N = batch.episode_N.to(device)
        self.length_E = batch.length_E.to(device)
        self.columns = {name: values_N.to(device) for name, values_N in batch.columns.items()}
        self.first_N = self.columns.get("old", torch.full_like(self.advantage_N, torch.nan))
        self.starts = batch.starts
        self.groups = batch.group_E.tolist()
        self.records: dict[str, Tensor] = {}
        self.means: dict[str, Tensor] = {}
        self.judged = False

    def run(self) -> PolicyStats:
        """Take all optimiser steps."""
        seed = derive_seed(self.updater.seed, self.context.step)
        plan = plan_minibatches(self.batch.rows, range(len(self.groups)), self.groups, self.recipe, seed=seed)
        active = self._active_rows()
        plan = [(episodes, self._teaching(rows, active)) for episodes, rows in plan]
        self._old_before([i for _, rows in plan[1:] for i in rows], exclude=plan[0][1] if plan else [])
        done = [result for episodes, rows in plan if (result := self._minibatch(episodes, rows)) is not None]
        if not done:
            return PolicyStats(skipped=True, num_tokens=self.batch.num_tokens)
        losses, norms, tokens = zip(*done, strict=True)
        records = {name: float(value) for name, value in self.records.items()}
        records |= {name: float(total / count) for name, (total, count) in self.means.items()}
        mismatch = self._mismatch(self.first_N.isfinite())
        move = self._move([i for _, rows in plan for i in rows])
        return PolicyStats(
            skipped=False,
            optimiser_steps=len(done),
            num_tokens=self.batch.num_tokens,
            loss=sum(losses) / len(done),
            grad_norm=sum(norms) / len(done),
            clip_share=records.pop("clipped", 0.0) / max(sum(tokens), 1.0),
            mismatch_mean=mismatch.mean,
            mismatch_max=mismatch.largest,
            mismatch_first=mismatch.first,
            moved=None if move is None else move.size,
            moved_right=None if move is None else move.direction,
            records=records,
        )

    def _move(self, rows: list[int]) -> Move | None:
        """Score a few of the rows once more, now that the weights have moved; None without rows here."""
        chosen = spread_out(sorted(set(rows)))
        if not chosen:
            return None
        found = self.updater.score([self.batch.rows[i] for i in chosen], temperature=self.recipe.temperature)
        return Move.of(self.batch, chosen, found.logp_N - self.first_N[self._places(chosen)])

    def _active_rows(self) -> list[bool]:
        """Which rows can have a gradient."""
        if self.recipe.teaches_without_advantage:
            return [True] * len(self.batch.rows)
        nonzero = np.concatenate([[0], np.cumsum((self.advantage_N != 0).cpu().numpy())])
        return [bool(nonzero[b] > nonzero[a]) for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def _teaching(self, rows: list[int], active: list[bool]) -> list[int]:
        """Keep the active rows, and the rows that parts must see together with these."""

        def unit(row: int) -> int:
            episode = self.batch.rows[row].episode
            units = {"token": row, "episode": episode, "group": self.groups[episode], "minibatch": 0}
            return int(units[self.spec.scope])

        alive = {unit(row) for row in rows if active[row]}
        return [row for row in rows if unit(row) in alive]

    def _old_before(self, rows: list[int], *, exclude: list[int]) -> None:
        """Fill in the old log-probabilities of rows that will be met only after the weights have moved."""
        late = sorted(set(rows) - set(exclude))
        if "old" in self.columns or "old" not in self.spec.during or not late:
            return
        scores = self.updater.score([self.batch.rows[i] for i in late], temperature=self.recipe.temperature)
        self.first_N[self._places(late)] = scores.logp_N

    def _minibatch(self, episodes: list[int], rows: list[int]) -> tuple[float, float, float] | None:
        """Take one optimiser step; gives loss, gradient norm and tokens, None if nothing in it can teach."""
        lengths = self.length_E[episodes]
        sums = [
            float(lengths.sum()),
            float((lengths > 0).sum()),
            float((lengths == 0).sum()),
            float(len(rows)),
        ]
        tokens, filled, empty, teaching = self.updater.comm.sum(
            torch.tensor(sums, dtype=torch.float64)
        ).tolist()
        if not teaching:
            return None
        totals = Totals(num_tokens=tokens, num_episodes=filled, num_empty=empty)
        chosen = [self.batch.rows[i] for i in rows]
        groups = [self.groups[row.episode] for row in chosen]
        units = units_of(chosen, groups, scope=self.spec.scope)
        value = backward(
            self.updater.forward,
            chosen,
            lambda piece, scores: policy_loss(
                self.recipe, self._tokens([rows[i] for i in piece], scores, totals)
            ),
            units=units,
            temperature=self.recipe.temperature,
            entropy="entropy" in self.spec.during,
        )
        self._judge()
        return value, self.updater.apply(value), tokens

    def _tokens(self, rows: list[int], scores: Scores, totals: Totals) -> Tokens:
        places = self._places(rows)
        seen_N = self.first_N[places]
        self.first_N[places] = torch.where(seen_N.isnan(), scores.logp_N.detach(), seen_N)
        columns = {name: values_N[places] for name, values_N in self.columns.items()}
        columns["old"] = self.first_N[places]
        if scores.entropy_N is not None:
            columns["entropy"] = scores.entropy_N
        episode_N = self.episode_N[places]
        return Tokens(
            logp_N=scores.logp_N,
            advantage_N=self.advantage_N[places],
            episode_N=episode_N,
            length_N=self.length_E[episode_N],
            totals=totals,
            columns=columns,
            batch=self.batch,
            context=self.context,
            records=self.records,
            means=self.means,
        )

    def _places(self, rows: list[int]) -> Tensor:
        """Where the tokens of some rows stand in the flat columns."""
        ranges = [np.arange(self.starts[i], self.starts[i + 1]) for i in rows]
        return torch.from_numpy(np.concatenate(ranges)).to(self.advantage_N.device)

    def _judge(self) -> None:
        """Before the first optimiser step, show how far tokens of the present weights are from the engine."""
        if self.context.judge is None or self.judged:
            return
        self.judged = True
        fresh_N = (self.columns["sampled_version"] == self.context.version) & self.first_N.isfinite()
        numbers = np.flatnonzero(np.add.reduceat(fresh_N.cpu().numpy(), self.starts[:-1]))
        self.context.judge(self._mismatch(fresh_N), [self.batch.rows[i] for i in numbers])

    def _mismatch(self, where_N: Tensor) -> Mismatch:
        """Compare engine and trainer over some of the tokens that both have scored."""
        engine_N = self.columns["untempered" if self.recipe.temperature == 1.0 else "behaviour"]
        seen_N = where_N & engine_N.isfinite()
        distance_N = (self.first_N - engine_N).abs()[seen_N]
        return Mismatch.of(distance_N, self.batch.turn_N.to(seen_N.device)[seen_N])
