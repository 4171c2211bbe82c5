"""Texts come as they are published: prompt and completion, chats, Alpaca's and ShareGPT's columns."""

from typing import Any

import pytest

from finetune_api.dataset import Columns, Dataset, TextLayout
from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.text_layouts import TextReader, in_form_for

ALPACA = {"instruction": "Add.", "input": "one two", "output": "three"}
TURNS = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "thanks"}]
SAID = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "thanks"}]


class WithTemplate:
    chat_template = "{{ messages }}"


class WithoutTemplate:
    chat_template = None


def read(values: dict[str, Any], layout: TextLayout = "Auto", **columns: str) -> Any:
    return TextReader(Columns(**columns), layout).read(Row(values, Where("d.jsonl", 3)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"text": "hello"}, "hello"),
        ({"prompt": "hello", "completion": "thanks"}, ("hello", "thanks")),
        ({"messages": TURNS}, TURNS),
        ({"conversations": SAID}, TURNS),
        ({"messages": SAID}, TURNS),
        ({"conversations": TURNS}, TURNS),
        ({"conversations": SAID, "system": "Be kind."}, [{"role": "system", "content": "Be kind."}, *TURNS]),
        (ALPACA, ALPACA),
        ({**ALPACA, "input": ""}, {"instruction": "Add.", "output": "three"}),
        ({**ALPACA, "text": "the whole prompt once more"}, ALPACA),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_the_columns_of_the_first_row_tell_the_layout(values: dict[str, Any], expected: Any) -> None:
    assert read(values) == expected


def test_a_layout_that_is_named_wins_over_what_the_columns_tell() -> None:
    assert read({**ALPACA, "text": "hello"}, "Text") == "hello"
    assert read({**ALPACA, "text": "hello"}, text="text") == "hello"
    assert read({"body": SAID}, messages="body") == TURNS
    named = {"instruction": "ask", "input": "on", "output": "answer"}
    assert read({"ask": "Add.", "on": "one two", "answer": "three"}, **named) == ALPACA


@pytest.mark.parametrize(
    "values", [{**ALPACA, "input": 42}, {**ALPACA, "history": [["a", "b"]], "system": ["Be kind."]}]
)
def test_what_may_be_empty_is_not_lost_where_it_is_no_text(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"d\.jsonl line 3: column '(input|system)' holds (int 42|list .*), not text"):
        read(values)


def test_alpaca_is_a_chat_for_models_that_know_chats() -> None:
    assert in_form_for(ALPACA, WithTemplate) == [
        {"role": "user", "content": "Add.\none two"},
        {"role": "assistant", "content": "three"},
    ]


def test_alpaca_has_its_own_prompt_for_other_models() -> None:
    prompt, completion = in_form_for(ALPACA, WithoutTemplate)
    assert completion == "three"
    assert prompt == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\none two\n\n"
        "### Response:\n"
    )
    prompt, _ = in_form_for({"instruction": "Add.", "output": "three", "system": "Be brief."}, WithoutTemplate)
    assert prompt.startswith("Be brief.\n\nBelow is an instruction that describes a task. Write")
    assert "Input" not in prompt


def test_earlier_rounds_of_an_alpaca_row_are_turns() -> None:
    turns = read({**ALPACA, "history": [["hello", "thanks"]], "system": "Be kind."})
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user", "assistant"]
    assert turns[-2:] == in_form_for(ALPACA, WithTemplate)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"body": "x"}, r"none of the columns messages or conversations, .*the columns are: body\. Set dataset\.col"),
        (
            {"conversations": [{"from": "ghost", "value": "x"}]},
            r"conversations\[0\]\.from is 'ghost'; it must be one of",
        ),
        ({"conversations": [*SAID, {"from": "gpt"}]}, r"conversations\[2\]\.value must be text"),
        ({"conversations": SAID[:1]}, r"conversations has no assistant turn"),
        ({**ALPACA, "output": 3}, r"column 'output' holds int 3, not text"),
        ({**ALPACA, "history": ["hello"]}, r"history\[0\] must be a list of two texts"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError, match=rf"d\.jsonl line 3: .*{expected}"):
        read(values)


def test_every_later_row_has_the_layout_of_the_first() -> None:
    reader = TextReader(Columns())
    reader.read(Row(dict(ALPACA), Where("d.jsonl", 1)))
    with pytest.raises(DataError, match=r"line 2: no column 'instruction'; .*Set dataset\.columns\.instruction"):
        reader.read(Row({"text": "hello"}, Where("d.jsonl", 2)))


def test_a_layout_is_for_tasks_that_write() -> None:
    dataset = Dataset.model_validate({"train": {"source": "s3://data/train.jsonl"}, "layout": "Alpaca"})
    assert dataset.problems_with("TextGeneration") == []
    assert dataset.problems_with("Seq2Seq") == ["dataset.layout is for TextGeneration, not Seq2Seq; remove it"]
