"""Writes the chart's Grafana dashboard (`make manifests`) with the builders of Grafana's own SDK."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

FILE = Path(__file__).parent / "finetune-operator" / "files" / "dashboard.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
IN_NAMESPACE = 'namespace=~"$namespace"'
CONTROLLERS = 'controller=~"finetunejob|modelversion|modeldeployment"'
HALF_WIDTH, FULL_WIDTH, HEIGHT = 12, 24, 8


@dataclass(frozen=True)
class Graph:
    """A panel of lines: unit in Grafana's names, legend → expression."""

    title: str
    unit: str
    lines: dict[str, str]
    description: str = ""


def quantiles(metric: str, by: str = "") -> dict[str, str]:
    """Median and 99th percentile of a histogram."""
    labels, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    buckets = f"sum by ({labels}) (rate({metric}_bucket[$__rate_interval]))"
    return {f"p{q}{legend}": f"histogram_quantile(0.{q}, {buckets})" for q in (50, 99)}


ROWS: dict[str, tuple[Graph, ...]] = {
    "Jobs": (
        Graph("Jobs by phase", "short", {"{{phase}}": "sum by (phase) (finetune_jobs) > 0"}),
        Graph(
            "Jobs that ended",
            "short",
            {"{{result}}": "sum by (result) (increase(finetune_jobs_finished_total[$__rate_interval]))"},
        ),
        Graph("Wait for pods", "s", quantiles("finetune_job_queue_seconds"), "From creation until all pods run."),
        Graph("Time to the first step", "s", quantiles("finetune_job_time_to_first_step_seconds")),
        Graph(
            "Restarts by cause",
            "short",
            {"{{cause}}": "sum by (cause) (increase(finetune_job_restarts_total[$__rate_interval]))"},
        ),
        Graph("Recovery after a failure", "s", quantiles("finetune_job_restart_recovery_seconds")),
    ),
    "Goodput": (
        Graph(
            "Goodput",
            "percentunit",
            {"{{namespace}}": f"finetune:goodput:ratio1h{{{IN_NAMESPACE}}}"},
            "Device time that went into steps which count, of all that gangs held.",
        ),
        Graph(
            "Devices by what they do",
            "short",
            {"{{use}}": f"sum by (use) (finetune:device_seconds:rate1h{{{IN_NAMESPACE}}})"},
        ),
        Graph("Progress", "percentunit", {"{{namespace}}/{{name}}": f"finetune_job_progress_ratio{{{IN_NAMESPACE}}}"}),
        Graph("Loss", "none", {"{{namespace}}/{{name}}": f"finetune_job_loss{{{IN_NAMESPACE}}}"}),
        Graph(
            "Tokens a second", "short", {"{{namespace}}/{{name}}": f"finetune_job_tokens_per_second{{{IN_NAMESPACE}}}"}
        ),
        Graph("Checkpoint duration", "s", quantiles("finetune_training_checkpoint_duration_seconds")),
    ),
    "Serving": (
        Graph(
            "Requests by code",
            "reqps",
            {
                "{{code}}": (
                    f"sum by (code) (rate(finetune_serving_requests_total{{{IN_NAMESPACE}}}[$__rate_interval]))"
                )
            },
        ),
        Graph("Latency", "s", quantiles("finetune_serving_request_duration_seconds", "route")),
    ),
    "Operator": (
        Graph(
            "Reconciliations a second",
            "ops",
            {
                "{{controller}} {{result}}": (
                    "sum by (controller, result) "
                    f"(rate(controller_runtime_reconcile_total{{{CONTROLLERS}}}[$__rate_interval]))"
                )
            },
        ),
        Graph("Reconcile time", "s", quantiles("controller_runtime_reconcile_time_seconds", "controller")),
        Graph(
            "Keys in the queues", "short", {"{{controller}}": f"sum by (controller) (workqueue_depth{{{CONTROLLERS}}})"}
        ),
        Graph(
            "Replicas that lead",
            "short",
            {"{{name}}": 'sum by (name) (leader_election_master_status{name=~".*finetune-operator.*"})'},
            "1, and for moments of a handover 0.",
        ),
    ),
}
FIGURES = {
    "Running": ('sum(finetune_jobs{phase="Running"})', "short"),
    "Waiting": ('sum(finetune_jobs{phase=~"Pending|Queued|Starting|Restarting"})', "short"),
    "Failed in a day": ('sum(increase(finetune_jobs_finished_total{result="Failed"}[1d]))', "short"),
    "Goodput of a day": (
        'sum(increase(finetune_job_device_seconds_total{use="training"}[1d]))'
        ' / sum(increase(finetune_job_device_seconds_total{use!="unreported"}[1d]))',
        "percentunit",
    ),
}


def rendered() -> str:
    """The dashboard's JSON."""
    board = (
        dashboard.Dashboard("finetune-operator")
        .uid("finetune-operator")
        .tags(["finetune-operator"])
        .readonly()
        .refresh("1m")
        .time("now-24h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_namespaces())
    )
    numbers = count(1)
    for title, (expression, unit) in FIGURES.items():
        board = board.with_panel(_figure(title, expression, unit).id(next(numbers)))
    for title, graphs in ROWS.items():
        board = board.with_row(dashboard.Row(title).id(next(numbers)))
        for graph in graphs:
            board = board.with_panel(_panel(graph).id(next(numbers)))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


def _namespaces() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("namespace")
        .label("Namespace")
        .datasource(SOURCE)
        .query("label_values(finetune_job_device_seconds_total, namespace)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .multi(True)
    )


def _query(place: int, expression: str, legend: str = "") -> prometheus.Dataquery:
    query = prometheus.Dataquery().datasource(SOURCE).expr(expression).legend_format(legend)
    return query.ref_id(chr(ord("A") + place))


def _figure(title: str, expression: str, unit: str) -> stat.Panel:
    width = FULL_WIDTH // len(FIGURES)
    panel = stat.Panel().title(title).unit(unit).datasource(SOURCE).span(width).height(HEIGHT // 2)
    return panel.graph_mode(BigValueGraphMode.NONE).with_target(_query(0, expression).instant())


def _panel(graph: Graph) -> timeseries.Panel:
    panel = timeseries.Panel().title(graph.title).unit(graph.unit).datasource(SOURCE).span(HALF_WIDTH).height(HEIGHT)
    panel = panel.description(graph.description).min(0).legend(common.VizLegendOptions().show_legend(True))
    for place, (legend, expression) in enumerate(graph.lines.items()):
        panel = panel.with_target(_query(place, expression, legend))
    return panel


if __name__ == "__main__":
    FILE.write_text(rendered(), encoding="utf-8")
