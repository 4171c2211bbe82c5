"""Options of the whole suite."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("finetune-operator")
    group.addoption(
        "--kubeconfig",
        help="Run the end-to-end tests on this cluster, where the operator is installed, instead of in local mode.",
    )
    group.addoption(
        "--trainer-image",
        default="ghcr.io/finetune-operator/trainer:0.1.0",
        help="Image with Python and the trainer's packages, for pods that the tests start themselves.",
    )
