"""Preferences come as texts or chats, with the prompt apart or in both completions; what is wrong is named."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from finetune_api.dataset import Columns
from finetune_serving.conversation import prompt_tokens, prompted_tokens
from finetune_serving.scoring import conversation
from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.preference_rows import JudgedReader, PairReader

HERE = Where("d.jsonl", 3)
ASKED, GOOD, BAD = (
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "thanks"},
    {"role": "assistant", "content": "what"},
)
TEXTS = {"prompt": "hello", "chosen": "thanks", "rejected": "what"}
CHATS = {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]}
SAID = {"conversations": [{"from": "human", "value": "hello"}], "chosen": {"from": "gpt", "value": "thanks"}}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (TEXTS, TEXTS),
        (CHATS, CHATS),
        ({"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, CHATS),
        ({"prompt": [ASKED], "chosen": "thanks", "rejected": "what"}, CHATS),
        ({"prompt": "hello", "chosen": [GOOD], "rejected": [BAD]}, CHATS),
        (SAID | {"rejected": {"from": "gpt", "value": "what"}}, CHATS),
        ({"prompt": "hello", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, CHATS),
        (CHATS | {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, CHATS),
    ],
    ids=["texts", "turns", "whole-chats", "text-answers", "text-prompt", "sharegpt", "ultrafeedback", "twice"],
)
def test_a_pair_is_three_texts_or_three_lists_of_turns(values: dict[str, Any], expected: Any) -> None:
    assert PairReader(Columns()).read(Row(values, HERE)).content == expected


def test_columns_may_have_other_names() -> None:
    columns = Columns(prompt="ask", chosen="good", rejected="bad")
    row = Row({"ask": "hello", "good": "thanks", "bad": "what"}, HERE)
    assert PairReader(columns).read(row).content == {"prompt": "hello", "chosen": "thanks", "rejected": "what"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"prompt": "hello", "chosen": "what", "rejected": "what"}, "chosen and rejected are the same; remove the row"),
        ({"chosen": "thanks", "rejected": "what"}, "no column 'prompt'; add it, or give whole chats"),
        ({"prompt": "hello", "chosen": "thanks"}, r"no column 'rejected'; .*Set dataset\.columns\.rejected"),
        ({"prompt": "hello", "completion": "thanks", "label": True}, r"no column 'chosen'.* with preference\.loss KTO"),
        ({"prompt": [ASKED], "chosen": [GOOD, ASKED], "rejected": [BAD]}, "chosen does not end with a turn of the ass"),
        ({"chosen": [ASKED, GOOD], "rejected": [ASKED]}, "rejected does not end with a turn of the assistant"),
        ({**CHATS, "chosen": [{"content": "x"}]}, r"chosen\[0\] has no role"),
        (
            {"prompt": "where", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
            "chosen and rejected are whole chats, which do not begin with the prompt; remove the column 'prompt'",
        ),
    ],
)
def test_what_is_wrong_with_a_pair_is_named(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError, match=rf"d\.jsonl line 3: .*{expected}"):
        PairReader(Columns()).read(Row(values, HERE))


def test_a_judged_completion_is_good_or_bad() -> None:
    read = JudgedReader(Columns()).read
    rows = [{"prompt": "hello", "completion": "thanks", "label": label} for label in (True, 0, "False")]
    assert [read(Row(row, HERE)).label for row in rows] == ["good", "bad", "bad"]
    with pytest.raises(DataError, match="line 3: column 'label' holds 'maybe'; it must be true or false"):
        read(Row({"prompt": "hello", "completion": "thanks", "label": "maybe"}, HERE))
    with pytest.raises(DataError, match=r"pairs are for preference\.loss DPO"):
        read(Row({"prompt": "hello", "chosen": "thanks", "rejected": "what"}, HERE))


def test_prompt_and_completion_meet_as_the_model_was_pre_trained(tiny_llama: Path, tiny_bert: Path) -> None:
    from finetune_trainer.models.tokenizer import load_tokenizer

    decoder, encoder = load_tokenizer(tiny_llama), load_tokenizer(tiny_bert)
    encoder.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, encoder.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")],
    )

    def words(tokenizer: Any, prompt: Any, completion: Any) -> list[str]:
        parts = prompted_tokens(tokenizer, prompt, completion)
        return [" ".join(tokenizer.convert_ids_to_tokens(part)) for part in parts]

    assert words(decoder, "hello you", "thanks") == ["hello you", "thanks </s>"]
    assert words(encoder, "hello you", "thanks") == ["[CLS] hello you [SEP]", "thanks [SEP]"]
    assert words(decoder, [ASKED], [GOOD]) == ["<s> user : hello </s> <s> assistant :", "thanks </s>"]
    assert prompt_tokens(decoder, [ASKED]) == prompted_tokens(decoder, [ASKED], [GOOD])[0]


def test_a_served_prompt_may_be_turns_in_json() -> None:
    assert conversation("[1] is a footnote", "yes") == ("[1] is a footnote", "yes")
    assert conversation('[{"role": "user", "content": "hello"}]', "thanks") == ([ASKED], [GOOD])
