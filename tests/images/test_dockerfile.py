"""The image builds, as far as they can be checked without one: paths, entry points, users, what is left in them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from finetune_api.names import CONFIG_FILE, METRICS_PORT, SERVING_PORT
from finetune_operator.options import Options
from images.dockerfile import DOCKERFILE, ROOT, Stage, exec_form, inherited, lineage, stages

TARGETS = {"operator": "finetune-operator", "trainer": "finetune-trainer", "serving": "finetune-serving"}
EXTRAS = {
    "operator": ["operator"],
    "trainer": ["trainer", "qlora", "postprocess", "deepspeed", "ray"],
    "serving": ["serving", "qlora", "postprocess"],
}
BUILD_TOOLS = re.compile(r"\b(apt-get|apt|pip|uv|gcc|g\+\+|make|git|curl|wget|build-essential)\b")
FLOATING = re.compile(r"(:latest|:stable|^[^:@]+)$")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Stage:
    return stages()[request.param]


def copied_from_the_repository() -> list[str]:
    lines = [line for stage in stages().values() for line in stage.all("COPY") if "--from=" not in line]
    return [source for line in lines for source in line.split()[:-1]]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [str(hadolint), "--no-color", "--failure-threshold", "style", str(DOCKERFILE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_copied_path_exists_and_reaches_the_build() -> None:
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    sources = copied_from_the_repository()
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source.rstrip("/") in kept, f"{source} is not let through by .dockerignore"
    assert kept == {source.rstrip("/") for source in sources}


def test_the_wheel_gets_every_package(project: dict[str, Any]) -> None:
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = {source.rstrip("/") for source in copied_from_the_repository()}
    assert {package.split("/")[0] for package in packages} <= copied
    metadata = project["project"]
    assert {metadata["readme"], *metadata["license-files"], "pyproject.toml"} <= copied


def test_stages_take_from_stages_that_exist() -> None:
    known = stages()
    for stage in known.values():
        for line in stage.all("COPY") + stage.all("RUN"):
            for name in re.findall(r"--from=(\S+)|\bfrom=([\w-]+)", line):
                assert (name[0] or name[1]) in known, line


def test_bases_are_pinned() -> None:
    known = stages()
    bases = {stage.base for stage in known.values()} - set(known)
    assert bases
    assert not [base for base in bases if FLOATING.search(base)]


def test_the_base_has_a_python_that_the_project_supports(project: dict[str, Any]) -> None:
    versions = {match[1] for stage in stages().values() if (match := re.match(r"python:(\d+\.\d+)", stage.base))}
    assert len(versions) == 1
    assert project["project"]["requires-python"] == f">={versions.pop()}"


def test_the_entry_point_is_a_command_of_the_project(target: Stage, project: dict[str, Any]) -> None:
    entry = exec_form(inherited(target, "ENTRYPOINT"))
    assert entry == [TARGETS[target.name]]
    assert entry[0] in project["project"]["scripts"]


def test_the_image_gets_the_packages_of_its_own_extra(target: Stage, project: dict[str, Any]) -> None:
    (line,) = target.all("COPY")
    source = re.match(r"--from=(\S+) /opt/venv /opt/venv$", line)
    assert source
    extras = [e for run in stages()[source[1]].all("RUN") for e in re.findall(r"--extra (\w+)", run)]
    assert extras == EXTRAS[target.name]
    assert set(extras) <= set(project["project"]["optional-dependencies"])


@pytest.mark.parametrize("packages", ["trainer-packages", "serving-packages"])
def test_one_more_extra_can_be_asked_for(packages: str) -> None:
    stage = stages()[packages]
    assert stage.all("ARG") == ["EXTRA="]
    assert stage.all("RUN")[0].endswith(" ${EXTRA:+--extra ${EXTRA}}")


def test_the_control_plane_has_no_torch() -> None:
    packages = stages()["operator-packages"]
    assert "torch" not in {stage.name for stage in lineage(packages)}


def test_the_user_is_a_number_other_than_root(target: Stage) -> None:
    user = inherited(target, "USER") or "0"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "runAsNonRoot can only check numbers"


def test_nothing_to_build_with_is_left_in_the_image(target: Stage) -> None:
    for stage in lineage(target):
        assert stage.name != "build"
        assert not [run for run in stage.all("RUN") if BUILD_TOOLS.search(run)]


def test_ports_and_paths_are_those_of_the_program(target: Stage) -> None:
    options = Options()
    expected = {
        "operator": {options.metrics_port, options.probe_port, options.progress_port},
        "trainer": {METRICS_PORT},
        "serving": {SERVING_PORT},
    }
    assert {int(port) for port in (target.last("EXPOSE") or "").split()} == expected[target.name]
    if target.name == "trainer":
        assert exec_form(target.last("CMD")) == ["--config", CONFIG_FILE]


def test_the_images_say_what_they_are(target: Stage) -> None:
    labels = " ".join(text for stage in lineage(target) for text in stage.all("LABEL"))
    for name in ("title", "description", "version", "revision", "source", "licenses"):
        assert f"org.opencontainers.image.{name}=" in labels
