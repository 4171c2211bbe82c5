import math

import pytest

from finetune_api.evaluation import Gate
from finetune_operator.plan.gates import Baseline, decide_gates

FIXED = [
    (">=", 0.9, True),
    (">", 0.9, False),
    ("<=", 0.9, True),
    ("<", 0.9, False),
    (">=", 0.91, False),
    (">", 0.89, True),
]


@pytest.mark.parametrize(("sign", "bound", "passes"), FIXED)
def test_a_fixed_bound(sign: str, bound: float, passes: bool) -> None:
    (verdict,) = decide_gates([Gate(metric="f1", operator=sign, value=bound)], {"f1": 0.9}, None)
    assert verdict.passed is passes


def test_a_miss_says_by_how_much() -> None:
    (verdict,) = decide_gates([Gate(metric="f1", operator=">=", value=0.85)], {"f1": 0.81}, None)
    assert verdict.message == "f1 is 0.81, required >= 0.85: missed by 0.04"


@pytest.mark.parametrize("metrics", [{}, {"f1": math.nan}])
def test_a_metric_that_is_not_there_never_passes(metrics: dict[str, float]) -> None:
    for gate in (Gate(metric="f1", operator=">=", value=-1), Gate(metric="f1", baseline="Deployed", max_regression=9)):
        (verdict,) = decide_gates([gate], metrics, Baseline("v1", {"f1": 0.1}))
        assert not verdict.passed


def test_a_metric_that_the_data_does_not_allow_is_missed_with_the_reason() -> None:
    why = "the held-out data has no example of weather; add some, or stratify the split"
    (verdict,) = decide_gates([Gate(metric="auc", operator=">=", value=0.1)], {"f1": 0.9}, None, {"auc": why})
    assert not verdict.passed
    assert verdict.message == f"auc could not be computed: {why}"


DEPLOYED = [
    ("f1", 0.89, 0.90, 0.01, True),
    ("f1", 0.6, 0.7, 0.1, True),  # 0.7 - 0.1 > 0.6 in binary
    ("f1", 0.833333, 5 / 6, 0.0, True),  # what postprocess made is told in six digits
    ("loss", 0.666667, 2 / 3, 0.0, True),
    ("f1", 0.83333, 5 / 6, 0.0, False),
    ("f1", 0.88, 0.90, 0.01, False),
    ("f1", 0.95, 0.90, 0.0, True),
    ("loss", 0.31, 0.30, 0.02, True),
    ("loss", 0.33, 0.30, 0.02, False),
    ("perplexity", 9.0, 10.0, 0.0, True),
]


@pytest.mark.parametrize(("metric", "value", "deployed", "allowed", "passes"), DEPLOYED)
def test_against_the_deployed_version(metric: str, value: float, deployed: float, allowed: float, passes: bool) -> None:
    gate = Gate(metric=metric, baseline="Deployed", max_regression=allowed)
    (verdict,) = decide_gates([gate], {metric: value}, Baseline("tickets-1f3a", {metric: deployed}))
    assert verdict.passed is passes
    assert "tickets-1f3a" in verdict.message


def test_nothing_deployed_passes() -> None:
    (verdict,) = decide_gates([Gate(metric="f1", baseline="Deployed")], {"f1": 0.1}, None)
    assert verdict.passed


@pytest.mark.parametrize("known", [None, {}, {"f1": math.nan}])
def test_a_baseline_that_cannot_be_compared_fails(known: dict[str, float] | None) -> None:
    (verdict,) = decide_gates([Gate(metric="f1", baseline="Deployed")], {"f1": 0.9}, Baseline("tickets-1f3a", known))
    assert not verdict.passed
    assert "tickets-1f3a" in verdict.message


def test_every_gate_is_decided() -> None:
    gates = [Gate(metric="f1", operator=">=", value=0.5), Gate(metric="loss", operator="<", value=0.1)]
    assert [v.passed for v in decide_gates(gates, {"f1": 0.9, "loss": 0.3}, None)] == [True, False]
