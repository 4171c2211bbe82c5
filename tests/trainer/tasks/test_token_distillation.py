"""A small writer learns from what a trained one would have written in place of every token."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from finetune_trainer.data.batches import packed_batch
from finetune_trainer.data.encoded import Features, encode
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.tasks.token_teacher import TokenTeacher
from trainer.in_process import run
from trainer.jobs import FULL, NUMBERS, job, write_jsonl

HELD_OUT = ["question : three four one two three", "question : nine two one two three four"]
STEPS = 16


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, questions: Path) -> dict[str, Path]:
    """A teacher that counts, and texts in which nobody does: what is to be learnt is not in the data."""
    root = tmp_path_factory.mktemp("token-distillation")
    run(job(root, tiny_llama, questions, task="TextGeneration", method=FULL, maxSteps=30, learningRate=1e-2), root)
    pairs = list(zip(NUMBERS[:4], NUMBERS[4:8], strict=True))
    rows = [{"text": f"question : {a} {b} one {c} {b} four"} for a in NUMBERS for b, c in pairs]
    return {"teacher": root / "output", "texts": write_jsonl(root / "texts.jsonl", rows)}


def student(root: Path, model: Path, places: dict[str, Path], **training: Any) -> Any:
    """On packed rows; its last checkpoint is some steps from the end."""
    settings = {"packing": True, "batchSize": 2, "maxSteps": STEPS, "learningRate": 1e-2, **training}
    common = {"task": "TextGeneration", "method": FULL, "checkpoint": {"everySteps": 6}}
    return job(root, model, places["texts"], **common, **settings)


def taught(places: dict[str, Path], **settings: Any) -> dict[str, Any]:
    return {"distillation": {"teacher": f"file://{places['teacher']}", "temperature": 1.0, **settings}}


def distance(teacher: Path, other: Path) -> float:
    """KL in nats a token, on texts that neither has seen."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(teacher)
    models = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (teacher, other)]
    total, tokens = 0.0, 0
    with torch.no_grad():
        for text in HELD_OUT:
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            wanted, own = (model(ids).logits[0].log_softmax(-1) for model in models)
            total += float(functional.kl_div(own, wanted, reduction="sum", log_target=True))
            tokens += ids.shape[1]
    return total / tokens


def test_a_student_comes_nearer_to_its_teacher_than_one_that_reads_alone(
    places: dict[str, Path], tiny_llama: Path, tmp_path: Path
) -> None:
    """And a run that is killed goes on exactly."""
    alone, learnt, broken = (tmp_path / name for name in ("alone", "learnt", "broken"))
    run(student(alone, tiny_llama, places), alone)
    settings = taught(places, weight=1.0)
    _, whole = run(student(learnt, tiny_llama, places, **settings), learnt)
    _, before = run(student(broken, tiny_llama, places, **settings), broken, end_at=STEPS - 2)
    _, after = run(student(broken, tiny_llama, places, **settings), broken)
    assert min(after) == 13, "it went on from the checkpoint of step 12"
    assert {**before, **after} == whole
    folders = (tiny_llama, alone / "output", learnt / "output")
    untrained, read, listened = (distance(places["teacher"], folder) for folder in folders)
    assert listened < 0.5 * untrained, (listened, untrained)
    assert listened < 0.5 * read, (listened, read)


def test_it_answers_packed_texts_as_it_would_each_by_itself(places: dict[str, Path]) -> None:
    teacher = TokenTeacher(places["teacher"], "TextGeneration")
    teacher.load(torch.device("cpu"))
    texts = [[5, 6, 7, 8], [9, 10, 11]]
    encoded = encode([Features({"input_ids": ids, "trained": [True] * len(ids)}, len(ids)) for ids in texts])
    together = teacher.logits(packed_batch(encoded, [[0, 1]], pad=0))
    apart = torch.cat([teacher.logits(packed_batch(encoded, [[one]], pad=0)) for one in (0, 1)])
    assert together.shape[0] == 5, "only where something is learnt"
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_any_pretrained_model_of_the_same_vocabulary_teaches_a_writer_with_an_encoder(tmp_path: Path) -> None:
    from trainer import tiny_models
    from trainer.tasks.task_cases import replies

    model, data = tiny_models.t5(tmp_path / "model"), replies(tmp_path / "data")
    common = {"task": "Seq2Seq", "method": {"lora": {"rank": 4}}, "maxSteps": 1, "dropout": 0.0}
    _, alone = run(job(tmp_path / "alone", model, data, **common), tmp_path / "alone")
    settings = taught({"teacher": model}, divergence="JensenShannon")
    _, learnt = run(job(tmp_path, model, data, **common, **settings), tmp_path)
    assert learnt[1] == pytest.approx(0.5 * alone[1]), "it agrees with itself, so half the loss is that of the text"


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        ("other-words", r"teacher: has \d+ tokens and the student \d+, of which \d+ differ, such as .*; what it says"),
        ("nothing", "teacher: file://.* has no config.json, so it is no model"),
    ],
)
def test_a_teacher_of_other_words_is_refused(
    teacher: str, expected: str, places: dict[str, Path], tiny_llama: Path, wild_bert: Path, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "README.md").write_text("hello")
    folder = wild_bert if teacher == "other-words" else tmp_path / "nothing"
    with pytest.raises(ConfigurationError, match=expected):
        run(student(tmp_path, tiny_llama, places, **taught({"teacher": folder})), tmp_path)
