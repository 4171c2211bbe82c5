"""Catalogue, rules and dashboard: one with the code, and with each other."""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml

from charts.conftest import CHART, ROOT, Render, values_file
from charts.grafana_schema import dashboard_schema
from finetune_operator.serving.builtin import PORT_NAME

RULES = CHART / "files" / "rules.yaml"
UNIT_TESTS = Path(__file__).parent / "rules_test.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
ADDED_BY_SCRAPING = {"namespace", "job", "pod", "instance", "le"}
PROMTOOL = shutil.which("promtool")


def script(path: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


METRICS_PAGE = script("docs/render_metrics.py")


def known_series() -> dict[str, set[str]]:
    """Names that a query may ask for, and their labels: what the programs export, what the rules record."""
    series: dict[str, set[str]] = {}
    for metric in (metric for metrics in METRICS_PAGE.catalogue().values() for metric in metrics):
        suffixes = ("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",)
        series |= {f"{metric.name}{suffix}": set(metric.labels) for suffix in suffixes}
    recorded = [rule for rule in METRICS_PAGE.rules() if "record" in rule]
    return series | {rule["record"]: {"namespace", "use"} for rule in recorded}


def rule_queries() -> Iterator[tuple[str, str]]:
    for rule in METRICS_PAGE.rules():
        yield rule.get("alert") or rule["record"], rule["expr"]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def dashboard_queries() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


QUERIES = [*rule_queries(), *dashboard_queries()]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Every series that a query reads; raises ValueError when it is not PromQL."""
    found: list[promql_parser.VectorSelector] = []

    def look(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression), look)
    return found


@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=[title for title, _ in QUERIES])
def test_every_query_reads_series_that_exist_by_labels_that_they_have(title: str, expression: str) -> None:
    known, read = known_series(), selectors(expression)
    assert read, f"{title} reads no series"
    for selector in read:
        assert selector.name in known, f"{title}: nothing exports {selector.name}"
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= known[selector.name] | ADDED_BY_SCRAPING, f"{title}: {selector.name} has no {labels}"
    grouped = {name for names in re.findall(r"\bby \(([^)]*)\)", expression) for name in names.split(", ")}
    assert grouped <= set().union(*(known[s.name] for s in read)) | ADDED_BY_SCRAPING, title


def test_a_query_of_a_series_that_nobody_exports_would_be_found() -> None:
    assert [s.name for s in selectors("rate(finetune_nonsense_total[5m]) > 0")] == ["finetune_nonsense_total"]
    assert "finetune_nonsense_total" not in known_series()
    with pytest.raises(ValueError):
        selectors("sum(rate(finetune_jobs[5m])")


def test_the_page_is_current() -> None:
    assert METRICS_PAGE.PAGE.read_text(encoding="utf-8") == METRICS_PAGE.rendered(), "run `make docs`"


def test_the_dashboard_is_current_and_its_panels_do_not_overlap() -> None:
    assert DASHBOARD.read_text(encoding="utf-8") == script("charts/render_dashboard.py").rendered(), "`make manifests`"
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    cells = [cell for panel in panels() for cell in covered(panel["gridPos"])]
    assert len(cells) == len(set(cells))


def without(title: str) -> Callable[[dict[str, Any]], None]:
    return lambda dashboard: dashboard.pop(title)


def panel(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Changes the first panel, which shows one number."""
    return lambda dashboard: dashboard["panels"][0].update(fields)


def test_the_dashboard_is_what_grafanas_schema_says() -> None:
    jsonschema.Draft202012Validator.check_schema(dashboard_schema())
    jsonschema.Draft202012Validator(dashboard_schema()).validate(json.loads(DASHBOARD.read_text()))


@pytest.mark.parametrize(
    "harm",
    [
        without("schemaVersion"),
        without("templating"),
        panel(type="singlestat"),
        panel(colour="red"),
        panel(gridPos={"h": 4, "w": "half", "x": 0, "y": 0}),
        panel(options={"colorMode": "rainbow"}),
        panel(fieldConfig={"defaults": {"custom": {"lineWidth": 2}}, "overrides": []}),
        panel(targets=[{"expression": "up"}]),
    ],
)
def test_a_dashboard_that_grafana_does_not_know_is_refused(harm: Callable[[dict[str, Any]], None]) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    harm(dashboard)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(dashboard_schema()).validate(dashboard)


def covered(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for column in range(place["x"], place["x"] + place["w"]):
        for row in range(place["y"], place["y"] + place["h"]):
            yield column, row


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    alerts = [rule for rule in METRICS_PAGE.rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts)
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_the_chart_wraps_the_very_rules_and_the_very_dashboard(render: Render) -> None:
    rendered = render(values_file("everything"))
    assert rendered.one("PrometheusRule")["spec"] == yaml.safe_load(RULES.read_text())
    config_map = rendered.one("ConfigMap")
    assert json.loads(config_map["data"]["finetune-operator.json"]) == json.loads(DASHBOARD.read_text())
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_pod_monitors_cover_the_namespaces_that_the_operator_works_in(render: Render) -> None:
    monitors = {"metrics": {"podMonitor": {"enabled": True}}}
    for values, scope in (
        (monitors, {"any": True}),
        (values_file("namespaced") | monitors, {"matchNames": ["team-a", "team-b"]}),
    ):
        found = render(values).of("PodMonitor")
        ports = {
            one["spec"]["selector"]["matchLabels"]["finetune-operator.io/component"]: one["spec"][
                "podMetricsEndpoints"
            ][0]["port"]
            for one in found
        }
        assert ports == {"trainer": "metrics", "server": PORT_NAME}
        assert all(one["spec"]["namespaceSelector"] == scope for one in found)


@pytest.mark.skipif(not PROMTOOL, reason="needs promtool (Debian: apt-get install prometheus)")
def test_promtool_takes_the_rules_and_every_alert_fires_when_it_should() -> None:
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(UNIT_TESTS)]):
        result = subprocess.run([str(PROMTOOL), *command], capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
    tested = set(re.findall(r'alertname="(\w+)"', UNIT_TESTS.read_text()))
    assert tested == {rule["alert"] for rule in METRICS_PAGE.rules() if "alert" in rule}
