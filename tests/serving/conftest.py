"""Artifacts and servers, shared by the tests of this room."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from serving.artifacts import classifier_artifact, generator_artifact
from serving.server_process import ServerProcess

StartServer = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def start_server() -> Iterator[StartServer]:
    """Start servers that end with the module."""
    started: list[ServerProcess] = []

    def start(*arguments: str, termination_file: Path | None = None) -> ServerProcess:
        started.append(ServerProcess(arguments, termination_file))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    classifier_artifact(folder)
    return folder


@pytest.fixture(scope="session")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    generator_artifact(folder)
    return folder


@pytest.fixture(scope="module")
def generator(start_server: StartServer, generator_folder: Path) -> Iterator[httpx.Client]:
    """A client of a ready generation server."""
    server = start_server("--model", str(generator_folder), "--name", "writer", "--version-name", "writer-1")
    with httpx.Client(base_url=server.wait_ready().url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def classifier(start_server: StartServer, classifier_folder: Path) -> Iterator[httpx.Client]:
    """A client of a ready classification server."""
    server = start_server("--model", str(classifier_folder), "--name", "tickets", "--version-name", "tickets-1")
    with httpx.Client(base_url=server.wait_ready().url, timeout=30) as client:
        yield client
