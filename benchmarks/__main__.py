"""`python -m benchmarks [NAME ...]`: runs every benchmark, prints one table; exit 1 when a goal is missed."""

import importlib
import importlib.util
import sys

from benchmarks.report import Row, table

BENCHMARKS = ("control_loop", "trainer_loop", "rivals")
"""Modules of this folder; each has `run() -> list[Row]`."""


def main(names: list[str]) -> int:
    rows: list[Row] = []
    for name in names or [n for n in BENCHMARKS if importlib.util.find_spec(f"benchmarks.{n}")]:
        print(f"running {name} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"benchmarks.{name}").run()
    print(table(rows))
    return int(any(row.ok is False for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
