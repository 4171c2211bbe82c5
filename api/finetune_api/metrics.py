"""Which metrics a task's evaluation gives, and in which direction each improves."""

from collections.abc import Mapping
from typing import Literal, get_args

Task = Literal[
    "TextClassification",
    "TextGeneration",
    "TokenClassification",
    "Seq2Seq",
    "ImageClassification",
    "ObjectDetection",
    "AudioClassification",
    "QuestionAnswering",
    "Recommendation",
    "RewardModeling",
    "PreferenceOptimization",
    "ReinforcementLearning",
    "MultiTask",
]
TASKS: tuple[Task, ...] = get_args(Task)

AVERAGE = "average"
"""Of the first metrics of all subtasks."""
METRICS: dict[str, tuple[str, ...]] = {
    "TextClassification": ("accuracy", "precision", "recall", "f1", "auc", "loss"),
    "TextGeneration": ("loss", "perplexity"),
    "ImageClassification": ("accuracy", "precision", "recall", "f1", "auc", "loss"),
    "ObjectDetection": ("mAP", "mAP50", "mAP75", "recall", "loss"),
    "AudioClassification": ("accuracy", "precision", "recall", "f1", "auc", "loss"),
    "QuestionAnswering": ("f1", "exactMatch", "loss"),
    "PreferenceOptimization": ("accuracy", "margin", "loss"),
    "ReinforcementLearning": ("reward", "completionTokens"),
    "RewardModeling": ("accuracy", "margin", "loss"),
    "Recommendation": ("rmse", "mae", "hitRate10", "ndcg10", "loss"),
    "Seq2Seq": ("rougeL", "rouge1", "rouge2", "bleu", "chrf", "loss"),
    "TokenClassification": ("f1", "precision", "recall", "accuracy", "loss"),
    "MultiTask": (AVERAGE, "loss"),
}
"""Of each task, the one that it is judged by first. MultiTask has those of its subtasks besides."""
DEFAULT_TOP_K = 10
"""Places of a ranking of items that count."""
RATIOS = frozenset(
    {
        AVERAGE,
        "mAP",
        "mAP50",
        "mAP75",
        "accuracy",
        "precision",
        "recall",
        "f1",
        "auc",
        "rougeL",
        "rouge1",
        "rouge2",
        "bleu",
        "chrf",
    }
)
"""Between 0 and 1, as are those of rankings."""
LOWER_IS_BETTER = frozenset({"loss", "perplexity", "rmse", "mae"})


def ranking_metrics(top_k: int) -> tuple[str, str]:
    """Their names tell how many places count."""
    return f"hitRate{top_k}", f"ndcg{top_k}"


def is_ratio(metric: str) -> bool:
    """Whether it lies between 0 and 1."""
    plain = _of_its_task(metric)
    return plain in RATIOS or plain.rstrip("0123456789") in ("hitRate", "ndcg")


def of_subtask(name: str, metric: str) -> str:
    """What a subtask's metric is called among those of the job."""
    return f"{name}/{metric}"


def _of_its_task(metric: str) -> str:
    return metric.rpartition("/")[2]


def metrics_of(
    task: str, rated: bool, top_k: int = DEFAULT_TOP_K, subtasks: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """What an evaluation can give: recommendations are judged otherwise where the data has ratings.

    `subtasks` are the tasks of MultiTask, by name.
    """
    if task != "Recommendation":
        parts = (of_subtask(name, metric) for name, kind in (subtasks or {}).items() for metric in METRICS[kind])
        return (*METRICS[task], *parts)
    return ("rmse", "mae", "loss") if rated else ranking_metrics(top_k)


def lower_is_better(metric: str) -> bool:
    """In which direction it improves."""
    return _of_its_task(metric) in LOWER_IS_BETTER


def better(metric: str, candidate: float, best: float) -> bool:
    """Whether `candidate` improves on `best`."""
    return candidate < best if lower_is_better(metric) else candidate > best
