"""`overLength: Split`: long examples become several, and nothing of them is lost or there twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_api.dataset import Columns, Dataset
from finetune_trainer.data.encoded import FIRST_PIECE, LABEL, NO_LABEL
from finetune_trainer.data.report import held_out_report, reported_data, summary
from finetune_trainer.errors import DataError
from trainer.jobs import NUMBERS, write_jsonl

LONG = " ".join(NUMBERS * 3)
MAX_LENGTH = 16


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    """prepared(task, model, rows) → data of which `rows` are train and test alike, but for an own first one."""
    from finetune_trainer.data.prepare import prepare

    def call(task: Any, model: Path, train: list[dict], test: list[dict]) -> tuple[Any, Any]:
        paths = {part: write_jsonl(tmp_path / f"{part}.jsonl", r) for part, r in (("train", train), ("test", test))}
        files = {part: {"source": f"file://{path}"} for part, path in paths.items()}
        dataset = Dataset.model_validate({**files, "maxLength": MAX_LENGTH, "overLength": "Split"})
        processor = task.load_processor(model)
        return prepare(dataset, task, processor, MAX_LENGTH, tmp_path, lambda uri: Path(uri[7:])), processor

    return call


def result(task: Any, data: Any, processor: Any, predict: Any) -> Any:
    """Metrics of the test data when each of its rows is predicted alone, the last one first."""
    scores = task.scores(data.labels, processor, data.test)
    for row in reversed(range(len(data.test))):
        batch = task.collator(processor)(data.test, [[row]])
        scores.add(predict(batch, row), batch, np.array([row]))
    return scores.result([scores.share()])


@pytest.mark.parametrize(
    "row", [{"text": LONG}, {"prompt": "hello", "completion": LONG}, {"text": " ".join(NUMBERS[:8] * 2)}]
)
def test_the_pieces_of_a_text_are_all_of_it_and_no_token_is_there_twice(
    row: dict, prepared: Any, tiny_llama: Path
) -> None:
    from finetune_trainer.tasks.text_generation import TextGeneration

    task = TextGeneration(Columns(), packing=True)
    short = dict.fromkeys(row, "hello")
    data, tokenizer = prepared(task, tiny_llama, [row, short], [{key: f"{value} one" for key, value in row.items()}])
    [whole] = task.encode([task.read(_row(row))], tokenizer, [])
    train = data.train
    pieces = np.flatnonzero(np.concatenate([train[FIRST_PIECE][i] for i in range(len(train))]) == 0)
    assert list(pieces) == list(range(len(train) - 1)), "the last one is the short example"
    ids = [token for i in pieces for token in train["input_ids"][i].tolist()]
    trained = [flag for i in pieces for flag in train["trained"][i].tolist()]
    assert (ids, trained) == (list(whole.columns["input_ids"]), list(whole.columns["trained"]))
    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.eos_token_id) == 1
    lengths = train.lengths[pieces]
    assert lengths.max() <= MAX_LENGTH
    assert lengths.min() > 1, "a lone token has nothing before it that it could be predicted from"
    report = data.report["parts"]["train"]
    assert (report["kept"], report["split"]) == (2, {"examples": 1, "pieces": len(pieces), "withoutTargets": 0})
    assert any(f"1 split into {len(pieces)} pieces" in line for line in summary(data.report))
    assert reported_data(data.report)["split"] == 2
    evaluation = result(task, data, tokenizer, lambda batch, row: torch.zeros(len(batch.targets), len(tokenizer)))
    assert evaluation.details["tokens"] == held_out_report(data.report, "test")["scoredTargets"]


def _row(values: dict) -> Any:
    from finetune_trainer.data.reading import Row, Where

    return Row(values, Where("d.jsonl", 1))


def test_a_chat_is_not_split(prepared: Any, tiny_llama: Path) -> None:
    from finetune_trainer.tasks.text_generation import TextGeneration

    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": LONG}]
    with pytest.raises(DataError, match=r"line 1: .*Split is for plain texts: a piece of a chat.*Drop or Truncate"):
        prepared(TextGeneration(Columns(), packing=False), tiny_llama, [{"messages": turns}], [{"messages": turns[1:]}])


def tagged(words: list[str], entities: list[tuple[int, int]]) -> dict[str, Any]:
    tags = ["O"] * len(words)
    for start, end in entities:
        tags[start:end] = ["B-X", *["I-X"] * (end - start - 1)]
    return {"tokens": words, "tags": tags}


def test_every_word_of_a_text_is_tagged_once_and_an_entity_may_cross_windows(prepared: Any, tiny_bert: Path) -> None:
    from finetune_trainer.tasks.token_classification import TokenClassification

    words = LONG.split()
    long = tagged(words, [(start, start + 3) for start in range(0, 30, 3)])
    test = [tagged([*words, "hello"], [(start, start + 5) for start in range(0, 30, 5)]), tagged(["hello"], [])]
    task = TokenClassification(Columns())
    data, tokenizer = prepared(task, tiny_bert, [tagged(words[:3], [(0, 2)]), long], test)
    learnt = [tag for i in range(1, len(data.train)) for tag in data.train[LABEL][i].tolist() if tag != NO_LABEL]
    assert [data.labels[tag] for tag in learnt] == long["tags"]
    assert all(data.train["input_ids"][i][[0, -1]].tolist() == [2, 3] for i in range(len(data.train)))

    def right(batch: Any, row: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(batch.targets, len(data.labels)).float() * 100

    evaluation = result(task, data, tokenizer, right)
    assert evaluation.metrics["f1"] == evaluation.metrics["accuracy"] == 1
    assert evaluation.details["words"] == 32
    assert evaluation.details["perType"]["X"]["entities"] == 6
    assert data.report["parts"]["test"]["kept"] == 2


def question(context: str, answer: str, asked: str = "what is") -> dict[str, Any]:
    answers = {"text": [answer], "answer_start": [context.index(answer)]}
    return {"question": asked, "context": context, "answers": answers}


def test_the_likeliest_answer_of_all_windows_counts(prepared: Any, tiny_bert: Path) -> None:
    from finetune_trainer.tasks.question_answering import QuestionAnswering

    context = f"{LONG} hello my parcel {LONG}"
    task = QuestionAnswering(Columns(), windows=True)
    rows = [question(context, "my parcel"), question("hello one", "one")]
    data, tokenizer = prepared(task, tiny_bert, rows, [question(f"the {context}", "my parcel"), *rows[1:]])
    test, first = data.test, data.report["parts"]["test"]["split"]["pieces"]
    assert len(test) == first + 0 + len(data.test) - first
    said = []

    def predict(batch: Any, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Right where there is an answer, and unsure where there is none."""
        span = batch.targets
        null = bool((span == 0).all())
        said.append(null)
        place = torch.tensor([[4, 4]]) if null else span
        return place, torch.tensor([-5.0 if null else -1.0]), torch.tensor([1.0])

    evaluation = result(task, data, tokenizer, predict)
    assert evaluation.details["questions"] == 2
    assert evaluation.metrics["exactMatch"] == 1, evaluation.details["samples"]
    assert 0 < sum(said) < len(said)
    assert held_out_report(data.report, "test")["examples"] == 2


