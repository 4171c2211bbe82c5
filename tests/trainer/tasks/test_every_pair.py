"""Every task trains by every method that the support table allows it; test_every_task has each with one method."""

from pathlib import Path
from typing import Any

import pytest

from exhaustive import some_of
from finetune_api.method import METHODS
from finetune_api.method_support import refusal
from finetune_api.metrics import TASKS
from serving.in_process import serving
from trainer.in_process import run
from trainer.methods import method_runs
from trainer.tasks.test_every_task import EVERY_CASE, RARELY, job_of

PAIRS = {
    f"{name}-{method}": (name, method)
    for name, case in EVERY_CASE.items()
    for method in case.methods
    if method not in ("full", *case.method) and not refusal(method, case.task)
}
USUAL = [pair for pair, (name, method) in PAIRS.items() if method in ("lora", "promptTuning") and name not in RARELY]
SETTINGS: dict[str, dict[str, Any]] = {"adalora": {"initialRank": 4, "targetRank": 2, "allocateEverySteps": 1}}


@pytest.mark.parametrize("pair", some_of(PAIRS, USUAL))
async def test_it_learns_and_reads_back_as_it_was_trained_and_answers(pair: str, tmp_path: Path) -> None:
    """The trainer reads every export back and compares it with what it trained; a server is ready once it answers."""
    name, method = PAIRS[pair]
    case = EVERY_CASE[name]
    places = case.model(tmp_path / "model"), case.data(tmp_path / "data")
    changes = {"method": {method: SETTINGS.get(method, {})}, "maxSteps": 6, "dataset": {"split": None}}
    result, losses = run(job_of(case, tmp_path, *places, **changes), tmp_path)
    assert result.format == "Adapter"
    assert losses[6] != losses[1]
    async with serving(tmp_path / "output", name="tiny") as server:
        assert (await server.client.get("/v2/health/ready")).status_code == 200


def test_no_pair_of_the_table_is_left_out() -> None:
    tried = {(EVERY_CASE[name].task, method) for name, method in PAIRS.values()}
    tried |= {(case.task, method) for case in EVERY_CASE.values() for method in case.method}
    by_method = {method for case in method_runs.CASES.values() for method in case.method}
    tried |= {(task, method) for task in ("TextGeneration", "TextClassification") for method in by_method}
    allowed = {(task, method) for task in TASKS for method in METHODS if not refusal(method, task)}
    assert allowed - tried == {("TextClassification", "full")}, "with which test_chain converts"
