"""What a model has learnt from stays known, so that no later job is judged by it without a word."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_api.dataset import Dataset
from finetune_trainer.data.prepare import PreparedData, prepare
from finetune_trainer.data.report import held_out_report
from finetune_trainer.data.trained_on import KEPT, TRAINED_ON_FILE, TrainedOn, unseen
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration
from trainer.in_process import run
from trainer.jobs import FULL, job, write_jsonl

SPLIT = {"validation": 0.1, "test": 0.2, "seed": 1}


def hashes(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1 << 63, size=count, dtype=np.uint64)


def test_of_few_inputs_each_is_known_and_of_many_a_fair_sample() -> None:
    few = hashes(100, 0)
    assert TrainedOn.of(few).share_of(np.concatenate([few[:30], hashes(10, 1)])) == (40, 0.75)
    many = hashes(20 * KEPT, 2)
    held_out = np.concatenate([many[::10], hashes(6 * KEPT, 3)])
    known, share = TrainedOn.of(many).share_of(held_out)
    assert known == pytest.approx(len(held_out) / 20, rel=0.1)
    assert share == pytest.approx(0.25, abs=0.05)


def test_what_two_trainings_have_seen_is_as_if_one_had() -> None:
    few, many = hashes(100, 0), hashes(3 * KEPT, 1)
    joined = TrainedOn.joined([TrainedOn.of(few), TrainedOn.of(many)])
    whole = TrainedOn.of(np.concatenate([many, few]))
    assert (joined.hashes == whole.hashes).all()
    assert not joined.whole
    assert not TrainedOn.joined([TrainedOn.of(few), TrainedOn(few, whole=False)]).whole


@pytest.fixture(scope="module")
def trained(tiny_bert: Path, tickets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    run(job(root, tiny_bert, tickets, method=FULL, dataset={"split": SPLIT}, maxSteps=1), root)
    return root / "output"


def further(root: Path, model: Path, data: Path, **split: Any) -> None:
    run(job(root, model, data, method=FULL, dataset={"split": {**SPLIT, **split}}, maxSteps=1), root)


def test_a_model_is_not_judged_by_what_it_was_trained_on(trained: Path, tickets: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.validation: model\.source file://.* trained on [5-9]\d% of these"):
        further(tmp_path, trained, tickets, seed=2)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / TRAINED_ON_FILE).write_text("{}")
    with pytest.raises(ConfigurationError, match=r"model\.source: its trained_on\.json is damaged"):
        TrainedOn.beside(broken, "model.source")


def test_a_model_that_is_trained_on_takes_along_what_it_has_seen(trained: Path, tickets: Path, tmp_path: Path) -> None:
    other = write_jsonl(tmp_path / "o.jsonl", [{"text": f"ticket of day {n}", "label": str(n % 2)} for n in range(40)])
    further(tmp_path, trained, other)
    before, after = (TrainedOn.beside(folder, "model.source") for folder in (trained, tmp_path / "output"))
    assert before is not None
    assert after is not None
    assert len(after.hashes) == len(before.hashes) + 28
    assert set(before.hashes) < set(after.hashes)


def test_a_few_that_were_seen_are_told(tiny_bert: Path, tmp_path: Path) -> None:
    """Data that has grown keeps most of its parts, and not all."""
    rows = [{"text": f"ticket of day {n}", "label": str(n % 2)} for n in range(100)]
    dataset = Dataset.model_validate(
        {"train": {"source": f"file://{write_jsonl(tmp_path / 'd.jsonl', rows)}"}, "split": {"test": 0.4}}
    )
    task = TextClassification(dataset.columns)
    data = prepare(dataset, task, task.load_processor(tiny_bert), 32, tmp_path, lambda uri: Path(uri[7:]))
    assert unseen(data, TrainedOn.of(data.identities["train"]), "m") == data
    told = unseen(data, TrainedOn.of(data.identities["test"][:2]), "m").report
    assert told["trainedOnBefore"] == {"test": {"lookedUp": 40, "share": 0.05}}
    assert held_out_report(told, "test")["trainedOnBefore"] == 0.05
    assert (
        unseen(data, TrainedOn.of(data.identities["test"][:8]), "m").report["trainedOnBefore"]["test"]["share"] == 0.2
    )
    with pytest.raises(
        DataError, match=r"^dataset\.test: model\.source m has been trained on 22% of these 40 examples"
    ):
        unseen(data, TrainedOn.of(data.identities["test"][:9]), "m")


def test_texts_that_a_model_has_read_may_be_classified(tiny_bert: Path, tiny_llama: Path, tmp_path: Path) -> None:
    rows = [{"text": f"ticket of day {n}", "label": str(n % 2)} for n in range(10)]
    dataset = Dataset.model_validate({"train": {"source": f"file://{write_jsonl(tmp_path / 'd.jsonl', rows)}"}})
    tasks = (
        (TextGeneration(dataset.columns, packing=False), tiny_llama),
        (TextClassification(dataset.columns), tiny_bert),
    )
    read, classified = (
        prepare(dataset, task, task.load_processor(model), 32, tmp_path, lambda uri: Path(uri[7:])).identities["train"]
        for task, model in tasks
    )
    assert len(read) == len(classified) == 10
    assert not np.isin(read, classified).any()


def held_out(identities: np.ndarray) -> PreparedData:
    nothing: Any = None
    return PreparedData(nothing, nothing, nothing, [], "", {"heldOut": {"test": {}}}, {"test": identities})


def test_one_hit_among_the_few_that_a_sample_tells_of_refuses_no_job() -> None:
    """Of a million inputs the hashes of one in sixty are kept: of 100 held-out examples two can be looked up."""
    many = np.sort(hashes(60 * KEPT, 4))
    before = TrainedOn.of(many)
    rare = held_out(np.concatenate([many[:1], many[-1:], hashes(98, 5) | np.uint64(1 << 63)]))
    assert unseen(rare, before, "m").report["trainedOnBefore"] == {"test": {"lookedUp": 1, "share": 1.0}}
    with pytest.raises(DataError, match="trained on 100% of 200 drawn from these 12000 examples"):
        unseen(held_out(np.concatenate([many[:200], many[-11800:]])), before, "m")
