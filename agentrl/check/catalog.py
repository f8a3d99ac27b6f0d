"""All checks, in the order in which they run and are reported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agentrl.check.bench import Bench
from agentrl.check.checks import (
    acting,
    answers,
    closing,
    contract,
    determinism,
    expert,
    fooling,
    forks,
    giving,
    rewards,
    seeds,
    tasks,
    texts,
    tools,
)

Probe = Callable[[Bench], Awaitable[Any]]

PROBES: dict[str, Probe] = {
    "loads": contract.loads,
    "responds": contract.responds,
    "closes": closing.closes,
    "return-types": contract.returns,
    "tool-schemas": tools.tool_schemas,
    "gymnasium": contract.gymnasium_contract,
    "determinism": determinism.determinism,
    "trace": determinism.trace,
    "episode-isolation": determinism.episode_isolation,
    "instance-isolation": determinism.instance_isolation,
    "seed-variety": seeds.seed_variety,
    "task-source": tasks.task_source,
    "splits-disjoint": tasks.splits_disjoint,
    "levels": tasks.levels_differ,
    "upwards": tasks.upwards,
    "downwards": tasks.downwards,
    "fork-equality": forks.fork_equality,
    "fork-independence": forks.fork_independence,
    "reward-range": rewards.reward_range,
    "correct-against-reward": rewards.correct_against_reward,
    "judge-not-fooled": fooling.judge_not_fooled,
    "wrong-answers": answers.wrong_answers,
    "constant-answer": fooling.constant_answer,
    "text-as-code": fooling.text_as_code,
    "ends": contract.ends,
    "step-after-end": rewards.step_after_end,
    "garbage-actions": acting.garbage_actions,
    "valid-random-actions": acting.valid_random_actions,
    "event-loop": acting.event_loop,
    "observation-text": texts.observation_text,
    "control-tokens": texts.control_tokens,
    "host-details": texts.host_details,
    "prefix-preservation": texts.prefix_preservation,
    "answer-in-prompt": expert.answer_in_prompt,
    "answer-given-away": giving.given_away,
    "expert-solves": expert.expert_solves,
    "close-under-hang": closing.close_under_hang,
    "cancellation": closing.cancellation,
    "leaks": closing.leaks,
    "side-effects": closing.side_effects,
}
"""What a worker can be asked to do; "trace" is the raw material of "determinism-across-processes",
"upwards" and "downwards" are that of "task-order"."""
