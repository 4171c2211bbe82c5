"""What a benchmark hands back: rows of one table."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measure; `ok` is None where no goal is set."""

    benchmark: str
    measure: str
    value: str
    goal: str = ""
    ok: bool | None = None

    @property
    def verdict(self) -> str:
        return {None: "", True: "met", False: "MISSED"}[self.ok]


def table(rows: Iterable[Row]) -> str:
    """Markdown."""
    cells = [("benchmark", "measure", "value", "goal", "")]
    cells += [(row.benchmark, row.measure, row.value, row.goal, row.verdict) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
