"""No held-out example leaves the metrics for being too long: what a cut takes counts as wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_api.dataset import Dataset
from finetune_api.preference import Preference
from finetune_trainer.data.report import held_out_report, reported_data, summary
from trainer.jobs import write_jsonl

LONG = "one two three four five six seven eight nine ten"


class Prepared:
    """Held-out data as a task has it, and the metrics of a model that is right wherever it is asked."""

    def __init__(self, task: Any, data: Any, processor: Any) -> None:
        self.data, self.processor = data, processor
        self.batch = task.collator(processor)(data.test, [[i] for i in range(len(data.test))])
        self.scores = task.scores(data.labels, processor, data.test)

    @property
    def rows(self) -> np.ndarray:
        return np.arange(len(self.data.test))

    def result(self, predictions: Any) -> Any:
        self.scores.add(predictions, self.batch, self.rows)
        return self.scores.result([self.scores.share()])


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    """prepared(task, model, train, test, **dataset) → Prepared."""
    from finetune_trainer.data.prepare import prepare

    def call(task: Any, model: Path, train: list[dict], test: list[dict], **more: Any) -> Prepared:
        paths = {part: write_jsonl(tmp_path / f"{part}.jsonl", r) for part, r in (("train", train), ("test", test))}
        files = {part: {"source": f"file://{path}"} for part, path in paths.items()}
        dataset = Dataset.model_validate({**files, "maxLength": 10, "overLength": "Truncate", **more})
        processor = task.load_processor(model)
        data = prepare(dataset, task, processor, dataset.max_length, tmp_path, lambda uri: Path(uri[7:]))
        return Prepared(task, data, processor)

    return call


@pytest.mark.parametrize("policy", ["Drop", "Truncate"])
def test_a_text_to_classify_is_asked_for_whatever_becomes_of_such_ones_in_training(
    policy: str, prepared: Any, tiny_bert: Path
) -> None:
    from finetune_api.dataset import Columns
    from finetune_trainer.tasks.text_classification import TextClassification

    train = [{"text": "where is it", "label": "a"}, {"text": "log in", "label": "b"}, {"text": LONG, "label": "a"}]
    test = [{"text": "my parcel", "label": "a"}, {"text": f"{LONG} parcel", "label": "b"}]
    found = prepared(TextClassification(Columns()), tiny_bert, train, test, overLength=policy)
    parts = found.data.report["parts"]
    assert (parts["train"]["kept"], parts["test"]["kept"]) == (2 if policy == "Drop" else 3, 2)
    assert parts["test"]["dropped"] == {"alsoHeldOut": 0, "overLength": 0, "nothingToLearn": 0}
    assert found.result(torch.eye(2)).details["examples"] == 2


@pytest.fixture
def questions(prepared: Any, tiny_bert: Path) -> Prepared:
    """One whose answer has room, one whose answer is cut off, one whose question leaves no room at all."""
    from finetune_api.dataset import Columns
    from finetune_trainer.tasks.question_answering import QuestionAnswering

    def row(question: str, answer: str, context: str = LONG) -> dict[str, Any]:
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        return {"question": question, "context": context, "answers": answers}

    train = [row("what", "four", "four five")]
    test = [row("what is", "two"), row("what", "nine ten"), row("what one", "one"), row(LONG, "two")]
    return prepared(QuestionAnswering(Columns()), tiny_bert, train, test)


def test_a_question_whose_answer_was_cut_off_is_wrong_and_has_no_loss(questions: Prepared) -> None:
    places = torch.from_numpy(np.stack([questions.data.test["span"][i] for i in range(4)]))
    evaluation = questions.result((places, torch.zeros(4), torch.tensor([1.0, 100.0, 2.0, 100.0])))
    assert evaluation.details["questions"] == 4
    assert evaluation.metrics["exactMatch"] == evaluation.metrics["f1"] == 0.5
    assert evaluation.metrics["loss"] == 1.5
    assert evaluation.details["samples"][3] == {"answer": "", "right": ["two"]}
    expected = {"examples": 4, "truncated": 4, "split": 0, "unscored": 2, "scoredTargets": 2, "cutTargets": 2}
    assert held_out_report(questions.data.report, "test") == expected
    assert reported_data(questions.data.report)["unscored"] == 2
    assert any("2 with nothing left to score, which count as wrong" in line for line in summary(questions.data.report))


def test_a_question_without_any_context_has_an_answer_that_is_empty(questions: Prepared) -> None:
    from finetune_serving.answer_spans import likeliest_spans

    within = questions.batch.extras["within"]
    assert likeliest_spans(torch.zeros(*within.shape, 2), within)[0][3].tolist() == [0, 0]


@pytest.mark.parametrize("side", ["right", "left"])
def test_words_that_were_cut_off_are_wrong(side: str, prepared: Any, tiny_bert: Path) -> None:
    from finetune_api.dataset import Columns
    from finetune_trainer.tasks.token_classification import TokenClassification

    class Sided(TokenClassification):
        def load_processor(self, folder: Path, trust_remote_code: bool = False) -> Any:
            tokenizer = super().load_processor(folder, trust_remote_code)
            tokenizer.truncation_side = side
            return tokenizer

    words = LONG.split()
    tags = ["B-X", "I-X", *["O"] * 5, "B-X", "I-X", "I-X"]  # [CLS], eight words and [SEP] have room
    found = prepared(Sided(Columns()), tiny_bert, [{"tokens": words[:3], "tags": tags[:3]}], [
        {"tokens": words, "tags": tags}, {"tokens": words[:2], "tags": tags[:2]},
    ])  # fmt: skip
    right = torch.nn.functional.one_hot(found.batch.targets, 3).float() * 100
    evaluation = found.result(right)
    assert (evaluation.details["words"], evaluation.details["cutWords"]) == (12, 2)
    assert evaluation.metrics["accuracy"] == pytest.approx(10 / 12)
    # Right: an entity that was cut is found in part, which is wrong; left: one is cut off whole.
    precision, recall = (2 / 3, 2 / 3) if side == "right" else (1.0, 2 / 3)
    assert (evaluation.metrics["precision"], evaluation.metrics["recall"]) == pytest.approx((precision, recall))
    assert evaluation.metrics["loss"] == pytest.approx(0, abs=1e-6)
    assert held_out_report(found.data.report, "test")["cutTargets"] == 2


def test_a_written_text_is_compared_with_the_whole_one(prepared: Any, tmp_path: Path) -> None:
    from finetune_api.dataset import Columns
    from finetune_trainer.models.load import load_config
    from finetune_trainer.tasks.seq2seq import WRITTEN, Seq2Seq
    from trainer import tiny_models

    model, task = tiny_models.t5(tmp_path / "t5"), Seq2Seq(Columns())
    task.configure(load_config(model, task), task.load_processor(model), [])
    rows = [{"prompt": "one", "completion": "two"}]
    found = prepared(task, model, rows, [{"prompt": "six", "completion": f"{LONG} NOT-A-WORD"}], maxLength=8)
    kept = torch.tensor(found.data.test[WRITTEN][0])
    assert len(kept) == 6
    logits = torch.zeros(len(found.batch.targets), len(found.processor))
    evaluation = found.result((logits, kept.unsqueeze(0)))
    [sample] = evaluation.details["samples"]
    assert sample == {"expected": f"{LONG} NOT-A-WORD", "written": "one two three four five six"}
    assert evaluation.metrics["rougeL"] == pytest.approx(2 * 6 / (6 + 13))
    assert evaluation.details["tokens"] == held_out_report(found.data.report, "test")["scoredTargets"] == 6


def test_perplexity_says_over_how_many_tokens_it_is(prepared: Any, tiny_llama: Path) -> None:
    from finetune_api.dataset import Columns
    from finetune_trainer.tasks.text_generation import TextGeneration

    rows = [{"prompt": "one two", "completion": "three"}]
    test = [
        {"prompt": "two", "completion": "three four"},
        {"prompt": "hello", "completion": LONG},
        {"prompt": LONG, "completion": "lost"},
        {"prompt": "five", "completion": "six"},
    ]
    found = prepared(TextGeneration(Columns(), packing=False), tiny_llama, rows, test, overLength="Drop")
    evaluation = found.result(torch.zeros(len(found.batch.targets), len(found.processor)))
    report = held_out_report(found.data.report, "test")
    assert (report["examples"], report["unscored"]) == (4, 1)
    whole = 3 + 11 + 2 + 2
    assert evaluation.details["tokens"] == report["scoredTargets"] == whole - report["cutTargets"]
    assert report["cutTargets"] == 4


def pairs() -> tuple[list[dict], list[dict]]:
    """Training pairs, and held-out ones of which the second is cut to nothing that differs."""
    train = [{"prompt": "hello", "chosen": "thanks", "rejected": "two"}]
    test = [
        {"prompt": "what", "chosen": "thanks", "rejected": "two"},
        {"prompt": LONG, "chosen": "thanks", "rejected": "two"},
        {"prompt": "where", "chosen": "thanks", "rejected": "one"},
    ]
    return train, test


def test_pairs_that_a_cut_made_equal_are_wrong(prepared: Any, tiny_llama: Path) -> None:
    from finetune_api.dataset import Columns
    from finetune_trainer.tasks.paired_preferences import PairedPreferences

    found = prepared(PairedPreferences(Columns(), 0.1), tiny_llama, *pairs())
    evaluation = found.result(torch.tensor([3.0, 50.0, 1.0, 0.0, 0.0, 0.0]))
    assert evaluation.metrics["accuracy"] == pytest.approx(2 / 3)
    assert evaluation.metrics["margin"] == 2
    assert (evaluation.details["pairs"], evaluation.details["scoredPairs"]) == (3, 2)


def test_a_reward_model_is_judged_likewise(prepared: Any, tiny_bert: Path) -> None:
    from finetune_api.dataset import Columns
    from finetune_trainer.tasks.reward_modeling import RewardModeling

    found = prepared(RewardModeling(Columns()), tiny_bert, *pairs())
    evaluation = found.result(torch.tensor([3.0, 50.0, 1.0, 0.0, 0.0, 0.0]))
    assert evaluation.metrics["accuracy"] == pytest.approx(2 / 3)


def test_judged_completions_that_were_cut_off_are_told_from_none(prepared: Any, tiny_llama: Path) -> None:
    from finetune_api.dataset import Columns
    from finetune_trainer.tasks.unpaired_preferences import UnpairedPreferences

    train = [{"prompt": "one", "completion": "two", "label": n % 2 == 0} for n in range(2)]
    test = [
        {"prompt": "two", "completion": "thanks", "label": True},
        {"prompt": LONG, "completion": "thanks", "label": True},
        {"prompt": "two", "completion": "crashes", "label": False},
    ]
    found = prepared(UnpairedPreferences(Columns(), Preference(loss="KTO", beta=0.5)), tiny_llama, train, test)
    evaluation = found.result(torch.tensor([2.0, 50.0, -2.0, 0.0, 50.0, 0.0]))
    assert evaluation.metrics["accuracy"] == 0.5, "of two pairs of a good and a bad one"
    assert evaluation.metrics["margin"] == 2
    assert evaluation.details["kl"] == 0
    assert (evaluation.details["completions"], evaluation.details["scoredCompletions"]) == (3, 2)


def test_the_report_of_several_subtasks_has_all_of_each(tiny_bert: Path, tmp_path: Path) -> None:
    """A whole run: of subtasks, each evaluated on all that is held out for it."""
    from trainer.in_process import run
    from trainer.jobs import job

    words, short = LONG.split(), "two three four"

    def question(context: str, asked: str, answer: str) -> dict[str, Any]:
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        return {"question": asked, "context": context, "answers": answers}

    files = {
        "intent": ([{"text": f"{n} log", "label": "ab"[n % 2]} for n in range(8)], [{"text": LONG, "label": "a"}]),
        "entities": (
            [{"tokens": ["hello", word], "tags": ["O", "B-N"]} for word in words],
            [{"tokens": words, "tags": ["B-N"] * 10}],
        ),
        "answers": (
            [question(short, "what", word) for word in short.split()],
            [question(LONG, "where", "two"), question(LONG, "what", "ten")],
        ),
    }
    kinds = {"intent": "TextClassification", "entities": "TokenClassification", "answers": "QuestionAnswering"}
    subtasks = []
    for name, parts in files.items():
        rows = zip(("train", "test"), parts, strict=True)
        paths = {part: write_jsonl(tmp_path / f"{name}-{part}.jsonl", own) for part, own in rows}
        sources = {part: {"source": f"file://{path}"} for part, path in paths.items()}
        subtasks.append({"name": name, "task": kinds[name], **sources})
    dataset = {"train": None, "subtasks": subtasks, "maxLength": 10, "overLength": "Drop"}
    config = job(tmp_path, tiny_bert, tmp_path, task="MultiTask", method={"full": {}}, dataset=dataset, maxSteps=1)
    run(config, tmp_path)
    report = json.loads((tmp_path / "output/evaluation.json").read_text())
    subtasks_seen = report["subtasks"]
    assert subtasks_seen["intent"]["examples"] == 1
    assert (subtasks_seen["entities"]["words"], subtasks_seen["entities"]["cutWords"]) == (10, 2)
    assert report["metrics"]["entities/accuracy"] <= 0.8
    assert subtasks_seen["answers"]["questions"] == 2
    assert report["heldOut"]["examples"] == 4
    assert report["heldOut"]["unscored"] == 1
