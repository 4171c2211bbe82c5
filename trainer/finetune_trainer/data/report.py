"""What became of the data: the numbers of data_report.json."""

from collections import Counter
from typing import Any

import numpy as np

from finetune_trainer.data.encoded import Encoded

BUCKETS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def part_report(
    encoded: Encoded,
    unit: str,
    labels: list[str],
    left: int,
    lost: dict[str, int],
    repeats: dict[str, int],
    losses: dict[str, Any],
) -> dict[str, Any]:
    """One part of the data, from what was read to what is used.

    `lost` were held out elsewhere too; of groups they are no longer among the `left` that the part was cut from.
    """
    report: dict[str, Any] = {
        "read": left + lost.get("groupHeldOut", 0),
        "kept": losses["kept"],
        "dropped": {**lost, **losses["dropped"]},
        "truncated": losses["truncated"],
        "split": losses["split"],
        "unscored": losses["unscored"],
        "duplicates": repeats["duplicate"],
        "contradictoryDuplicates": repeats["contradictory"],
        unit: int(encoded.lengths.sum()),
        "targets": int(encoded.targets.sum()),
        "lengths": length_report(np.asarray(encoded.lengths)),
    }
    if labels and encoded.labels is not None:
        report["labels"] = dict(zip(labels, encoded.label_counts(len(labels)).tolist(), strict=True))
    return report


def length_report(lengths: np.ndarray) -> dict[str, Any]:
    """Quantiles, and how many examples are at most so long (each counted in its smallest bucket)."""
    if not len(lengths):
        return {}
    names = [*map(str, BUCKETS), "longer"]
    counts = np.bincount(np.searchsorted(BUCKETS, lengths), minlength=len(names)).tolist()
    return {
        "shortest": int(lengths.min()),
        "median": float(np.median(lengths)),
        "mean": round(float(lengths.mean()), 1),
        "p95": float(np.percentile(lengths, 95)),
        "longest": int(lengths.max()),
        "histogram": {name: count for name, count in zip(names, counts, strict=True) if count},
    }


def summary(report: dict[str, Any]) -> list[str]:
    """Lines for the log: what was kept, and every kind of loss that happened; of each subtask if there are some."""
    if subtasks := report.get("subtasks"):
        return [f"{name}: {line}" for name, own in subtasks.items() for line in summary(own)]
    lines, unit = _cleaning_lines(report), report["unit"]
    for part, numbers in report["parts"].items():
        if not numbers["read"]:
            continue
        notes = [f"{count} dropped ({reason})" for reason, count in numbers["dropped"].items() if count]
        if numbers["truncated"]["examples"]:
            cut = numbers["truncated"]
            notes.append(f"{cut['examples']} truncated ({cut['tokens']} {unit} lost)")
        if numbers["split"]["examples"]:
            notes.append(f"{numbers['split']['examples']} split into {numbers['split']['pieces']} pieces")
        if numbers["unscored"]:
            notes.append(f"{numbers['unscored']} with nothing left to score, which count as wrong")
        if numbers["duplicates"]:
            notes.append(
                f"{numbers['duplicates']} duplicates kept, {numbers['contradictoryDuplicates']} with another label"
            )
        kept = f"data {part}: {numbers['kept']} of {numbers['read']} examples, {numbers[unit]} {unit}"
        lines.append("; ".join([kept, *notes]))
    return lines


def _cleaning_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for source, numbers in report["cleaning"].items():
        notes = [f"{count} dropped ({rule})" for rule, count in numbers["dropped"].items()]
        notes += [f"{count} {kind} redacted" for kind, count in numbers["redacted"].items()]
        if numbers["edited"]:
            notes.append(f"{numbers['edited']} edited")
        lines.append("; ".join([f"cleaning {source}: {numbers['read']} rows read", *notes]))
    if report["augmented"]:
        lines.append(f"augmentation: {report['augmented']} altered copies for training")
    if (sampling := report.get("sampling", {})).get("examplesPerEpoch"):
        lines.append(
            f"sampling: {sampling['examplesPerEpoch']} examples an epoch, {sampling['repeated']} of them again, "
            f"{sampling['leftOut']} left out"
        )
    if teacher := report.get("teacher"):
        lines.append(f"teacher: gives {teacher['agreement']:.1%} of the training examples the class of their label")
    return lines


def held_out_report(report: dict[str, Any], part: str) -> dict[str, Any]:
    """How much of the held-out data the metrics are of, for the evaluation report.

    Losses, and perplexity with them, are means over `scoredTargets`: tokens, words, answers, classes or pairs.
    """
    numbers = report["parts"][part]
    return {
        "examples": numbers["kept"],
        "truncated": numbers["truncated"]["examples"],
        "split": numbers["split"]["examples"],
        "unscored": numbers["unscored"],
        "scoredTargets": numbers["targets"],
        "cutTargets": numbers["truncated"]["targets"],
        **({"trainedOnBefore": known["share"]} if (known := report.get("trainedOnBefore", {}).get(part)) else {}),
    }


def reported_data(report: dict[str, Any]) -> dict[str, Any]:
    """The same in a few numbers, for the job's status (`ReportedData`)."""
    dropped: Counter[str] = Counter()
    for numbers in [*report["parts"].values(), *report["cleaning"].values()]:
        dropped.update(numbers["dropped"])
    return {
        **{part: numbers["kept"] for part, numbers in report["parts"].items()},
        "dropped": {rule: count for rule, count in sorted(dropped.items()) if count},
        "truncated": sum(numbers["truncated"]["examples"] for numbers in report["parts"].values()),
        "split": sum(numbers["split"]["examples"] for numbers in report["parts"].values()),
        "unscored": sum(numbers["unscored"] for numbers in report["parts"].values()),
        "redacted": sum(sum(numbers["redacted"].values()) for numbers in report["cleaning"].values()),
    }
