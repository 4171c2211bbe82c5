"""What makes CI fail: `.ci/run` and the Makefile, with programs that end as the test says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = ("python", "ruff", "mypy", "lint-imports")
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "{folder}/log"
case "$*" in
  *--last-failed*) exit {again} ;;
  *cache_dir=.pytest_cache/{part}\\ *) {end} ;;
esac
"""
SEGFAULT = "kill -SEGV $$"


class Clone:
    """A folder with the real `.ci/run` and Makefile; one part of the tests ends as asked, everything else well."""

    def __init__(self, folder: Path, *, part: str = "none", end: str = "exit 0", again: int = 0) -> None:
        self.folder = folder
        (folder / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name in PROGRAMS:
            (programs / name).write_text(STUB.format(folder=folder, part=part, end=end, again=again))
            (programs / name).chmod(0o755)
        (folder / ".venv" / ".installed").touch()

    def passes(self) -> bool:
        return subprocess.run([self.folder / ".ci" / "run"], check=False, timeout=60).returncode == 0

    def ran(self, words: str) -> int:
        return sum(words in line for line in (self.folder / "log").read_text().splitlines())


@pytest.mark.parametrize("again", [0, 1])
@pytest.mark.parametrize("part", ["test-rooms", "test-e2e"])
def test_tests_that_fail_beside_others_are_tried_once_more(tmp_path: Path, part: str, again: int) -> None:
    clone = Clone(tmp_path, part=part, end="exit 1", again=again)
    assert clone.passes() == (again == 0)
    assert clone.ran(f"-o cache_dir=.pytest_cache/{part} --last-failed --last-failed-no-failures none") == 1
    assert clone.ran("--last-failed") == 1


@pytest.mark.parametrize("end", [SEGFAULT, "exit 2", "exit 3", "exit 4", "exit 5", "exit 137"])
@pytest.mark.parametrize("part", ["test-rooms", "test-e2e"])
def test_a_process_that_did_not_finish_is_not_made_good(tmp_path: Path, part: str, end: str) -> None:
    """It crashed, was interrupted, failed inside, was used wrongly, found no tests, or was killed."""
    clone = Clone(tmp_path, part=part, end=end)
    assert not clone.passes()
    assert clone.ran("--last-failed") == 0
    assert clone.ran("tests/chaos") == 2, "the rest is run all the same"  # left out by one part, run by another


def test_chaos_and_checks_are_not_tried_again(tmp_path: Path) -> None:
    assert not Clone(tmp_path, part="test-chaos", end="exit 1").passes()
    (tmp_path / "without-ruff").mkdir()
    clone = Clone(tmp_path / "without-ruff")
    (clone.folder / ".venv" / "bin" / "ruff").write_text("#!/bin/sh\nexit 1\n")
    assert not clone.passes()


def test_all_parts_together_are_all_tests(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    (tmp_path / ".pytest_cache").mkdir()
    (tmp_path / ".pytest_cache" / "stale").touch()
    assert clone.passes()
    assert not (tmp_path / ".pytest_cache").exists(), "failures of earlier runs are forgotten"
    assert clone.ran("--ignore tests/e2e --ignore tests/chaos tests/trainer tests") == 1
    assert (clone.ran("tests/e2e/test_secrets.py tests/e2e"), clone.ran("pytest_cache/test-chaos tests/chaos")) == (
        1,
        1,
    )


def test_nothing_to_try_again_is_a_failure(tmp_path: Path) -> None:
    """As after a process that ended with exit code 1 before it wrote down what had failed."""
    (tmp_path / "test_one.py").write_text("def test_one() -> None: ...\n")
    again = ["-o", "cache_dir=cache", "--last-failed", "--last-failed-no-failures", "none"]
    done = subprocess.run([sys.executable, "-m", "pytest", *again], cwd=tmp_path, check=False, timeout=60)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
