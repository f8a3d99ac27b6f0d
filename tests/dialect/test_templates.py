"""For harmless words, the ids are those of the published chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from agentrl.dialect.hermes import HermesDialect
from agentrl.dialect.llama3 import Llama3Dialect
from agentrl.dialect.protocol import Dialect
from agentrl.message import Action, Call, Part, Text, ToolResult, answer
from tests.dialect.strategies import TOOLS
from tests.dialect.tokenizers import llama_style, qwen3_style, qwen_style

QWEN25 = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""  # noqa: E501
LLAMA31 = r"""{{- bos_token }}
{%- set system_message = messages[0]['content']|trim %}
{%- set messages = messages[1:] %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}{{- "Environment: ipython\n" }}{%- endif %}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: 26 Jul 2024\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if not tools is none %}
    {%- set first_user_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
    {{- '<|start_header_id|>user<|end_header_id|>\n\n' -}}
    {{- "Given the following functions, please respond with a JSON for a function call " }}
    {{- "with its proper arguments that best answers the given prompt.\n\n" }}
    {{- 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' }}
    {{- "Do not use variables.\n\n" }}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\n\n" }}{%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""  # noqa: E501

harmless = st.text(st.characters(codec="ascii", exclude_characters="<&"), min_size=1, max_size=20).map(
    lambda t: "a" + t + "."
)
"""Words with which a template has nothing to trim; a full stop at the end merges with a newline behind it."""


def written(dialect: Dialect, told: Sequence[object], closed: bool = True) -> list[int]:
    """The stream as a rollout writes it: prompt, then actions and observations in turn."""
    system, task, *turns = told
    ids = list(dialect.prompt(str(system), TOOLS, [Text(str(task))]).ids)
    for turn in turns:
        if isinstance(turn, Action):
            ids += dialect.render(turn, TOOLS).tolist()[: None if closed else -1]
        elif isinstance(turn, list):
            ids += dialect.observation(turn, closed=closed).ids.tolist()
    return ids


def messages_of(told: Sequence[object]) -> list[dict[str, Any]]:
    system, task, *turns = told
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system},
        {"role": "user", "content": task},
    ]
    for turn in turns:
        if isinstance(turn, Action):
            calls = [
                {"type": "function", "function": {"name": c.name, "arguments": dict(c.arguments)}}
                for c in turn.calls
            ]
            messages.append(
                {"role": "assistant", "content": turn.text} | ({"tool_calls": calls} if calls else {})
            )
        elif isinstance(turn, list):
            messages += [
                {"role": "tool" if isinstance(p, ToolResult) else "user", "content": p.text} for p in turn
            ]
    return messages


def templated(tokenizer: PreTrainedTokenizerFast, template: str, told: Sequence[object]) -> list[int]:
    ids: Any = tokenizer.apply_chat_template(
        messages_of(told),
        tools=[t.schema() for t in TOOLS],
        chat_template=template,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    return list(ids)


def result(text: str) -> Part:
    return ToolResult(call_id="0", name="price", text=text)


def price(item: str) -> Call:
    return Call(id="0", name="price", arguments={"item": item, "deep": [1, 2.5, None, {"é": True}]})


@pytest.mark.parametrize("make", [qwen_style, qwen3_style])
@given(text=harmless, closed=st.booleans())
def test_hermes_equals_the_qwen_template(make: Any, text: str, closed: bool) -> None:
    told = [
        "Help. " + text,
        text,
        Action(calls=(price(text), price("fig"))),
        [result(text), result("12")],
        Action(text=text, calls=(price("kiwi"),)),
        [result("13"), Text(text)],
        answer(text),
        [Text("Thanks.")],
    ]
    assert written(HermesDialect(make()), told, closed) == templated(make(), QWEN25, told)


@given(text=harmless, closed=st.booleans())
def test_llama3_equals_its_template(text: str, closed: bool) -> None:
    told = [
        "Help. " + text,
        text,
        Action(calls=(price(text),)),
        [result(text)],
        answer(text),
        [Text("Thanks.")],
    ]
    assert written(Llama3Dialect(llama_style()), told, closed) == templated(llama_style(), LLAMA31, told)
