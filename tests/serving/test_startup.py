"""Artifacts that cannot be served: one clear line, an exit code, never a wrong model."""

import json
import shutil
import socket
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from finetune_api.artifact import DESCRIPTION_FILE
from finetune_api.exit_codes import ExitCode
from finetune_api.manifest import read_manifest, write_manifest
from finetune_serving.cli import parse
from finetune_serving.server import serve
from finetune_serving.settings import ModelSource, Settings
from finetune_serving.startup import StartupError, write_termination_message
from serving.artifacts import adapter_artifact, bert
from serving.conftest import StartServer
from serving.in_process import load_source


@pytest.fixture
def folder(classifier_folder: Path, tmp_path: Path) -> Path:
    """An artifact to damage."""
    return Path(shutil.copytree(classifier_folder, tmp_path / "artifact"))


def failure(folder: Path | str, **source: str) -> StartupError:
    """How loading fails."""
    with pytest.raises(StartupError) as caught:
        load_source(ModelSource(uri=str(folder), scratch=Path("/nonexistent"), **source))
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_damaged_artifact_ends_the_process_with_one_line_that_names_the_file(
    start_server: StartServer, folder: Path, tmp_path: Path
) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    termination = tmp_path / "termination-log"
    server = start_server("--model", str(folder), termination_file=termination)
    assert server.wait() == ExitCode.DATA
    message = termination.read_text()
    assert "model.safetensors" in message
    assert "sha256 differs" in message
    assert "\n" not in message
    assert message in server.log[-1]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", DESCRIPTION_FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    error = failure(folder)
    assert name in str(error)
    assert error.exit_code == ExitCode.DATA


def test_a_cut_file_is_named_with_its_sizes(folder: Path) -> None:
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-5])
    assert f"model.safetensors has {size - 5} bytes, expected {size}" in str(failure(folder))


def test_a_file_that_nobody_has_verified_is_refused(folder: Path) -> None:
    """transformers would take the whole model for the base of this adapter, and the digest vouch for it."""
    _, digest = read_manifest(folder)
    (folder / ".note").write_text("")
    assert load_source(ModelSource(uri=str(folder), scratch=folder, digest=digest)).description.labels
    (folder / "adapter_config.json").write_text("{}")
    error = failure(folder, digest=digest)
    assert "holds adapter_config.json, which manifest.json does not name" in str(error)
    assert error.exit_code == ExitCode.DATA


def test_another_digest_than_the_published_one_is_refused(folder: Path) -> None:
    error = failure(folder, digest=f"sha256:{'0' * 64}")
    assert "the folder was changed" in str(error)
    assert error.exit_code == ExitCode.DATA


def test_no_manifest_means_not_finished(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    assert "manifest.json is missing" in str(failure(folder))


def test_a_missing_folder_is_a_configuration_error() -> None:
    error = failure("pvc://models/tickets")
    assert "pvc://models/tickets" in str(error)
    assert error.exit_code == ExitCode.CONFIGURATION


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    assert "pvc://" in str(failure("ftp://host/model"))


def test_a_description_without_labels_is_refused(folder: Path) -> None:
    (folder / DESCRIPTION_FILE).write_text(json.dumps({"task": "TextClassification"}))
    write_manifest(folder)
    assert "labels: required" in str(failure(folder))


def test_labels_that_do_not_fit_the_weights_are_refused(folder: Path) -> None:
    (folder / DESCRIPTION_FILE).write_text(json.dumps({"task": "TextClassification", "labels": ["a", "b"]}))
    write_manifest(folder)
    assert "names 2 labels, the model has 3" in str(failure(folder))


def test_weights_are_never_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "classifier" not in name}, folder / "model.safetensors"
    )
    write_manifest(folder)
    assert "weights are missing: classifier.bias, classifier.weight" in str(failure(folder))


def test_an_adapter_without_its_base_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    bert().save_pretrained(base)
    adapter_artifact(tmp_path / "adapter", base)
    shutil.rmtree(base)
    assert str(base) in str(failure(tmp_path / "adapter"))
    assert "config.json" in str(failure(tmp_path / "adapter", base_uri=str(tmp_path / "adapter")))


async def test_a_port_in_use_is_named(classifier_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_FILE", str(tmp_path / "log"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        source = ModelSource(uri=str(classifier_folder), scratch=tmp_path)
        assert await serve(Settings(source, "127.0.0.1", port)) == ExitCode.CONFIGURATION
    assert (tmp_path / "log").read_text() == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_outside_a_pod_there_is_no_termination_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_FILE", "/nonexistent/termination-log")
    write_termination_message("nothing to see")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "70000"], "must be 0 to 65535; got '70000'"),
        (["--digest", "md5:1"], "64 hexadecimal digits; got 'md5:1'"),
        (["--max-batch-size", "0"], "must be 1 or more; got '0'"),
        (["--request-timeout", "soon"], "got 'soon'"),
        (["--colour", "red"], "unrecognized arguments"),
    ],
)
def test_wrong_flags_are_named(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--model", "/model", *arguments])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err
