"""Rules of environment variables and quantities that need no process."""

from decimal import Decimal

import pytest

from finetune_local.kubelet.downward import FieldError, field_value, resource_value
from finetune_local.kubelet.environment import expand, full_environment
from finetune_operator.kube.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$(A)$(B)", "12"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
        ("50%$", "50%$"),
    ],
)
def test_expansion_is_kubernetes_and_not_the_shells(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", "0.5"),
        ("1.5Gi", "1610612736"),
        ("2", "2"),
        ("1e3", "1000"),
        ("1E", "1000000000000000000"),
        (".5", "0.5"),
    ],
)
def test_quantities(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


def test_a_bad_quantity_names_itself() -> None:
    with pytest.raises(ValueError, match="'4 GB'"):
        parse_quantity("4 GB")


def test_labels_are_listed_as_the_downward_api_writes_them() -> None:
    pod = {"metadata": {"name": "p", "labels": {"b": 'say "hi"', "a": "1"}}, "spec": {}}
    assert field_value(pod, "metadata.labels") == 'a="1"\nb="say \\"hi\\""'
    with pytest.raises(FieldError, match=r"metadata\.color"):
        field_value(pod, "metadata.color")


def test_resources_are_rounded_up_to_the_divisor_and_default_to_the_node() -> None:
    pod = {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}}}]}}
    assert resource_value(pod, "c", {"resource": "limits.cpu"}, {}) == "2"
    assert resource_value(pod, "c", {"resource": "limits.cpu", "divisor": "1m"}, {}) == "1500"
    assert resource_value(pod, "c", {"resource": "limits.memory"}, {"memory": "1Ki"}) == "1024"


def test_a_path_of_the_container_keeps_this_pythons_programs_in_front() -> None:
    base = {"PATH": "/venv/bin:/usr/bin", "PYTHONPATH": "/confinement"}
    merged = full_environment(base, {"PATH": "/opt/bin", "PYTHONPATH": "/code", "X": "1"})
    assert merged == {"PATH": "/venv/bin:/opt/bin", "PYTHONPATH": "/confinement:/code", "X": "1"}
