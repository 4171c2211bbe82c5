"""The training loop, from the first step to the last."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from finetune_api.optimization import Plateau
from finetune_api.reports import MAX_STRAGGLERS
from finetune_api.training import Training
from finetune_trainer.checkpoint.background import BackgroundCheckpoints
from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import Preempted
from finetune_trainer.loop.best_model import BestModel, watched
from finetune_trainer.loop.evaluation import EvaluationStopped
from finetune_trainer.loop.feed import DeviceFeed, Feed, StepData
from finetune_trainer.loop.forward import loss_sum, precision_context, step_sums
from finetune_trainer.loop.generators import generator_states, restore_generators, seed_everything
from finetune_trainer.loop.history import History
from finetune_trainer.loop.loss_spike import LossSpikeWatchdog
from finetune_trainer.loop.plan import StepPlan
from finetune_trainer.loop.plateau import PlateauFactor
from finetune_trainer.loop.process_group import sum_over_ranks
from finetune_trainer.loop.schedule import schedule_of
from finetune_trainer.loop.stragglers import OwnTime, Stragglers, of_every_rank
from finetune_trainer.loop.throughput import Throughput
from finetune_trainer.loop.watchdog import FiniteWatchdog
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.metrics.scores import Evaluation
from finetune_trainer.models.fused_head import FusedHead
from finetune_trainer.parallel.strategy import Strategy
from finetune_trainer.run import Run
from finetune_trainer.stop import StepAgreement
from finetune_trainer.tasks.task import STEP, StepWide, Task
from finetune_trainer.train_state import TrainState

log = logging.getLogger(__name__)

LOSS_SUM = "loss_sum"


@dataclass
class TrainingLoop:
    """Trains the model in place, on one process or on many: the strategy knows how.

    One global batch a step: gradients are summed over micro-batches and ranks and divided by the number of targets
    of the whole batch, so the result does not depend on how the batch was cut up. All state that a resumed run
    needs goes into `TrainState`; everything else is a function of the step.
    """

    task: Task
    adaptation: Adaptation
    strategy: Strategy
    training: Training
    plan: StepPlan
    feed: Feed
    device: torch.device
    run: Run
    checkpoints: BackgroundCheckpoints
    agreement: StepAgreement
    evaluate: Callable[[], Evaluation] | None = None
    """Evaluates on the validation data, when there is any. Raises EvaluationStopped when a stop is asked for."""
    head: FusedHead | None = None
    """Computes the loss in place of the task, where the model allows it."""
    step: int = 0
    """Optimizer steps done."""
    baseline: dict[str, Any] = field(default_factory=dict)
    """Metrics before training, kept over restarts."""
    history: History = field(default_factory=History)
    """What was logged since the first step, kept over restarts."""

    def __post_init__(self) -> None:
        training = self.training
        stopping = training.early_stopping
        self.schedule = schedule_of(training, self.plan.total_steps)
        self.plateau = PlateauFactor(training.plateau or Plateau() if training.scheduler == "ReduceOnPlateau" else None)
        self.learning_rate = 0.0
        self.best = BestModel(stopping.metric, stopping.patience) if stopping else BestModel()
        self.best_weights: dict[str, Tensor] = {}
        self.watchdog = FiniteWatchdog(self.device, scaled=training.precision == "Float16")
        self.spikes = LossSpikeWatchdog(training.loss_spike)
        self.throughput = Throughput()
        self.own_time = OwnTime(self.device)
        self.stragglers = Stragglers()
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.targets = self.tokens = 0
        self.gradient_norm = torch.zeros((), device=self.device)
        self.batches = DeviceFeed(self.feed, self.device)
        self._reported: dict[str, Any] | None = None
        self.unevaluated = False
        """A stop came into the evaluation that is due at this step."""

    def prepare(self) -> None:
        """Warms up, then restores the newest checkpoint or starts from the seed."""
        self.strategy.module.train()
        self._warm_up()
        seed_everything(self.training.seed, self.run.rank)
        state = self.checkpoints.restore(self.strategy.shapes())
        if state is not None:
            self._restore(state)
            log.info("resumed at step %d of %d", self.step, self.plan.total_steps)
            self.run.reporter.update(step=self.step, resumed_from_step=self.step)
            self._report_checkpoint()
        self.run.metrics.total_steps.set(self.plan.total_steps)
        self.run.reporter.update(stage="Training", total_steps=self.plan.total_steps)

    def train(self) -> None:
        """All remaining steps.

        Raises:
            Preempted: A stop was agreed; a verified checkpoint holds everything.
            DivergedError: The loss is NaN or infinite, or has jumped up.
        """
        self.throughput.read()
        if self.unevaluated:
            self._evaluate()
        while self.step < self.plan.total_steps and not self.best.exhausted:
            self.own_time.begin()
            self._take_step(self.batches.at(self.step))
            if self._logs_at(self.step):
                self._log()
            if self._evaluates_at(self.step):
                self._evaluate()
            self.checkpoints.check()
            decision = self.agreement.at(self.step)
            if decision.save and not self._finished():
                self._save(stopping=decision.stop)
            if decision.stop and not self._finished():
                raise Preempted(self.step, self.checkpoints.last.uri if self.checkpoints.last else None)
            self._report_checkpoint()
            self.run.heartbeat.step(self.step)
        self.run.heartbeat.rest()
        self.batches.close()

    def save_finished(self) -> None:
        """A checkpoint of the finished training: whatever fails later starts again from here.

        It holds the last weights, which are those to average; then early stopping has the best put into the model.
        """
        self.checkpoints.wait()
        if self.checkpoints.last is None or self.checkpoints.last.step != self.step:
            self._save_now(final=False)
        self._report_checkpoint()
        self._restore_best()

    def _take_step(self, data: StepData) -> None:
        self.learning_rate = self.schedule.at(self.step, self.plateau.value)
        step_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for place, batch in enumerate(self._with_sums(data.micro), start=1):
            last = place == len(data.micro)
            with self.strategy.micro_batch(last):
                with precision_context(self.training.precision, self.device):
                    loss = self._loss_sum(batch)
                if last:
                    self.own_time.end()
                # Gradients are averaged over ranks; times world_size makes it the sum that the division expects.
                objective = loss * (self.plan.world_size / max(1, data.targets))
                if last and (penalty := self.adaptation.penalty()) is not None:
                    objective = objective + penalty
                self.strategy.backward(objective)
            step_loss += loss.detach()
        self.gradient_norm = self.strategy.step(self.learning_rate)
        self.watchdog.observe(self.step + 1, step_loss, self.gradient_norm)
        self.adaptation.after_step(self.step + 1)
        self.strategy.clear_gradients()
        self.step += 1
        self.loss_sum += step_loss
        self.targets += data.targets
        self.tokens += data.tokens
        self.throughput.count(data.tokens)
        self.run.metrics.tokens.inc(data.tokens)

    def _with_sums(self, micro: list[Batch]) -> list[Batch]:
        """With what the task's loss needs of all of them, on every rank."""
        if not isinstance(self.task, StepWide):
            return micro
        sums = step_sums(self.task, self.strategy.module, micro, self.training.precision, self.device)
        self.own_time.begin()  # ranks have waited for each other
        return [replace(batch, extras={**batch.extras, STEP: sums}) for batch in micro]

    def _loss_sum(self, batch: Batch) -> Tensor:
        return loss_sum(self.task, self.strategy.model, batch, self.training.label_smoothing, self.head)

    def _logs_at(self, step: int) -> bool:
        return step == 1 or step % self.training.log_every_steps == 0 or step == self.plan.total_steps

    def _evaluates_at(self, step: int) -> bool:
        return self.evaluate is not None and (step % self.plan.evaluate_every == 0 or step == self.plan.total_steps)

    def _finished(self) -> bool:
        return self.step >= self.plan.total_steps or self.best.exhausted

    def _log(self) -> None:
        self.watchdog.check(self.strategy.loss_scaling().get("scale"))
        loss = float(sum_over_ranks(self.loss_sum.clone())) / max(1, self.targets)
        self.loss_sum.zero_()
        self.targets = 0
        self.spikes.note(self.step, loss)
        rate, norm = self.learning_rate, float(self.gradient_norm)
        tokens_per_second = self.throughput.read()
        self.history.log(
            self.step, loss=loss, learningRate=rate, gradientNorm=norm, tokensPerSecond=round(tokens_per_second)
        )
        self._note_stragglers()
        left = round((self.plan.total_steps - self.step) * self.throughput.seconds_per_step)
        epoch = self.step / self.plan.steps_per_epoch
        metrics = self.run.metrics
        for gauge, value in (
            (metrics.step, self.step),
            (metrics.epoch, epoch),
            (metrics.loss, loss),
            (metrics.learning_rate, rate),
            (metrics.gradient_norm, norm),
            (metrics.tokens_per_second, tokens_per_second),
        ):
            gauge.set(value)
        self.run.reporter.update(
            stage="Training",
            step=self.step,
            epoch=epoch,
            loss=loss,
            learning_rate=rate,
            tokens_per_second=tokens_per_second,
            eta_seconds=left,
        )
        if self.run.rank == 0:
            log.info(
                "step %d/%d  epoch %.2f  loss %.4f  lr %.2e  grad %.2f  %.0f %s/s  %ds left",
                *(self.step, self.plan.total_steps, epoch, loss, rate, norm, tokens_per_second, self.task.unit, left),
            )

    def _note_stragglers(self) -> None:
        run = self.run
        own = of_every_rank(self.own_time.read(), run.rank, run.world_size, self.device)
        named = self.stragglers.note(own, self.throughput.seconds_per_step)
        run.metrics.show_stragglers({one.rank: one.slowdown for one in named})
        run.reporter.update(
            stragglers=[{"rank": one.rank, "slowdown": round(one.slowdown, 1)} for one in named[:MAX_STRAGGLERS]]
        )
        if run.rank == 0:
            for one in named:
                log.warning("rank %d holds the others up: %.1f times slower than they", one.rank, one.slowdown)

    def _evaluate(self) -> None:
        assert self.evaluate is not None
        generators = generator_states()
        try:
            with self.throughput.paused(), self.run.heartbeat.evaluation():
                self.watchdog.check()
                self.run.reporter.update(stage="Evaluating", step=self.step)
                evaluation = self.evaluate()
                self.run.reporter.update(stage="Training")
        except EvaluationStopped:
            restore_generators(generators)
            self._leave_unevaluated()
        self.unevaluated = False
        metrics = evaluation.metrics
        self.history.evaluated(self.step, metrics)
        if self.best.patience is None:  # only kept track of
            value = metrics.get(self.best.metric, math.nan)
        else:
            value = watched(evaluation, self.best.metric, "training.earlyStopping.metric")
        improved = self.best.note(value, self.step)
        if self.plateau.note(evaluation, self.step) and self.run.rank == 0:
            log.info("step %d  no improvement: learning rate × %g", self.step, self.plateau.value)
        if improved and self.best.patience is not None:
            self.best_weights = {name: weight.cpu().clone() for name, weight in self.strategy.weights().items()}
        if self.best.value is not None:
            self.run.reporter.update(best_metric={self.best.metric: self.best.value})
        if self.run.rank == 0:
            shown = "  ".join(f"{name} {number:.4f}" for name, number in metrics.items())
            log.info("step %d  validation: %s%s", self.step, shown, "  (best so far)" if improved else "")
            if self.best.exhausted:
                log.info("early stopping: %s has not improved in %d evaluations", self.best.metric, self.best.patience)

    def _leave_unevaluated(self) -> NoReturn:
        """The evaluation may take longer than the grace period; the next attempt begins with it."""
        self.unevaluated = True
        if self.checkpoints.last is None or self.checkpoints.last.step != self.step:
            self._save_now(final=True)
        raise Preempted(self.step, self.checkpoints.last.uri if self.checkpoints.last else None)

    def _save(self, stopping: bool) -> None:
        if stopping:
            self._save_now(final=True)
            return
        with self.throughput.paused(), self.run.heartbeat.other_work():
            self.watchdog.check()
            self.checkpoints.save(self._state())
            self.agreement.saved()

    def _save_now(self, final: bool) -> None:
        with self.throughput.paused(), self.run.heartbeat.other_work():
            self.watchdog.check()
            self.checkpoints.save_now(self._state(), final=final)
        self._report_checkpoint()

    def _report_checkpoint(self) -> None:
        """Once it is verified, whenever that was."""
        last = self._last_checkpoint()
        if last != self._reported:
            self._reported = last
            self.run.reporter.update(checkpoint=last)

    def _last_checkpoint(self) -> dict[str, Any] | None:
        last = self.checkpoints.last
        return {"step": last.step, "uri": last.uri} if last else None

    def _state(self) -> TrainState:
        return TrainState(
            step=self.step,
            weights=self.strategy.weights(),
            optimizer=self.strategy.optimizer_state(),
            local={**generator_states(), LOSS_SUM: self.loss_sum.reshape(1), **self.feed.state(self.step)},
            counters={
                "targets": self.targets,
                "lossSum": float(sum_over_ranks(self.loss_sum.clone())),
                "tokens": self.tokens,
                "best": self.best.counters(),
                "baseline": self.baseline,
                "unevaluated": self.unevaluated,
                "history": self.history.wire(),
                "plateau": self.plateau.counters(),
                "spikes": self.spikes.counters(),
                "lossScaling": self.strategy.loss_scaling(),
            },
            best_weights=self.best_weights,
            method=self.adaptation.state(),
            sharded=self.strategy.sharded,
        )

    def _restore(self, state: TrainState) -> None:
        self.step = state.step
        self.strategy.load_weights(state.weights)
        self.adaptation.restore(state.method)
        self.strategy.load_optimizer_state(state.optimizer)
        self.strategy.load_loss_scaling(state.counters["lossScaling"])
        self.plateau.restore(state.counters["plateau"])
        self.spikes.restore(state.counters["spikes"])
        self.best.restore(state.counters["best"])
        self.best_weights = self.strategy.share(state.best_weights)
        self.baseline = state.counters["baseline"]
        self.unevaluated = state.counters.get("unevaluated", False)
        self.tokens = state.counters["tokens"]
        self.history.restore(state.counters["history"])
        if state.local:
            restore_generators(state.local)
            self.feed.restore(state.local, state.step)
            self.loss_sum.copy_(state.local[LOSS_SUM][0])
            self.targets = state.counters["targets"]
        else:  # another number of ranks: new random numbers, though not those of the first step again
            seed_everything(self.training.seed + state.step, self.run.rank)
            if "lossSum" in state.counters:  # all that was summed since the last log line; rank 0 goes on with it
                self.loss_sum.fill_(state.counters["lossSum"] if self.run.rank == 0 else 0.0)
                self.targets = state.counters["targets"]

    def _restore_best(self) -> None:
        if self.best_weights:
            self.strategy.load_share(self.best_weights)
            if self.run.rank == 0:
                log.info("the weights of step %d, the best, are restored", self.best.step)

    def _warm_up(self) -> None:
        """Passes over the longest rows, without effect, where the strategy asks for them.

        With them behind, the first step of a resumed run sums gradients exactly as the same step of an unbroken run.
        They also find out at once whether the memory of a GPU suffices.
        """

        (longest,) = self._with_sums([self.feed.longest().to(self.device)])

        def objective() -> Tensor:
            with precision_context(self.training.precision, self.device):
                return self._loss_sum(longest) * 0.0

        self.strategy.warm_up(objective)
