"""Early stopping keeps the best weights; a loss that is not a number ends the run."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.errors import Preempted
from trainer.in_process import run
from trainer.jobs import FULL, Recorder, job


def test_early_stopping_ends_the_run_and_restores_the_best_weights(
    tiny_bert: Path, tickets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A learning rate that first learns and then destroys."""
    caplog.set_level("INFO")
    settings = {
        "method": FULL,
        "dataset": {"split": {"validation": 0.3, "stratifyBy": "label"}},
        "checkpoint": {"everySteps": 4, "keep": 1},
        "epochs": 60,
        "learningRate": 2e-2,
        "scheduler": "Constant",
        "evaluateEverySteps": 3,
        "earlyStopping": {"metric": "loss", "patience": 3},
    }
    result, losses = run(job(tmp_path / "a", tiny_bert, tickets, **settings), tmp_path / "a")
    evaluations = [
        float(line.split(" loss ")[1].split()[0]) for line in caplog.messages if " validation: accuracy" in line
    ]
    assert max(losses) == 3 * len(evaluations) < 480
    best = min(evaluations)
    assert evaluations.index(best) == len(evaluations) - 4
    assert result.evaluated_on == "validation"
    assert result.metrics["loss"] == pytest.approx(best, abs=1e-4)

    killed = job(tmp_path / "b", tiny_bert, tickets, **settings)
    run(killed, tmp_path / "b", end_at=max(losses) - 1)
    [kept] = (folder for folder in (tmp_path / "b/checkpoints").iterdir() if folder.is_dir())
    assert int(kept.name.split("-")[1]) > 3 * (1 + evaluations.index(best)), "the best step's own checkpoint is gone"
    assert run(killed, tmp_path / "b")[0].metrics == result.metrics


def test_a_loss_that_is_not_a_number_ends_the_run_before_anything_is_saved(
    tiny_bert: Path, tickets: Path, tmp_path: Path
) -> None:
    from finetune_trainer.loop.watchdog import NotFiniteError

    config = job(
        tmp_path,
        tiny_bert,
        tickets,
        method=FULL,
        maxSteps=50,
        learningRate=10,
        maxGradNorm=0,
        scheduler="Constant",
        checkpoint={"everySteps": 5},
        logEverySteps=50,
        weightDecay=1.0,
    )
    from finetune_trainer.loop import schedule

    # The highest learning rate that the API takes is not enough to break so small a model.
    original = schedule.Schedule.at
    schedule.Schedule.at = lambda self, step, factor: 1e30 if step >= 6 else original(self, step)  # type: ignore[method-assign]
    try:
        with pytest.raises(NotFiniteError, match=r"not a finite number since at step [789]"):
            run(config, tmp_path)
    finally:
        schedule.Schedule.at = original  # type: ignore[method-assign]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()] == ["step-00000005"]
    assert not (tmp_path / "output").exists()


def test_a_run_that_is_over_only_exports_again(tiny_bert: Path, tickets: Path, tmp_path: Path) -> None:
    config = job(tmp_path, tiny_bert, tickets, maxSteps=3, dataset={"split": {"test": 0.2}})
    first, _ = run(config, tmp_path)
    again, losses = run(config, tmp_path)
    assert losses == {}
    assert again.metrics == first.metrics
    report = json.loads((tmp_path / "output/evaluation.json").read_text())
    assert report["baselineMetrics"]["loss"] > 1.0, "the metrics before training survive the restart"


class StopsInEvaluations(Recorder):
    """Asks for a stop as soon as an evaluation begins."""

    def __init__(self, stop: Any) -> None:
        super().__init__()
        self._stop = stop

    def update(self, **fields: Any) -> None:
        super().update(**fields)
        if fields.get("stage") == "Evaluating":
            self._stop.request()


def test_a_stop_does_not_wait_for_the_end_of_an_evaluation_which_the_next_attempt_makes_up_for(
    tiny_bert: Path, tickets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may take hours, and a grace period is minutes. Early stopping sees the same metrics as in an unbroken run."""
    from finetune_trainer.recipe import train
    from finetune_trainer.run import Run
    from finetune_trainer.stop import StopSignal

    caplog.set_level("INFO")
    settings = {
        "dataset": {"split": {"validation": 0.3, "stratifyBy": "label"}},
        "maxSteps": 6,
        "evaluateEverySteps": 3,
        "earlyStopping": {"metric": "loss", "patience": 3},
        "checkpoint": {"everySteps": 100},
    }
    _, expected = run(job(tmp_path / "a", tiny_bert, tickets, **settings), tmp_path / "a")
    config, losses = job(tmp_path / "b", tiny_bert, tickets, **settings), {}
    for _ in range(2):  # the second stop comes into what is made up for
        caplog.clear()
        stop = StopSignal()
        recorder = StopsInEvaluations(stop)
        with pytest.raises(Preempted, match=r"stopped on request at step 3, checkpoint .*3$"):
            train(config, Run(tmp_path / "b/scratch", stop=stop, reporter=recorder))
        losses |= recorder.losses
        assert not [line for line in caplog.messages if "  validation: " in line]
    _, rest = run(config, tmp_path / "b")
    assert losses | rest == expected
    histories = [json.loads((tmp_path / place / "output/training_history.json").read_text()) for place in "ab"]
    assert histories[1]["validation"] == histories[0]["validation"]
