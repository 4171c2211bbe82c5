"""Writes docs/metrics.md (`make docs`): every metric as the programs register it, every alert as the chart ships it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from finetune_operator.kube.metrics import REGISTRY as RUNTIME
from finetune_operator.web.metrics import JobMetrics
from finetune_serving.metrics import Metrics as ServingMetrics
from finetune_trainer.prometheus import TrainingMetrics

PAGE = Path(__file__).parent / "metrics.md"
RULES = Path(__file__).parents[1] / "charts" / "finetune-operator" / "files" / "rules.yaml"
OF_THE_CLIENT = ("process_", "python_")
"""Every program that uses the Prometheus client has these."""
HEADER = """<!-- Written by `make docs` from the code and charts/finetune-operator/files/rules.yaml: edit those. -->
# Metrics

Every process also has the `process_*` and `python_*` metrics of the Prometheus client. Histograms have `_bucket`,
`_sum` and `_count`. Labels are bounded: a job's name is a label only while the job is unfinished.
"""
SCRAPING = """## Scraping, alerts, dashboard

With the Prometheus operator the chart makes it all, each by a switch of its own:

```yaml
metrics:
  serviceMonitor: {enabled: true}   # the operator's replicas
  podMonitor: {enabled: true}       # training and inference pods
  prometheusRule: {enabled: true}   # the rules below
  dashboard: {enabled: true}        # a ConfigMap that Grafana's sidecar loads
```

Without it, `charts/finetune-operator/files/rules.yaml` goes into Prometheus' `rule_files` and
`charts/finetune-operator/files/dashboard.json` into Grafana's import as they are; the panels of goodput read what the
rules record. Scrape the operator with `honor_labels: true`: the label `namespace` of its metrics is that of the job. Of
several installations that one Prometheus scrapes let one make rules and dashboard: they read the metrics of all.

**Goodput** is the share of device time that went into steps which count. A gang holds its devices, one a process, from
the moment that all its pods run until it is seen to have ended:

    sum(increase(finetune_job_device_seconds_total{use="training"}[1d]))
      / sum(increase(finetune_job_device_seconds_total{use!="unreported"}[1d]))

Steps between the checkpoint and a failure are `training` when they are done first and `repeated` when they are done
again. Counters start at zero with each leader; `increase()` and `rate()` allow for that. How far a job had got, which
tells repeated steps from new ones, is known to all replicas, and forgotten when none of them runs.
"""


@dataclass(frozen=True)
class Metric:
    """One row of the catalogue."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str


def catalogue() -> dict[str, list[Metric]]:
    """Section → its metrics, by name."""
    jobs = CollectorRegistry()
    JobMetrics([], jobs, lambda: True)
    return {
        "Jobs, from the operator (`:8080/metrics`)": _metrics(jobs),
        "Controller runtime, from the operator": _metrics(RUNTIME),
        "Training pods (rank 0, `:9400/metrics`)": _metrics(TrainingMetrics().registry),
        "Inference pods (`:8080/metrics`)": _metrics(ServingMetrics().registry),
    }


def _metrics(registry: CollectorRegistry) -> list[Metric]:
    found = {metric.name: metric for metric in _all(registry) if not metric.name.startswith(OF_THE_CLIENT)}
    return [found[name] for name in sorted(found)]


def _all(registry: CollectorRegistry) -> Iterator[Metric]:
    """A metric with labels has no samples before its first use: its wrapper knows its labels, the registry does not."""
    for collector in registry._collector_to_names:
        labels = collector._labelnames if isinstance(collector, MetricWrapperBase) else None
        for family in collector.collect():
            names = labels if labels is not None else getattr(family, "_labelnames", ())
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield Metric(name, family.type, tuple(names), family.documentation)


def rendered() -> str:
    """The whole page."""
    sections = [line for title, metrics in catalogue().items() for line in _section(title, metrics)]
    return "\n".join([HEADER, SCRAPING, *sections, *_alerts()])


def _section(title: str, metrics: Iterable[Metric]) -> list[str]:
    rows = [f"| `{m.name}` | {m.type} | {', '.join(f'`{name}`' for name in m.labels)} | {m.text} |" for m in metrics]
    return [f"## {title}", "", "| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows, ""]


def rules() -> list[dict[str, Any]]:
    """Every recording and alerting rule of the chart."""
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def _alerts() -> list[str]:
    alerts = [rule for rule in rules() if "alert" in rule]
    rows = [
        f"| `{rule['alert']}` | {rule['labels']['severity']} | {_plain(rule['annotations']['summary'])} "
        f"{_plain(rule['annotations']['description'])} |"
        for rule in alerts
    ]
    return ["## Alerts", "", "| alert | severity | what it says |", "| --- | --- | --- |", *rows, ""]


def _plain(template: str) -> str:
    """`{{ $labels.kind }}` as *kind*, `{{ $value | … }}` as *value*."""
    parts = template.replace("{{", "}}").split("}}")
    return "".join(_name(part) if place % 2 else part for place, part in enumerate(parts))


def _name(expression: str) -> str:
    word = expression.split("|")[0].strip().rsplit(".", 1)[-1].lstrip("$")
    return f"*{word}*"


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
