"""Steps, learning rates, throughput: the arithmetic of the loop."""

import json
import math

import numpy as np
import pytest

from finetune_api.optimization import LossSpike, Plateau
from finetune_api.training import Training
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.loop.best_model import BestModel
from finetune_trainer.loop.loss_spike import LossSpikeError, LossSpikeWatchdog
from finetune_trainer.loop.plan import plan_steps
from finetune_trainer.loop.plateau import PlateauFactor
from finetune_trainer.loop.schedule import Schedule, check_schedule, schedule_of
from finetune_trainer.loop.throughput import Throughput
from finetune_trainer.metrics.class_metrics import class_metrics
from finetune_trainer.metrics.scores import Evaluation


def test_steps_follow_from_epochs_and_batch_size() -> None:
    plan = plan_steps(Training(batch_size=32, micro_batch_size=4, epochs=2.5), rows=100, world_size=2)
    assert (plan.steps_per_epoch, plan.total_steps, plan.accumulation) == (4, 10, 4)
    assert plan_steps(Training(), rows=100, world_size=1).total_steps == 12, "3 epochs by default"
    assert plan_steps(Training(max_steps=7), rows=100, world_size=1).total_steps == 7


@pytest.mark.parametrize(("batch", "micro", "world"), [(10, None, 4), (12, 4, 2)])
def test_a_batch_that_cannot_be_shared_is_refused(batch: int, micro: int | None, world: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"training\.batchSize \({batch}\) must be a multiple"):
        plan_steps(Training(batch_size=batch, micro_batch_size=micro), rows=100, world_size=world)


def test_learning_rates() -> None:
    linear = Schedule("Linear", 1.0, total_steps=10, warmup_steps=2)
    assert [round(linear.at(s), 3) for s in (0, 1, 2, 6, 9, 10)] == [0.333, 0.667, 1.0, 0.5, 0.125, 0.0]
    cosine = Schedule("Cosine", 1.0, total_steps=10, warmup_steps=0)
    assert [round(cosine.at(s), 3) for s in (0, 5, 10)] == [1.0, 0.5, 0.0]
    assert Schedule("Constant", 1.0, 10, 0).at(9) == 1.0
    stable = schedule_of(Training(scheduler="WarmupStableDecay", learning_rate=1.0, warmup=2, decay=0.4), 10)
    assert [stable.at(s) for s in (2, 5, 6, 7, 9, 10)] == [1.0, 1.0, 1.0, 0.75, 0.25, 0.0]
    plateau = schedule_of(Training(scheduler="ReduceOnPlateau", learning_rate=1.0, min_learning_rate=0.1), 10)
    assert [plateau.at(9, factor) for factor in (1.0, 0.5, 0.01)] == [1.0, 0.5, 0.1]


@pytest.mark.parametrize("kind", ["Linear", "Cosine", "WarmupStableDecay"])
def test_a_schedule_ends_at_its_least_learning_rate(kind: str) -> None:
    schedule = schedule_of(Training(scheduler=kind, learning_rate=1.0, min_learning_rate=0.25), 10)
    assert schedule.at(0) == 1.0
    assert schedule.at(10) == 0.25
    assert all(0.25 < schedule.at(step) <= 1.0 for step in range(10))


def test_a_plateau_lowers_the_learning_rate_after_its_patience_and_remembers_it() -> None:
    plateau = PlateauFactor(Plateau(factor=0.1, patience=2))
    values = [1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.4]
    assert [plateau.note(Evaluation({"loss": v}, {}), s) for s, v in enumerate(values)] == [False] * 3 + [
        True,
        False,
        True,
        False,
    ]
    assert plateau.value == pytest.approx(0.01)
    again = PlateauFactor(Plateau(factor=0.1, patience=2))
    again.restore(json.loads(json.dumps(plateau.counters())))
    assert (again.value, again.note(Evaluation({"loss": 0.41}, {}), 7)) == (plateau.value, False)
    assert not PlateauFactor(None).note(Evaluation({"loss": 1.0}, {}), 1)


def test_a_watched_metric_that_the_data_does_not_allow_ends_the_run_with_the_reason() -> None:
    without_a_class = class_metrics(np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]), np.array([0, 1]), ["a", "b", "c"])
    plateau = PlateauFactor(Plateau(metric="auc"))
    reason = r"training\.plateau\.metric 'auc' cannot be watched on the validation data: .* no example of c.*accuracy"
    with pytest.raises(DataError, match=reason):
        plateau.note(without_a_class, 1)


def test_a_loss_that_jumps_up_and_stays_there_ends_the_run() -> None:
    watchdog = LossSpikeWatchdog(LossSpike(factor=2, patience=2))
    for step, loss in enumerate([9.0, 1.0, 1.1, 0.9, 1.0, 2.5, 1.0, 1.2]):  # one spike alone is tolerated
        watchdog.note(step, loss)
    watchdog.note(8, 2.6)
    again = LossSpikeWatchdog(LossSpike(factor=2, patience=2))
    again.restore(json.loads(json.dumps(watchdog.counters())))
    with pytest.raises(LossSpikeError, match=r"the loss is 2\.7 at step 9, more than 2 times the usual 1, for 2 log"):
        again.note(9, 2.7)
    LossSpikeWatchdog(None).note(1, 1e9)


def test_warmup_below_one_is_a_share() -> None:
    assert schedule_of(Training(warmup=0.1), 55).warmup_steps == 6
    assert schedule_of(Training(warmup=20), 55).warmup_steps == 20
    assert schedule_of(Training(warmup=0.95), 10).warmup_steps == 9, "rounded up it would be the whole run"
    assert schedule_of(Training(warmup=0.1, learning_rate=1.0), 1).at(0) == 1


def test_a_warmup_or_decay_that_the_run_has_no_room_for_is_refused_when_its_steps_are_known() -> None:
    check_schedule(Training(epochs=1, warmup=20), 55)
    with pytest.raises(
        ConfigurationError, match=r"training\.warmup \(55 steps\) takes all of the steps of this run \(55\)"
    ):
        check_schedule(Training(epochs=1, warmup=55), 55)
    stable = Training(epochs=1, scheduler="WarmupStableDecay", warmup=0.3, decay=40)
    check_schedule(stable, 60)
    with pytest.raises(
        ConfigurationError, match=r"warmup \(0\.3\) and decay \(40\) together are longer than .* \(55\)"
    ):
        check_schedule(stable, 55)


def test_the_learning_rate_never_is_zero_before_the_end() -> None:
    for kind in ("Linear", "Cosine", "Constant"):
        schedule = Schedule(kind, 1.0, total_steps=20, warmup_steps=5)
        assert all(schedule.at(step) > 0 for step in range(20))


def test_best_model_goes_by_the_direction_of_its_metric() -> None:
    f1 = BestModel("f1", patience=2)
    assert [f1.note(v, s) for s, v in enumerate([0.5, 0.7, 0.6, float("nan")])] == [True, True, False, False]
    assert f1.exhausted
    assert (f1.value, f1.step) == (0.7, 1)
    loss = BestModel("loss")
    assert [loss.note(v, s) for s, v in enumerate([0.5, 0.7, 0.4, math.nan])] == [True, False, True, False]
    assert not loss.exhausted, "without patience it never ends"


def test_pauses_do_not_count_in_the_throughput() -> None:
    now = 0.0
    throughput = Throughput(clock=lambda: now)
    throughput.count(100)
    now = 1.0
    with throughput.paused():
        now = 100.0
    throughput.count(100)
    now = 101.0
    assert throughput.read() == pytest.approx(100)
    assert throughput.seconds_per_step == pytest.approx(1)
