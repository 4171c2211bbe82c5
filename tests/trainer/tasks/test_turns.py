"""Chats as they are published: OpenAI's, ShareGPT's, TRL's, with tools and without, from JSON and from Parquet."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.dataset import Columns
from finetune_trainer.data.reading import Row, Where
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.models.tokenizer import load_tokenizer
from finetune_trainer.tasks.text_generation import TextGeneration
from finetune_trainer.tasks.text_layouts import TextReader

ASKS = {"role": "user", "content": "how"}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
FUNCTION = {"name": "weather", "description": "Now.", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}


def read(values: dict[str, Any]) -> Any:
    return TextReader(Columns()).read(Row(values, Where("d.jsonl", 3)))


def tokenizer_with(folder: Path, template: str) -> Any:
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    return tokenizer


def learnt(values: dict[str, Any], tokenizer: Any) -> str:
    """All tokens, those that are learnt in brackets."""
    task = TextGeneration(Columns(), packing=False)
    [features] = task.encode([task.read(Row(values, Where("d.jsonl", 3)))], tokenizer, [])
    words = tokenizer.convert_ids_to_tokens(features.columns["input_ids"])
    return " ".join(f"[{w}]" if flag else w for w, flag in zip(words, features.columns["trained"], strict=True))


def test_arguments_of_a_call_are_an_object_however_they_were_written() -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    function = {"name": "weather", "arguments": json.dumps({"city": "Bern"})}
    as_text = {**said, "tool_calls": [{**CALL, "function": function}]}
    assert read({"messages": [ASKS, as_text]}) == read({"messages": [ASKS, said]}) == [ASKS, said]


def test_keys_that_parquet_fills_with_nothing_are_as_if_they_were_not_there() -> None:
    filled = {"name": None, "tool_calls": None, "tool_call_id": None}
    turns = [ASKS, {"role": "assistant", "content": "thanks"}]
    assert read({"messages": [turn | filled for turn in turns], "tools": None}) == turns


def test_content_in_parts_is_their_text() -> None:
    parts = [{"type": "text", "text": "how "}, {"type": "text", "text": "is it"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "thanks"}]
    assert read({"messages": turns})[0]["content"] == "how is it"


def test_calls_and_observations_of_sharegpt_are_turns() -> None:
    """As in LLaMA-Factory's data."""
    values = {
        "conversations": [
            {"from": "human", "value": "how"},
            {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"city": "Bern"}})},
            {"from": "observation", "value": "sun"},
            {"from": "gpt", "value": "thanks"},
        ],
        "system": "you",
        "tools": json.dumps([FUNCTION]),
    }
    call = {"type": "function", "function": CALL["function"]}
    assert read(values) == {
        "turns": [
            {"role": "system", "content": "you"},
            ASKS,
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "sun"},
            {"role": "assistant", "content": "thanks"},
        ],
        "tools": [TOOL],
    }


ANSWERED = [ASKS, {"role": "assistant", "content": "thanks"}]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"messages": ANSWERED, "tools": "{"}, r"tools is not valid JSON"),
        ({"messages": ANSWERED, "tools": "3"}, r"tools must be a list of \{name, description, parameters\}"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            r"messages\[0\]\.content\[0\] is 'image_",
        ),
        (
            {"messages": [ASKS, {"role": "assistant", "tool_calls": [{"arguments": "{}"}]}]},
            r"messages\[1\]\.tool_calls\[0\] has no name",
        ),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "weather()"}]},
            r"conversations\[1\]\.value is not valid JSON",
        ),
        ({"prompt": [ASKS], "completion": "x", "tools": [FUNCTION]}, r"tools go with turns in one column"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError, match=rf"d\.jsonl line 3: .*{expected}"):
        read(values)


ROUNDS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }} </s>{% endgeneration %}"
    "{% else %}{{ m['role'] }} {{ m['content'] }}{% endif %} {% endfor %}{% if add_generation_prompt %}{% endif %}"
)


def test_tools_are_shown_to_the_model(tiny_llama: Path) -> None:
    shows = "{% for t in tools or [] %}{{ t.function.name }} {% endfor %}" + ROUNDS
    named = {"type": "function", "function": {**FUNCTION, "name": "card"}}
    tokenizer = tokenizer_with(tiny_llama, shows)
    # `finetune_probe` and the tools' names are one unknown word each to a tokenizer of whole words, but for "card".
    assert learnt({"messages": ANSWERED, "tools": [named]}, tokenizer) == "card user how [thanks] [</s>]"


def test_tools_that_the_template_would_leave_out_are_refused(tiny_llama: Path) -> None:
    with pytest.raises(ConfigurationError, match="no place for the tools that the data has; use a model whose"):
        learnt({"messages": ANSWERED, "tools": [FUNCTION]}, tokenizer_with(tiny_llama, ROUNDS))


def test_of_a_prompt_and_a_completion_in_turns_the_completion_is_learnt(tiny_llama: Path) -> None:
    values = {
        "prompt": [*ANSWERED, {"role": "user", "content": "what"}],
        "completion": [{"role": "assistant", "content": "answer"}],
    }
    tokenizer = tokenizer_with(tiny_llama, ROUNDS)
    assert learnt(values, tokenizer) == "user how thanks </s> user what [answer] [</s>]"


def test_an_answer_without_weight_is_read_and_not_learnt(tiny_llama: Path) -> None:
    values = {"messages": [ASKS, {"role": "assistant", "content": "hello", "weight": 0}, *ANSWERED]}
    assert learnt(values, tokenizer_with(tiny_llama, ROUNDS)) == "user how hello </s> user how [thanks] [</s>]"


def test_a_row_that_the_template_refuses_is_named(tiny_llama: Path) -> None:
    """As Mistral's and Gemma's do."""
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    turns = [{"role": "system", "content": "you"}, *ANSWERED]
    with pytest.raises(DataError, match=r"d\.jsonl line 3: the model's chat template .*: System role not supported"):
        learnt({"messages": turns}, tokenizer_with(tiny_llama, template + ROUNDS))
