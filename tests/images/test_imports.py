"""Each image can import its whole program from the packages of its own extras: no other image's are there."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from images.dockerfile import ROOT
from images.test_dockerfile import EXTRAS

ROOMS = ["api", "operator", "storage", "trainer", "serving", "local"]
ASKED_FOR_FIRST = {"litert_torch", "ai_edge_litert"}
"""Of the extra tflite, which no image has: its absence is told before it is imported."""
EVERY_MODULE = """
import importlib, pkgutil, sys
package, *sys.path[len(sys.path):] = sys.argv[1:]
for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def wanted(requirements: Iterable[str], extra: str = "") -> list[tuple[str, str]]:
    """(Name, extra) of each distribution that is asked for, and "" for the distribution itself."""
    parsed = [
        needed
        for needed in map(Requirement, requirements)
        if not needed.marker or needed.marker.evaluate({"extra": extra})
    ]
    return [(re.sub(r"[-_.]+", "-", needed.name).lower(), name) for needed in parsed for name in ["", *needed.extras]]


def needed_by(extras: list[str]) -> Iterator[Distribution]:
    """What pip installs for the project with these extras, and all that it needs in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    waiting = [entry for requirements in lists for entry in wanted(requirements)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        if not extra:
            yield found
        waiting += wanted(found.requires or [], extra)


def link_packages(extras: list[str], into: Path) -> Path:
    """A site-packages folder with these distributions and no others."""
    for found in needed_by(extras):
        for name in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if not (link := into / name).exists():
                link.symlink_to(Path(str(found.locate_file(name))))
    return into


@pytest.mark.parametrize("target", EXTRAS)
def test_the_program_imports_without_the_packages_of_other_images(target: str, tmp_path: Path) -> None:
    packages = link_packages(EXTRAS[target], tmp_path)
    assert not (packages / "pytest").exists()
    folders = [str(packages), *(str(ROOT / room) for room in ROOMS)]
    command = [sys.executable, "-I", "-S", "-c", EVERY_MODULE, f"finetune_{target}", *folders]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize("target", EXTRAS)
def test_what_is_imported_late_is_in_the_image_too(target: str, tmp_path: Path) -> None:
    packages = link_packages(EXTRAS[target], tmp_path)
    there = {path.name.split(".")[0] for path in packages.iterdir()} | set(sys.stdlib_module_names) | ASKED_FOR_FIRST
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in (ROOT / target / f"finetune_{target}").rglob("*.py")
        for name in imported(file)
        if name.split(".")[0] not in there and not name.startswith("finetune_")
    }
    assert not missing


def imported(file: Path) -> Iterator[str]:
    """Modules that any line of a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
