"""`promtool check metrics` on a scrape; the rules that matter here are also kept where promtool is not installed."""

import re
import shutil
import subprocess

from prometheus_client.parser import text_string_to_metric_families

PROMTOOL = shutil.which("promtool")
UNITS_TO_AVOID = {"milliseconds", "minutes", "hours", "days", "percent", "kilobytes", "megabytes"}
TYPES_IN_NAMES = {"gauge", "counter", "histogram", "summary"}
RESERVED_ENDINGS = ("_total", "_count", "_sum", "_bucket")


def problems(scrape: str) -> list[str]:
    """What is wrong with names and help texts; empty when they are clean.

    https://github.com/prometheus/client_golang/tree/main/prometheus/testutil/promlint
    """
    found = [problem for family in text_string_to_metric_families(scrape) for problem in _of_family(family)]
    if PROMTOOL:
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=scrape, capture_output=True, text=True)
        found += (checked.stdout + checked.stderr).splitlines()
    return found


def _of_family(family) -> list[str]:
    name, found = family.name, []
    if not re.fullmatch(r"[a-z_]+", name):
        found.append(f"{name}: not in snake case")
    if not family.documentation:
        found.append(f"{name}: no help text")
    if set(name.split("_")) & (UNITS_TO_AVOID | TYPES_IN_NAMES):
        found.append(f"{name}: a type, or a unit that is not a base unit")
    if family.type != "counter" and name.endswith(RESERVED_ENDINGS):
        found.append(f"{name}: an ending that belongs to another type")
    if family.type == "counter" and not all(sample.name.endswith("_total") for sample in family.samples):
        found.append(f"{name}: a counter without _total")
    return found
