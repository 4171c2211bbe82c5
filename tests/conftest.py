"""Options of the whole suite, and what holds for every test process."""

import signal

import pytest

# A suite started in the background of a shell ignores SIGINT, and so would every process that the tests start and
# interrupt: give them back what a terminal would have given.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
    group.addoption("--chaos-seed", type=int, help="Repeats a run of the chaos tests, as far as time allows.")
    group.addoption("--chaos-jobs", type=int, default=12, help="FineTuneJobs of a chaos test.")
    group.addoption("--chaos-rounds", type=int, default=4, help="Disturbances of a chaos test.")
