"""README.md of an artifact: the model card that people and the Hugging Face Hub read.

Metadata and layout follow https://huggingface.co/docs/hub/model-cards; everything in it comes from the run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from finetune_api.multi_task import MULTI_TASK, subtask_kinds
from finetune_api.trainer_config import TrainerConfig

CARD_FILE = "README.md"
HUB = "hf://"
PIPELINES = {
    "TextClassification": "text-classification",
    "TextGeneration": "text-generation",
    "TokenClassification": "token-classification",
    "PreferenceOptimization": "text-generation",
    "ReinforcementLearning": "text-generation",
    "RewardModeling": "text-classification",
    "QuestionAnswering": "question-answering",
    "ImageClassification": "image-classification",
    "ObjectDetection": "object-detection",
    "AudioClassification": "audio-classification",
}
"""The Hub's names of tasks (pipeline_tag)."""


@dataclass(frozen=True)
class CardFacts:
    """What a card tells."""

    config: TrainerConfig
    evaluation: Mapping[str, Any]
    """evaluation.json."""
    data_report: Mapping[str, Any]
    versions: Mapping[str, str]
    history: Mapping[str, Any]
    plots: Sequence[str] = ()
    """Pictures beside the card, relative to it."""
    library: str = "transformers"
    """What loads the files."""
    changes: Sequence[str] = field(default_factory=tuple)
    """What was done to the model after training, in order."""


def model_card(facts: CardFacts) -> str:
    """The whole file, metadata first."""
    sections = [
        _introduction(facts),
        _evaluation(facts),
        _pictures(facts),
        _section("After training", [f"{n}. {change}" for n, change in enumerate(facts.changes, 1)]),
        _training(facts),
        _data(facts.data_report),
        _lineage(facts),
        _section("Serve it", ["    finetune-serving --model FOLDER_OF_THIS_CARD", *_loading(facts)]),
    ]
    body = "\n".join(line for section in sections for line in section)
    return str(ModelCard(f"---\n{metadata(facts).to_yaml()}\n---\n{body}"))


def metadata(facts: CardFacts) -> ModelCardData:
    """The YAML head: what the Hub files the model under."""
    config = facts.config
    source = config.model.source or ""
    return ModelCardData(
        base_model=source.removeprefix(HUB) if source.startswith(HUB) else None,
        library_name=facts.library,
        pipeline_tag=PIPELINES.get(config.task),
        tags=["finetune-operator", config.method.name],
        model_name=config.job.name,
        eval_results=list(_eval_results(facts)) or None,
    )


def _eval_results(facts: CardFacts) -> Iterable[EvalResult]:
    config, part = facts.config, facts.evaluation["evaluatedOn"]
    for name, value in facts.evaluation["metrics"].items():
        yield EvalResult(
            task_type=PIPELINES.get(config.task, config.task),
            dataset_type="private",
            dataset_name=f"{part} data of {config.job.name}",
            dataset_split=part,
            metric_type=name,
            metric_value=round(value, 6) + 0.0,
        )


def _introduction(facts: CardFacts) -> list[str]:
    config = facts.config
    return [
        "",
        f"# {config.job.name}",
        "",
        f"{config.task} model: `{config.model.title}`, fine-tuned with the method `{config.method.name}` by the "
        f"FineTuneJob `{config.job.namespace}/{config.job.name}`.",
        "",
    ]


def _evaluation(facts: CardFacts) -> list[str]:
    report = facts.evaluation
    if report["evaluatedOn"] == "none":
        return _section("Evaluation", ["There was no held-out data: nothing is known of how well this model does."])
    before = report.get("baselineMetrics") or {}
    trained = report.get("trainedMetrics") or {}
    heads = ["metric", "value", *(["as trained"] if trained else []), *(["before training"] if before else [])]
    rows = [
        [name, _number(value), *_optional(trained, name), *_optional(before, name)]
        for name, value in report["metrics"].items()
    ]
    count = report.get("examples")
    seen = f"the {count} examples of the {report['evaluatedOn']} data" if count else f"the {report['evaluatedOn']} data"
    before_it = report.get("heldOut", {}).get("trainedOnBefore")
    unseen = (
        f"of which the base model had been trained on {before_it:.1%}" if before_it else "which were not trained on"
    )
    return _section("Evaluation", [f"On {seen}, {unseen}.", "", *_table(heads, rows)])


