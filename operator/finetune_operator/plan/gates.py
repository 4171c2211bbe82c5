"""Whether a model is good enough to publish."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from finetune_api.evaluation import Gate
from finetune_api.metrics import lower_is_better
from finetune_api.reports import STEP_ROUNDING

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Baseline:
    """The version that serves now."""

    name: str
    metrics: dict[str, float] | None
    """None when the version no longer exists."""

    @property
    def title(self) -> str:
        return f"the deployed ModelVersion {self.name}"


@dataclass(frozen=True)
class TrainedModel:
    """The model before postprocess changed it."""

    metrics: dict[str, float] | None
    name = title = "the model as trained"


AnyBaseline = Baseline | TrainedModel


@dataclass(frozen=True)
class Verdict:
    """One gate, decided."""

    metric: str
    passed: bool
    message: str


def decide_gates(
    gates: Sequence[Gate],
    metrics: dict[str, float],
    baseline: Baseline | None,
    not_computed: Mapping[str, str] = MappingProxyType({}),
    trained: TrainedModel | None = None,
) -> list[Verdict]:
    """In the order of the spec. A metric that is missing or not finite never passes.

    `not_computed` says why the held-out data does not allow a metric; `trained` is what gates with the baseline
    Trained compare with.
    """
    baselines = {"Deployed": baseline, "Trained": trained}
    return [_decide(g, metrics.get(g.metric), baselines.get(g.baseline or ""), not_computed) for g in gates]


def _decide(gate: Gate, value: float | None, baseline: AnyBaseline | None, not_computed: Mapping[str, str]) -> Verdict:
    if value is None:
        why = not_computed.get(gate.metric)
        missing = f"could not be computed: {why}" if why else "was not reported by the evaluation"
        return Verdict(gate.metric, False, f"{gate.metric} {missing}")
    if not math.isfinite(value):
        return Verdict(gate.metric, False, f"{gate.metric} is {value}, which no gate lets pass")
    if gate.baseline is not None:
        return _against_baseline(gate, value, baseline)
    assert gate.operator is not None
    assert gate.value is not None
    passed = COMPARE[gate.operator](value, gate.value)
    return Verdict(gate.metric, passed, _text(gate.metric, value, gate.operator, gate.value, passed))


def _against_baseline(gate: Gate, value: float, baseline: AnyBaseline | None) -> Verdict:
    if baseline is None:
        return Verdict(gate.metric, True, f"{gate.metric} is {value:.4g}; nothing is deployed to compare it with")
    if baseline.metrics is None:
        return Verdict(gate.metric, False, f"{baseline.title} no longer exists to compare with")
    deployed = baseline.metrics.get(gate.metric)
    if deployed is None or not math.isfinite(deployed):
        return Verdict(gate.metric, False, f"{baseline.title} has no metric {gate.metric}")
    lower = lower_is_better(gate.metric)
    bound = deployed + gate.max_regression if lower else deployed - gate.max_regression
    sign = "<=" if lower else ">="
    # 0.7 - 0.1 is a hair above 0.6 in binary, and what a step made is told in six digits where the trained model is in
    # all: a model exactly at the bound passes.
    passed = COMPARE[sign](value, bound) or math.isclose(value, bound, rel_tol=1e-9, abs_tol=STEP_ROUNDING)
    what = f"{deployed:.4g} of {baseline.name} with a regression of {gate.max_regression:.4g} allowed"
    return Verdict(gate.metric, passed, f"{_text(gate.metric, value, sign, bound, passed)} ({what})")


def _text(metric: str, value: float, sign: str, bound: float, passed: bool) -> str:
    head = f"{metric} is {value:.4g}, required {sign} {bound:.4g}"
    return head if passed else f"{head}: missed by {abs(value - bound):.4g}"
