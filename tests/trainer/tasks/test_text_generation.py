"""What is learnt: completions and assistant turns, with the end of the text, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_api.dataset import Columns
from finetune_trainer.data.examples import Example
from finetune_trainer.data.reading import Row, Where
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.models.tokenizer import load_tokenizer
from finetune_trainer.tasks.text_generation import TextGeneration

HERE = Where("d.jsonl", 1)


def learnt(values: dict[str, Any], tokenizer: Any) -> list[str]:
    """Each token, in brackets when it is learnt."""
    task = TextGeneration(Columns(), packing=False)
    [features] = task.encode([task.read(Row(values, HERE))], tokenizer, [])
    words = tokenizer.convert_ids_to_tokens(features.columns["input_ids"])
    return [f"[{word}]" if flag else word for word, flag in zip(words, features.columns["trained"], strict=True)]


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return load_tokenizer(tiny_llama, TextGeneration(Columns(), packing=False))


def test_a_text_is_learnt_whole_and_ends(tokenizer: Any) -> None:
    assert learnt({"text": "hello you"}, tokenizer) == ["[hello]", "[you]", "[</s>]"]


def test_only_the_completion_is_learnt(tokenizer: Any) -> None:
    found = learnt({"prompt": "question :", "completion": "answer one"}, tokenizer)
    assert found == ["question", ":", "[answer]", "[one]", "[</s>]"]


def test_an_end_that_is_already_there_is_not_doubled(tokenizer: Any) -> None:
    assert learnt({"prompt": "hello", "completion": "you </s>"}, tokenizer) == ["hello", "[you]", "[</s>]"]


CHAT = [
    {"role": "user", "content": "hello you"},
    {"role": "assistant", "content": "thanks"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
]
SPOKEN = "<s> user : hello you </s> <s> assistant : [thanks] [</s>] <s> user : one </s> <s> assistant : [two] [</s>]"
CHAT_LEARNT = SPOKEN.split()


def test_only_assistant_turns_are_learnt(tokenizer: Any) -> None:
    assert learnt({"messages": CHAT}, tokenizer) == CHAT_LEARNT


def test_a_template_without_markers_gives_the_same_by_comparing_prefixes(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama, TextGeneration(Columns(), packing=False))
    marked = tokenizer.chat_template
    tokenizer.chat_template = marked.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    assert learnt({"messages": CHAT}, tokenizer) == CHAT_LEARNT


def test_a_chat_begins_once_also_where_the_tokenizer_begins_every_text_by_itself(tiny_llama: Path) -> None:
    from tokenizers import processors
    from transformers import AutoTokenizer

    begins = AutoTokenizer.from_pretrained(tiny_llama)
    begins._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begins.bos_token_id)]
    )
    assert begins("hello")["input_ids"][0] == begins.bos_token_id
    assert learnt({"messages": CHAT}, begins) == CHAT_LEARNT


def test_a_template_that_rewrites_earlier_turns_is_refused(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama, TextGeneration(Columns(), packing=False))
    tokenizer.chat_template = "{{ messages | length }} {% for m in messages %}{{ m['content'] }} {% endfor %}"
    with pytest.raises(ConfigurationError, match="changes earlier turns"):
        learnt({"messages": CHAT}, tokenizer)


def test_a_model_without_chat_template_says_what_to_do(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama, TextGeneration(Columns(), packing=False))
    tokenizer.chat_template = None
    with pytest.raises(ConfigurationError, match=r"no chat template.*prompt and completion"):
        learnt({"messages": CHAT}, tokenizer)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ("hello", r"column 'messages' must be a list"),
        ([], r"must be a list"),
        ([{"content": "x"}], r"messages\[0\] has no role"),
        ([{"role": "user", "content": 3}], r"messages\[0\]\.content must be text"),
        ([{"role": "user", "content": "x"}], r"no assistant turn"),
    ],
)
def test_bad_turns_are_named(turns: Any, expected: str, tokenizer: Any) -> None:
    with pytest.raises(DataError, match=rf"d\.jsonl line 1: .*{expected}"):
        learnt({"messages": turns}, tokenizer)


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_gpt2", "tiny_qwen"])
def test_packed_logits_equal_those_of_each_example_alone(family: str, request: pytest.FixtureRequest) -> None:
    from finetune_trainer.data.encoded import encode
    from finetune_trainer.models.load import load_config, load_model

    folder = request.getfixturevalue(family)
    packing, alone = TextGeneration(Columns(), packing=True), TextGeneration(Columns(), packing=False)
    tokenizer = packing.load_processor(folder)
    texts = ["hello you", "question : one two three answer", "how", "the parcel never came where is it"]
    encoded = encode(alone.encode([Example(text, HERE) for text in texts], _texts(alone, tokenizer), []))
    rows = packing.rows(encoded, int(encoded.lengths.sum()) * 2 // 3)
    assert sorted(map(len, rows)) in ([1, 3], [2, 2])
    model = load_model(folder, load_config(folder, packing), packing, [], tokenizer).model.eval()
    with torch.no_grad():
        batch = packing.collator(tokenizer)(encoded, rows)
        assert "attention_mask" not in batch.inputs
        packed = packing.outputs(model, batch)
        single = [alone.outputs(model, alone.collator(tokenizer)(encoded, [[i]])) for r in rows for i in r]
    assert len(batch.targets) == int(encoded.targets.sum())
    torch.testing.assert_close(packed, torch.cat(single), atol=1e-5, rtol=1e-5)


def _texts(task: TextGeneration, tokenizer: Any) -> Any:
    """Settles the form as reading a first row would."""
    task.read(Row({"text": "x"}, HERE))
    return tokenizer