def test_a_window_with_a_part_of_the_answer_teaches_nothing(prepared: Any, tiny_bert: Path) -> None:
    from finetune_trainer.tasks.question_answering import QuestionAnswering

    task = QuestionAnswering(Columns(), windows=True)
    data, tokenizer = prepared(task, tiny_bert, [question(LONG, "seven eight nine ten one")], [question("one", "one")])
    split = data.report["parts"]["train"]["split"]
    assert split["withoutTargets"] > 0
    assert len(data.train) == split["pieces"] - split["withoutTargets"]
    answers = []
    for i in range(len(data.train)):
        start, end = data.train["span"][i].tolist()
        answers.append(" ".join(tokenizer.convert_ids_to_tokens(data.train["input_ids"][i][start : end + 1].tolist())))
    assert set(answers) == {"seven eight nine ten one", "what"}
    batch = task.collator(tokenizer)(data.train, [[0]])
    assert batch.extras["candidates"].sum() == batch.extras["within"].sum() + 1


def test_a_question_that_leaves_no_room_is_refused(prepared: Any, tiny_bert: Path) -> None:
    from finetune_trainer.tasks.question_answering import QuestionAnswering

    rows, test = [question("one", "one", asked=LONG)], [question("two", "two")]
    with pytest.raises(DataError, match=r"line 1: the question alone takes 30 tokens of dataset\.maxLength \(16\)"):
        prepared(QuestionAnswering(Columns(), windows=True), tiny_bert, rows, test)


@pytest.mark.parametrize(
    ("task", "more", "expected"),
    [
        ("TextClassification", {}, r"Split is not for TextClassification: a piece need not have the class"),
        ("Seq2Seq", {}, r"Split is not for Seq2Seq: .*set Drop or Truncate"),
        ("RewardModeling", {}, r"Split is not for RewardModeling: a piece of a completion"),
        ("TextGeneration", {"layout": "Messages"}, r"a piece of a chat would be an answer without its question"),
        ("TextGeneration", {"columns": {"messages": "turns"}}, r"Split is for plain texts"),
        ("TextGeneration", {}, None),
        ("QuestionAnswering", {}, None),
    ],
)
def test_where_it_makes_no_sense_it_is_refused_with_the_reason(task: str, more: dict, expected: str | None) -> None:
    dataset = Dataset.model_validate({"train": {"source": "file:///d.jsonl"}, "overLength": "Split", **more})
    problems = "; ".join(dataset.problems_with(task))
    if expected is None:
        assert problems == ""
    else:
        import re

        assert re.search(expected, problems), problems


def test_subtasks_that_cannot_be_split_are_named() -> None:
    subtasks = [
        {"name": name, "task": task, "train": {"source": "file:///d.jsonl"}}
        for name, task in (("a", "TextClassification"), ("b", "QuestionAnswering"))
    ]
    dataset = Dataset.model_validate({"subtasks": subtasks, "overLength": "Split"})
    assert any("Split is not for TextClassification" in problem for problem in dataset.problems_with("MultiTask"))
