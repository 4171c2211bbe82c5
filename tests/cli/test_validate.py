"""`finetune-operator validate` gives the operator's verdict without a cluster."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from finetune_operator.cli.main import main

VALID = """
apiVersion: finetune-operator.io/v1alpha1
kind: ModelDeployment
metadata: {name: tickets}
spec: {modelName: tickets}
"""


def validate(tmp_path: Path, text: str) -> Result:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    return CliRunner().invoke(main, ["validate", str(file)])


def test_a_valid_file_exits_zero(tmp_path: Path) -> None:
    result = validate(tmp_path, VALID)
    assert result.exit_code == 0
    assert "ModelDeployment/tickets: valid" in result.output


def test_an_invalid_one_exits_one_and_names_the_field(tmp_path: Path) -> None:
    result = validate(tmp_path, VALID.replace("modelName", "modelNam"))
    assert result.exit_code == 1
    assert "spec.modelName: required" in result.output
    assert "spec.modelNam: unknown field" in result.output


def test_every_document_is_judged_and_other_groups_are_skipped(tmp_path: Path) -> None:
    config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
    result = validate(tmp_path, f"{VALID}---{VALID.replace('v1alpha1', 'v9')}---\n{config_map}")
    assert result.exit_code == 1
    assert "'finetune-operator.io/v9' is not served" in result.output
    assert "ConfigMap/c: skipped" in result.output


def test_a_file_that_is_not_yaml_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    result = validate(tmp_path, "a: [1")
    assert result.exit_code == 1
    assert "not YAML" in result.output


def test_bytes_are_read_as_yaml_says(tmp_path: Path) -> None:
    """PowerShell writes UTF-16 into files."""
    file = tmp_path / "job.yaml"
    for content, code, says in (
        (VALID.encode("utf-16"), 0, "ModelDeployment/tickets: valid"),
        ("# Müll".encode("latin-1"), 1, "not YAML"),
        (b"# nothing\n---\n", 0, "file: skipped, it holds no object"),
    ):
        file.write_bytes(content)
        result = CliRunner().invoke(main, ["validate", str(file)])
        assert (result.exit_code, says in result.output) == (code, True), result.output


def test_shapes_that_yaml_makes_by_a_dash_too_many_or_too_few_are_named(tmp_path: Path) -> None:
    wrong = "spec:\n  modelName: {name: tickets}\n  resources:\n    - limits: {cpu: 1}\n"
    result = validate(tmp_path, VALID[: VALID.index("spec")] + wrong)
    assert result.exit_code == 1
    assert "spec.modelName: must be a single value; got an object" in result.output
    assert "spec.resources: must be an object; got a list, see its dashes" in result.output


@pytest.mark.parametrize("text", ["metadata: [a]", "metadata: a", "kind: [a]", "kind: {a: b}", "spec: [a]", "spec: 1"])
def test_a_document_of_any_shape_is_an_error_not_a_traceback(tmp_path: Path, text: str) -> None:
    fields = dict(line.split(": ", 1) for line in (*VALID.strip().splitlines(), text))
    result = validate(tmp_path, "\n".join(f"{name}: {value}" for name, value in fields.items()))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
