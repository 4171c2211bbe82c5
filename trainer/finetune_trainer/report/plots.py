"""The pictures of an evaluation report, from its JSON alone: drawn by Agg, which needs no display."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

FOLDER = "plots"
DPI = 110
CELL_TEXTS = 20
"""A larger confusion matrix has no room for a number in each cell."""
LABEL_TEXTS = 40
LONGEST_LABEL = 24
SMOOTHED = 60
"""Points beyond which a curve hides its own course."""
INK, GRID, MUTED = "#222222", "#dddddd", "#8a8a8a"
TRAINING, VALIDATION = "#3b6fb6", "#d1495b"

Report = Mapping[str, Any]
Picture = tuple[str, Any, Callable[[Any, Any], None]]
"""Name, data, and what draws it."""


def write_plots(folder: Path, evaluation: Report, history: Report | None = None) -> list[str]:
    """Draws what the report has data for into `folder/plots`; returns the files, relative to `folder`.

    A picture is never worth the run: one that cannot be drawn is left out, with a warning in the log.
    """
    os.environ.setdefault("MPLCONFIGDIR", str(folder.parent / "matplotlib"))  # a pod's own folders are read-only
    drawn = []
    (folder / FOLDER).mkdir(exist_ok=True)
    for name, data, draw in _wanted(evaluation, history or {}):
        path = f"{FOLDER}/{name}.png"
        try:
            _save(draw, data, folder / path)
        except Exception as error:
            log.warning("%s was not drawn: %s: %s", path, type(error).__name__, error)
            continue
        drawn.append(path)
    if not drawn:
        (folder / FOLDER).rmdir()
    return drawn


def _wanted(evaluation: Report, history: Report) -> list[Picture]:
    pictures: list[Picture] = []
    if history.get("training"):
        pictures += [("loss", history, draw_loss), ("learning_rate", history, draw_learning_rate)]
    pictures += _of_classes(evaluation)
    for subtask, own in (evaluation.get("subtasks") or {}).items():
        pictures += [(f"{subtask}_{name}", data, draw) for name, data, draw in _of_classes(own)]
    return pictures


def _of_classes(evaluation: Report) -> Iterator[Picture]:
    if evaluation.get("confusionMatrix") and evaluation.get("labels"):
        yield "confusion_matrix", evaluation, draw_confusion_matrix
    if evaluation.get("roc"):
        yield "roc", evaluation, draw_roc


def _save(draw: Callable[[Any, Any], None], data: Any, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes, data)
    with warnings.catch_warnings():
        # Labels in a script that the font lacks show as boxes; the numbers are in the report.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        figure.savefig(path, dpi=DPI, bbox_inches="tight")  # legends beside the axes are no part of the layout


def draw_loss(axes: Any, history: Report) -> None:
    """Training loss at each log line, with its mean over the lines around where they are many; validation loss."""
    training, validation = history["training"], [p for p in history["validation"] if "loss" in p]
    steps, losses = _series(training, "loss")
    many = len(losses) > SMOOTHED
    axes.plot(steps, losses, color=TRAINING, linewidth=1.4, alpha=0.3 if many else 1, label="training")
    if many:
        axes.plot(steps, moving_mean(losses), color=TRAINING, linewidth=1.8, label="training, mean")
    if validation:
        style = {"color": VALIDATION, "linewidth": 1.4, "marker": "o", "markersize": 4}
        axes.plot(*_series(validation, "loss"), label="validation", **style)
    if many or validation:
        axes.legend(frameon=False)
    _dress(axes, "Loss", "step", "")
    _begin_at_zero_if_near(axes)


def _begin_at_zero_if_near(axes: Any) -> None:
    """Curves in the upper half of a picture that begins at zero would look flat, and few losses get there."""
    bottom, top = axes.dataLim.intervaly
    if 0 <= bottom < top / 2:  # losses of reinforcement learning may be negative
        axes.set_ylim(0, 1.05 * top)


def moving_mean(values: list[float]) -> Any:
    """The mean of a twentieth of the values around each, of fewer at the ends."""
    window = np.ones(max(3, len(values) // 20))
    around = np.convolve(np.ones(len(values)), window, mode="same")
    return np.convolve(values, window, mode="same") / around


def draw_learning_rate(axes: Any, history: Report) -> None:
    """Learning rate of each logged step."""
    axes.plot(*_series(history["training"], "learningRate"), color=TRAINING, linewidth=1.4)
    _dress(axes, "Learning rate", "step", "")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3), useMathText=True)
    axes.set_ylim(bottom=0)


def draw_confusion_matrix(axes: Any, evaluation: Report) -> None:
    """Rows are the true classes; the colour is the share of the row, the number the examples."""
    counts = np.asarray(evaluation["confusionMatrix"])
    names = [_short(label) for label in evaluation["labels"]]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(names)
    axes.figure.set_size_inches(*(max(4.8, min(16.0, 2.6 + 0.55 * size)),) * 2)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if size <= CELL_TEXTS:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else (INK if count else MUTED)
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    if size <= LABEL_TEXTS:
        axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(size), names)
    axes.set_title("Confusion matrix", loc="left", color=INK)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def draw_roc(axes: Any, evaluation: Report) -> None:
    """One curve a class, against the rest."""
    from matplotlib import colormaps

    axes.figure.set_size_inches(6.4, 5.2)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    colours = colormaps["tab20" if len(evaluation["roc"]) > 10 else "tab10"]
    for number, curve in enumerate(evaluation["roc"]):
        false_rate, true_rate = curve["falsePositiveRate"], curve["truePositiveRate"]
        area = np.trapezoid(true_rate, false_rate)
        style = {"linewidth": 1.4, "color": colours(number)}
        axes.plot(false_rate, true_rate, label=f"{_short(curve['label'])} ({area:.3f})", **style)
    _dress(axes, "ROC, each class against the rest", "false positive rate", "true positive rate")
    axes.set_aspect("equal")
    axes.legend(frameon=False, fontsize=8, title="area", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _series(points: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    kept = [point for point in points if point.get(name) is not None]
    return [point["step"] for point in kept], [point[name] for point in kept]


def _dress(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(label: str) -> str:
    """A dollar would begin a formula."""
    cut = label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
    return cut.replace("$", r"\$")
