"""Fine-tuning from end to end: model, data, method, training, evaluation, artifact."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from finetune_api.distillation import WRITING
from finetune_api.reports import StepResult, TrainingResult
from finetune_api.trainer_config import TrainerConfig
from finetune_api.training import Training
from finetune_trainer.checkpoint import CheckpointStore, Lineage
from finetune_trainer.checkpoint.background import BackgroundCheckpoints
from finetune_trainer.checkpoint.pinned_model import pin_model, pin_teacher
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.joined import Joined
from finetune_trainer.data.prepare import PreparedData, prepare
from finetune_trainer.data.report import reported_data, summary
from finetune_trainer.data.sampling import class_weights, resampled, sampling_report, weighted
from finetune_trainer.data.subtasks import mixture_of, prepare_subtasks
from finetune_trainer.data.teacher import open_teacher
from finetune_trainer.data.trained_on import TrainedOn, learnt_from, unseen
from finetune_trainer.errors import ConfigurationError, Preempted
from finetune_trainer.export.artifact import package_versions
from finetune_trainer.export.publish import Exporter
from finetune_trainer.loop.evaluation import EvaluationStopped, Evaluator
from finetune_trainer.loop.feed import Feed
from finetune_trainer.loop.forward import precision_context
from finetune_trainer.loop.generators import seed_everything
from finetune_trainer.loop.memory import explained_memory, explained_preparation
from finetune_trainer.loop.objective import settled
from finetune_trainer.loop.plan import StepPlan, plan_steps
from finetune_trainer.loop.process_group import device_of, process_group
from finetune_trainer.loop.schedule import check_schedule
from finetune_trainer.loop.train import TrainingLoop
from finetune_trainer.methods import Adaptation, apply_method
from finetune_trainer.methods.virtual_tokens import check_encoder
from finetune_trainer.metrics.scores import Evaluation
from finetune_trainer.models.batch_statistics import keep_batch_statistics
from finetune_trainer.models.compilation import check_compiler, compile_layers, explained_compilation
from finetune_trainer.models.from_data import base_model
from finetune_trainer.models.fused_head import FusedHead, fused_head
from finetune_trainer.models.load import LoadedModel
from finetune_trainer.models.packed_texts import check_packing
from finetune_trainer.models.pretrained import open_pretrained
from finetune_trainer.models.quantization import keep_format
from finetune_trainer.models.quiet import quiet_libraries
from finetune_trainer.models.segment_attention import attend_by_segment
from finetune_trainer.parallel.consolidation import whole_model
from finetune_trainer.parallel.loading import comes_in_parts, loaded_once
from finetune_trainer.parallel.selection import strategy_of
from finetune_trainer.parallel.strategy import Strategy
from finetune_trainer.postprocess.chain import Postprocessing
from finetune_trainer.postprocess.members import open_members
from finetune_trainer.postprocess.passed import Passed, average_of, check_average, series_of
from finetune_trainer.postprocess.suitability import check_architecture, check_layers, check_packages
from finetune_trainer.processors import set_threads
from finetune_trainer.ranks import Ranks
from finetune_trainer.reinforcement.reward_models import fetch_reward_models
from finetune_trainer.reinforcement.value_head import add_value_head, remove_value_head
from finetune_trainer.report.files import ReportContext
from finetune_trainer.run import Run
from finetune_trainer.sources import fetch_data
from finetune_trainer.stop import StepAgreement
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.multi_task import MultiTask
from finetune_trainer.tasks.reinforcement_learning import ReinforcementLearning
from finetune_trainer.tasks.selection import task_of
from finetune_trainer.tasks.task import Altering, DataTask, Task
from finetune_trainer.tasks.token_teacher import open_token_teacher

log = logging.getLogger(__name__)


def train(config: TrainerConfig, run: Run) -> TrainingResult:
    """Everything that one process of a job does; every rank returns the same result.

    Raises:
        ConfigurationError, DataError: The job or its data is wrong; names the field, or file and line.
        Preempted: A stop was asked for and a checkpoint is saved.
        CheckpointError, NotFiniteError, ExportError: See there.
    """
    run.reporter.update(stage="Preparing")
    set_threads(run.local_world_size)
    device = device_of(run.local_rank)
    quiet_libraries(device.type)
    task = task_of(config)

    # The model's own files first: they are small to check, and decide how the data is tokenised.
    config = config.model_copy(update={"model": pin_model(config.model, config.checkpoint.storage, run)})
    base = open_pretrained(base_model(config, run), config, task, device)
    _check(config, base.config, device)
    processor, max_length = base.processor, base.max_length

    before = TrainedOn.beside(base.folder, "model.source")
    with explained_preparation():
        data = unseen(_data(config, task, processor, max_length, run), before, config.model.source)
    _describe(data, config, max_length, run)
    members = [] if run.rank else open_members(config, task, data, processor, base.config, run)

    feed = _feed(config, task, processor, data, max_length, run)
    plan, sharded = feed.plan, config.distributed.shards
    check_schedule(config.training, plan.total_steps)
    check_average(config, plan.total_steps)
    load, empty = partial(base.load, data.labels), partial(base.made, data.labels)
    adapt = partial(_adapted, config, task, processor, plan)
    make = partial(adapt, load)
    with process_group(run.world_size, device, sharded), explained_memory(config, device, run.memory_note) as memory:
        ranks = Ranks.join(run.rank, run.world_size, run.local_rank)
        adaptation = loaded_once(ranks, load, empty, adapt) if (parted := comes_in_parts(config)) else make()
        adaptation.agree(ranks)
        ready = _ready(memory.watched(adaptation.model), config, None if parted else device)
        head = faster_steps(ready, task, feed, config.training, torch.device("cpu") if parted else device, ranks)
        strategy = strategy_of(config, ready, plan, device, ranks)
        precision, micro = config.training.precision, plan.micro_batch_size
        evaluator = Evaluator(task, data.labels, processor, max_length, micro, precision, device, ranks)
        evaluate = partial(evaluator.evaluate, strategy.module)
        feed, data = settled(feed, data, evaluator, strategy.module)
        loop = _loop(config, adaptation, strategy, feed, data, evaluator, run, head)
        with explained_compilation(), loop.checkpoints:
            loop.prepare()
            if not loop.baseline and data.held_out:
                loop.baseline = _evaluated(loop, evaluate, data.held_out[1]).metrics
            loop.train()
            loop.save_finished()

        run.reporter.update(stage="Evaluating", step=loop.step)
        evaluation = _evaluated(loop, evaluate, data.held_out[1]) if data.held_out else Evaluation({}, {})
        _describe_evaluation(evaluation, loop.baseline, run)

        run.reporter.update(stage="Exporting")
        memory.after_training()
        trained = whole_model(strategy, adaptation, make, run.rank)
        remove_value_head(trained.model)
        exporter = Exporter(config, task, processor, base.folder, max_length, run.scratch / "artifact", base.frozen)
        learnt = learnt_from(data, before, *(member.trained_on for member in members))
        reports = ReportContext(config, data.report, loop.history.wire(), package_versions(), learnt)
        passed, baseline = Passed(config, make, loop.step, run.scratch), loop.baseline
        del adaptation, ready, strategy, loop, evaluate, head  # the optimizer makes room for what is read back
        made = exporter.export(trained, data, evaluation, baseline, reports) if run.rank == 0 else ""
        digest = ranks.broadcast(made)
        del trained  # the steps read the model from its files
        chain = Postprocessing(exporter, data, replace(evaluator, ranks=Ranks()), evaluation, reports, passed, members)
        steps = ranks.broadcast(chain.run(run.scratch / "postprocess") if run.rank == 0 else None)
    return _result(config, data, evaluation, digest, steps)


def _check(config: TrainerConfig, model_config: Any, device: torch.device) -> None:
    """What is known before any data is read."""
    check_packages(config.postprocess)
    check_architecture(config.postprocess, model_config)
    check_encoder(config.method.p_tuning, config.training.precision, device)
    if config.training.compile:
        check_compiler(device)


def _loop(
    config: TrainerConfig,
    adaptation: Adaptation,
    strategy: Strategy,
    feed: Feed,
    data: PreparedData,
    evaluator: Evaluator,
    run: Run,
    head: FusedHead | None,
) -> TrainingLoop:
    agreement = StepAgreement(evaluator.ranks, run.stop, config.checkpoint)
    evaluate = partial(evaluator.evaluate, strategy.module, data.validation, agreement.stop_asked)
    return TrainingLoop(
        task=evaluator.task,
        adaptation=adaptation,
        strategy=strategy,
        training=config.training,
        plan=feed.plan,
        feed=feed,
        device=evaluator.device,
        run=run,
        checkpoints=_checkpoints(config, data, run),
        agreement=agreement,
        evaluate=evaluate if len(data.validation) else None,
        head=head,
    )


def _evaluated(loop: TrainingLoop, evaluate: Callable[..., Evaluation], encoded: Encoded) -> Evaluation:
    """Before or after the training. Raises Preempted when a stop is asked for meanwhile: every step is saved."""
    try:
        return evaluate(encoded, loop.agreement.stop_asked)
    except EvaluationStopped:
        last = loop.checkpoints.last
        raise Preempted(loop.step, last.uri if last else None) from None


def _data(config: TrainerConfig, task: DataTask | MultiTask, processor: Any, max_length: int, run: Run) -> PreparedData:
    distillation, teacher = config.training.distillation, None
    if distillation and isinstance(task, CrossEntropy):
        task.distillation = distillation
        commit = pin_teacher(distillation.teacher, config.checkpoint.storage, run)
        if config.task in WRITING:
            task.teacher = open_token_teacher(distillation.teacher, commit, config.task, processor, run)
        else:
            teacher = open_teacher(distillation, commit, run)

    if isinstance(task, ReinforcementLearning):
        task.reward_models = fetch_reward_models(config, run)

    def fetch(uri: str) -> Path:
        return fetch_data(uri, run)

    if isinstance(task, MultiTask):
        return prepare_subtasks(config.dataset, task.subtasks, processor, max_length, run.scratch, fetch)
    data = prepare(config.dataset, task, processor, max_length, run.scratch, fetch, teacher)
    sampling = sampling_report(config.dataset.sampling, data.train, data.labels)
    return replace(data, report={**data.report, "sampling": sampling}) if sampling else data


def _adapted(
    config: TrainerConfig, task: Task, processor: Any, plan: StepPlan, load: Callable[[], LoadedModel]
) -> Adaptation:
    # The same seed on every rank: a new head and new adapters start out equal.
    seed_everything(config.training.seed)
    loaded = load()
    check_layers(config.postprocess, loaded.model, task.heads)
    adaptation = apply_method(loaded, config.method, processor, plan.total_steps)
    if config.training.reinforcement and config.training.reinforcement.has_value_head:
        add_value_head(adaptation.model)
    return adaptation


def _feed(config: TrainerConfig, task: Task, processor: Any, data: PreparedData, max_length: int, run: Run) -> Feed:
    sampling, training = config.dataset.sampling, config.training
    rows = resampled(task.rows(data.train, max_length), data.train, sampling, training.seed)
    weights = class_weights(sampling, data.train, data.labels)
    altering = task.altering_collator(processor) if isinstance(task, Altering) else None
    joined = data.train if isinstance(data.train, Joined) else None
    return Feed(
        collate=weighted(task.collator(processor), weights),
        encoded=data.train,
        rows=rows,
        plan=plan_steps(training, len(rows), run.world_size),
        batch_size=training.batch_size,
        seed=training.seed,
        rank=run.rank,
        altering=altering and weighted(altering, weights),
        mixture=mixture_of(config.dataset, joined, training.batch_size, training.seed) if joined else None,
    )


def _result(
    config: TrainerConfig, data: PreparedData, evaluation: Evaluation, digest: str, steps: list[StepResult]
) -> TrainingResult:
    return TrainingResult(
        artifact_uri=config.output,
        artifact_digest=digest,
        format="Adapter" if config.method.makes_adapter else "Full",
        base_revision=config.model.revision,
        metrics=evaluation.metrics,
        not_computed=evaluation.not_computed,
        evaluated_on=data.held_out[0] if data.held_out else "none",
        dataset_fingerprint=data.fingerprint,
        versions=package_versions(),
        postprocess=steps,
    )


def _describe(data: PreparedData, config: TrainerConfig, max_length: int, run: Run) -> None:
    run.reporter.update(data=reported_data(data.report))
    if run.rank:
        return
    for line in summary(data.report):
        log.info(line)
    for part, known in data.report.get("trainedOnBefore", {}).items():
        share, known_of = 100 * known["share"], known["lookedUp"]
        log.warning("data %s: model.source had been trained on %.1f %% of the %d looked up", part, share, known_of)
    if max_length < config.max_length:
        taken = config.method.virtual_tokens
        behind = f" of which virtual tokens take {taken}," if taken else ""
        room, unit = max_length + taken, data.report["unit"]
        log.info("the model has room for %d %s,%s so dataset.maxLength is %d here", room, unit, behind, max_length)
    if data.labels:
        log.info("labels: %s", ", ".join(data.labels))


def _describe_evaluation(evaluation: Evaluation, baseline: dict[str, Any], run: Run) -> None:
    if run.rank == 0:
        for name, value in evaluation.metrics.items():
            log.info("%s %.4f (before training %.4f)", name, value, baseline.get(name, float("nan")))
        for name, why in evaluation.not_computed.items():
            log.warning("%s was not computed: %s", name, why)


def _ready(model: Any, config: TrainerConfig, device: torch.device | None) -> Any:
    """On the device, or left for the strategy to fetch."""
    keep_batch_statistics(keep_format(model.to(device) if device else model))
    if config.training.gradient_checkpointing:
        if not getattr(model, "supports_gradient_checkpointing", True):
            raise ConfigurationError(
                f"training.gradientCheckpointing: models of the type {model.config.model_type!r} cannot recompute "
                "activations; set it to false, and lower microBatchSize if memory does not suffice"
            )
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def faster_steps(
    model: Any, task: Task, feed: Feed, training: Training, device: torch.device, ranks: Ranks
) -> FusedHead | None:
    """What makes steps cheaper and leaves their results as they are; the model of rank 0 is on the device."""
    if training.packing:
        with_masks = feed.collate
        if not training.compile:  # which texts a row holds is no part of a compiled layer
            feed.collate = attend_by_segment(model, feed.collate)
        with precision_context(training.precision, device):
            check_packing(model, feed.encoded, (with_masks, feed.collate), device, ranks)
    head = None
    if not training.label_smoothing and not training.distillation:
        with precision_context(training.precision, device):
            head = fused_head(model, task, lambda: feed.shortest().to(device), ranks)
    if training.compile:
        compile_layers(model, device)
    return head


def _checkpoints(config: TrainerConfig, data: PreparedData, run: Run) -> BackgroundCheckpoints:
    lineage = Lineage(
        fingerprint=_order_fingerprint(config, data),
        hyperparameters=config.training.wire(),
        versions=package_versions(),
    )
    storage, attempt = config.checkpoint, config.job.attempt
    # A group of its own: checkpoints are agreed on while the loop uses the other one.
    ranks = Ranks.join(run.rank, run.world_size, run.local_rank)
    average = average_of(config.postprocess)
    series = series_of(config, average) if average else None
    store = CheckpointStore(storage.storage, storage.keep, ranks, run.scratch, lineage, run.metrics, attempt, series)
    return BackgroundCheckpoints(store, ranks)


def _order_fingerprint(config: TrainerConfig, data: PreparedData) -> str:
    """Of the data and everything that decides which examples a step sees."""
    training = config.training
    parts = [data.fingerprint, data.report["maxLength"], data.report["overLength"], config.dataset.wire()]
    order = [training.seed, training.batch_size, training.packing, training.updates_per_batch]
    return hashlib.sha256(repr([*parts, *order]).encode()).hexdigest()
