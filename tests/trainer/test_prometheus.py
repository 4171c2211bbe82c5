"""Metrics of a training pod, as a scrape sees them."""

import math
import socket
import urllib.request

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from finetune_trainer.prometheus import TrainingMetrics, metrics_port
from promlint import problems


def test_a_scrape_sees_the_run() -> None:
    metrics = TrainingMetrics()
    metrics.step.set(7)
    metrics.tokens.inc(1000)
    metrics.checkpoint_seconds.observe(3)
    port = metrics.serve(0)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}

    assert families["finetune_training_step"].samples[0].value == 7
    assert families["finetune_training_tokens"].samples[0].value == 1000
    buckets = {
        s.labels["le"]: s.value
        for s in families["finetune_training_checkpoint_duration_seconds"].samples
        if "le" in s.labels
    }
    assert (buckets["1.0"], buckets["5.0"]) == (0, 1)


def test_what_is_not_known_before_the_first_step_is_not_a_number() -> None:
    registry = TrainingMetrics().registry
    for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second"):
        assert math.isnan(registry.get_sample_value(f"finetune_training_{name}") or 0), name
    assert registry.get_sample_value("finetune_training_step") == 0


def test_names_are_clean_by_the_rules_of_promtool() -> None:
    assert problems(generate_latest(TrainingMetrics().registry).decode()) == []


def test_a_taken_port_costs_the_metrics_and_not_the_run(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        assert TrainingMetrics().serve(taken.getsockname()[1]) == 0

    assert "set FINETUNE_METRICS_PORT to another port or 0" in caplog.text


def test_the_port_can_be_chosen() -> None:
    assert metrics_port({}) == 9400
    assert metrics_port({"FINETUNE_METRICS_PORT": "0"}) == 0
    with pytest.raises(ValueError, match="FINETUNE_METRICS_PORT: expected a port from 0 to 65535, got 'x'"):
        metrics_port({"FINETUNE_METRICS_PORT": "x"})
