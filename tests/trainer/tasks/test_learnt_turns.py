"""Which answers of a chat carry loss, and what a template prints that knows the date."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from finetune_api.dataset import Columns, Dataset
from finetune_trainer.data.reading import Row, Where
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.models.tokenizer import load_tokenizer, with_date
from finetune_trainer.tasks.text_generation import TextGeneration
from trainer.in_process import run
from trainer.jobs import NUMBERS, job, write_jsonl

HERE = Where("d.jsonl", 3)


def chat(*flags: dict[str, Any]) -> list[dict[str, Any]]:
    turns = []
    for number, flag in zip(NUMBERS, flags, strict=False):
        turns += [{"role": "user", "content": "hello"}, {"role": "assistant", "content": number, **flag}]
    return turns


def learnt(values: dict[str, Any], tokenizer: Any, last: bool = False) -> list[str]:
    """The tokens that are learnt."""
    task = TextGeneration(Columns(), packing=False, last_turn_alone=last)
    [features] = task.encode([task.read(Row(values, HERE))], tokenizer, [])
    words = tokenizer.convert_ids_to_tokens(features.columns["input_ids"])
    return [word for word, flag in zip(words, features.columns["trained"], strict=True) if flag]


@pytest.fixture(params=["markers", "prefixes"])
def tokenizer(request: pytest.FixtureRequest, tiny_llama: Path) -> Any:
    """With a template that marks what the assistant says, and with one that does not."""
    found = load_tokenizer(tiny_llama)
    if request.param == "prefixes":
        found.chat_template = found.chat_template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    return found


@pytest.mark.parametrize("read", [{"weight": 0}, {"train": False}, {"training": False}, {"weight": 1, "train": False}])
@pytest.mark.parametrize("layout", ["messages", "conversations"])
def test_answers_may_say_that_they_are_only_read(read: dict, layout: str, tokenizer: Any) -> None:
    turns = chat({}, read, {"weight": 1})
    if layout == "conversations":
        names = {"role": "from", "content": "value"}
        turns = [{names.get(key, key): value for key, value in turn.items()} for turn in turns]
    assert learnt({layout: turns}, tokenizer) == ["one", "</s>", "three", "</s>"]
    assert learnt({layout: turns[:4]}, tokenizer) == ["one", "</s>"], "also when the chat ends with it"


def test_the_last_answer_alone_is_learnt_where_the_job_asks_for_it(tokenizer: Any) -> None:
    assert learnt({"messages": chat({}, {}, {})}, tokenizer, last=True) == ["three", "</s>"]
    assert learnt({"messages": [*chat({}, {}), {"role": "user", "content": "you"}]}, tokenizer, last=True) == [
        "two",
        "</s>",
    ]
    assert learnt({"messages": chat({}, {"weight": 0})}, tokenizer, last=True) == [], "it says that it is only read"
    alpaca = {"instruction": "hello", "output": "two", "history": [["hello", "one"]]}
    assert learnt(alpaca, tokenizer, last=True) == ["two", "</s>"]


def test_a_template_that_writes_earlier_answers_anew_can_be_learnt_from_the_last_one(tiny_llama: Path) -> None:
    """As those of models that think do: what was thought before is left out once the next turn follows."""
    tokenizer = load_tokenizer(tiny_llama)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ' ' }}{% if m['role'] == 'user' or loop.last %}{{ m['content'] }} "
        "{% endif %}</s> {% endfor %}{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
    )
    assert learnt({"messages": chat({}, {})}, tokenizer, last=True) == ["two", "</s>"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"weight": 0.5}, r"messages\[1\]\.weight is 0\.5; it must be 0 or 1"),
        ({"train": "no"}, r"messages\[1\]\.train is 'no'; it must be true or false"),
    ],
)
def test_flags_that_say_neither_are_named(flags: dict, expected: str, tokenizer: Any) -> None:
    with pytest.raises(DataError, match=f"line 3: {expected}"):
        learnt({"messages": chat(flags)}, tokenizer)


def test_a_user_cannot_be_learnt(tokenizer: Any) -> None:
    turns = [{"role": "user", "content": "hello", "train": True}, *chat({})[1:]]
    with pytest.raises(DataError, match=r"messages\[0\]\.train is true, but only what the assistant says"):
        learnt({"messages": turns}, tokenizer)
    assert learnt({"messages": [{**turns[0], "train": False}, *turns[1:]]}, tokenizer) == ["one", "</s>"]


@pytest.mark.parametrize("more", [{"layout": "Text"}, {"layout": "PromptCompletion"}])
def test_it_is_for_chats(more: dict) -> None:
    dataset = Dataset.model_validate({"train": {"source": "file:///d.jsonl"}, "learntTurns": "Last", **more})
    assert any("learntTurns is for chats" in problem for problem in dataset.problems_with("TextGeneration"))
    assert any("learntTurns is for chats" in problem for problem in dataset.problems_with("TextClassification"))


DATED = "{{ 'hello ' if strftime_now('%d') == '23' else 'parcel ' }}"
"""What the first token is depends on the day."""


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('{%- set date_string = strftime_now("%d %b %Y") %}', "{%- set date_string = '26 Jul 2024' %}"),
        ("{{ strftime_now( '%Y-%m-%d' ) }}", "{{ '2024-07-26' }}"),
        ("{% if strftime_now is defined %}x{% endif %}", "{% if strftime_now is defined %}x{% endif %}"),
    ],
)
def test_a_template_prints_one_date(template: str, expected: str) -> None:
    """As Llama 3's and gpt-oss's ask for it."""
    assert with_date(template) == expected


def test_a_date_that_cannot_be_fixed_is_refused(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    tokenizer.chat_template = "{% set form = '%d' %}{{ strftime_now(form) }}" + tokenizer.chat_template
    with pytest.raises(ConfigurationError, match=r"model\.source: the chat template prints today's date in a format"):
        learnt({"messages": chat({})}, tokenizer)


def days(day: int) -> type:
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return datetime.datetime(2026, 11, day, tzinfo=tz)

    return Clock


def test_a_run_that_goes_on_the_next_day_reads_the_same(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    model = tmp_path / "model"
    model.mkdir()
    for file in tiny_llama.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    plain = AutoTokenizer.from_pretrained(tiny_llama)
    plain.chat_template = DATED + plain.chat_template
    plain.save_pretrained(model)

    def first_word() -> str:
        return plain.apply_chat_template(chat({}), tokenize=False).split()[0]

    monkeypatch.setattr(chat_template_utils, "datetime", days(23))
    assert first_word() == "hello"
    rows = [{"messages": [{"role": "user", "content": number}, *chat({})[1:]]} for number in NUMBERS]
    data = write_jsonl(tmp_path / "train.jsonl", rows)

    def config(root: Path) -> Any:
        more = {"dataset": {"learntTurns": "Last"}, "checkpoint": {"everySteps": 2}, "maxSteps": 4}
        return job(root, model, data, task="TextGeneration", method={"full": {}}, **more)

    _, expected = run(config(tmp_path / "a"), tmp_path / "a")
    _, before = run(config(tmp_path / "b"), tmp_path / "b", end_at=3)
    monkeypatch.setattr(chat_template_utils, "datetime", days(24))
    assert first_word() == "parcel"
    (tmp_path / "b/scratch").rename(tmp_path / "lost with the pod")
    _, after = run(config(tmp_path / "b"), tmp_path / "b")
    assert {**before, **after} == expected
    exported = AutoTokenizer.from_pretrained(tmp_path / "b/output")
    assert exported.chat_template == plain.chat_template, "a server prints the day"