def _optional(known: Mapping[str, float], name: str) -> list[str]:
    return [_number(known.get(name))] if known else []


def _pictures(facts: CardFacts) -> list[str]:
    return [line for path in facts.plots for line in (f"![{_title(path)}]({path})", "")]


def _title(path: str) -> str:
    return path.rsplit("/", 1)[-1].removesuffix(".png").replace("_", " ")


def _training(facts: CardFacts) -> list[str]:
    config = facts.config
    fields = {
        "method": config.method.name,
        **{f"method.{name}": value for name, value in _flat(config.method.wire().get(config.method.name, {}))},
        **{f"training.{name}": value for name, value in _flat(config.training.wire())},
        "processes": config.distributed.world_size,
    }
    last = facts.history["training"][-1] if facts.history.get("training") else None
    if last:
        fields["steps done"] = last["step"]
    return _section("Training", _table(["parameter", "value"], [[name, _code(v)] for name, v in fields.items()]))


def _loading(facts: CardFacts) -> list[str]:
    """What is needed where the Auto classes of transformers know the model's encoder alone."""
    if facts.config.task != MULTI_TASK or facts.library != "transformers":
        return []
    return [
        "",
        "From Python; `AutoModel.from_pretrained` finds the shared encoder alone.",
        "",
        "    from finetune_serving.multi_task_model import MultiTaskModel",
        "    model = MultiTaskModel.from_pretrained(FOLDER_OF_THIS_CARD)",
        *(f'    {name.replace("-", "_")} = model.subtask("{name}")' for name in subtask_kinds(facts.config.dataset)),
    ]


def _data(report: Mapping[str, Any]) -> list[str]:
    columns = {"read": "read", "kept": "used", "tokens": "tokens"}
    owners: Mapping[str, Any] = report.get("subtasks") or {"": report}
    rows = [
        [f"{owner} {name}".strip(), *(f"{part[key]:,}" if key in part else "" for key in columns)]
        for owner, own in owners.items()
        for name, part in own["parts"].items()
        if part.get("read")
    ]
    lines = _table(["part", *columns.values()], rows)
    for owner, own in owners.items():
        if own.get("labels"):
            title = f"Labels of {owner}" if owner else "Labels"
            lines += ["", f"{title}: " + ", ".join(f"`{_plain(label)}`" for label in own["labels"]) + "."]
    return _section("Data", [*lines, "", "What was dropped or cut, and why: `data_report.json`."])


def _lineage(facts: CardFacts) -> list[str]:
    config, dataset = facts.config, facts.config.dataset
    sources = {
        f"{owner} {name}".strip(): part.source
        for owner, parts in {"": dataset, **{one.name: one for one in dataset.subtasks or ()}}.items()
        for name in ("train", "validation", "test")
        if (part := getattr(parts, name))
    }
    rows = {
        "job": f"{config.job.namespace}/{config.job.name}",
        "job uid": config.job.uid,
        "attempt": config.job.attempt,
        "base model": config.model.title,
        "base model revision": config.model.revision or "not pinned",
        **{f"{name} data": source for name, source in sources.items()},
        "data fingerprint": facts.data_report["fingerprint"],
        **dict(facts.versions),
    }
    return _section("Lineage", _table(["", ""], [[name, _code(value)] for name, value in rows.items()]))


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(heads), _row(["---"] * len(heads)), *(_row(cells) for cells in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _code(value: Any) -> str:
    return f"`{_plain(', '.join(map(str, value)) if isinstance(value, list) else value)}`"


def _plain(value: Any) -> str:
    """Nothing that ends a cell, a line or a code span."""
    return " ".join(str(value).replace("|", "\\|").replace("`", "'").split())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:z.4f}"
