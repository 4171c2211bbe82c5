"""What makes CI fail: `.ci/run` with a Makefile whose parts end as the test says."""

import shutil
import subprocess
from pathlib import Path

import pytest

CI = Path(__file__).parents[1] / ".ci" / "run"


def run(folder: Path, failing: str, *, again: int) -> int:
    """Its exit status when one target fails, and the failed tests, tried again, end so."""
    (folder / ".ci").mkdir()
    shutil.copy(CI, folder / ".ci")
    rules = [f"{one}:\n\t{'false' if one == failing else 'true'}\n" for one in ("lint", "test-parallel", "test-chaos")]
    (folder / "Makefile").write_text("".join([*rules, "test: test-parallel test-chaos\n"]))
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\nexit {again}\n")
    python.chmod(0o755)
    return subprocess.run([folder / ".ci" / "run"], check=False).returncode


@pytest.mark.parametrize(
    ("failing", "again", "passes"),
    [
        ("", 1, True),
        ("lint", 0, False),
        ("test-parallel", 0, True),
        ("test-parallel", 1, False),
        ("test-chaos", 0, False),
    ],
)
def test_only_what_needs_a_quiet_machine_is_tried_again(tmp_path: Path, failing: str, again: int, passes: bool) -> None:
    assert (run(tmp_path, failing, again=again) == 0) == passes
