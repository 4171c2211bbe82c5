"""The manifest of a folder: what it is written from, and every way in which a folder can fail it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_api import manifest
from finetune_api.manifest import ManifestError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "sub" / "weights").write_bytes(b"0123456789")
    return tmp_path


def test_its_digest_depends_on_the_content_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "sub").mkdir()
    (other / "sub" / "weights").write_bytes(b"0123456789")
    (other / "config.json").write_text("{}")

    assert manifest.write_manifest(folder, {"step": 3}) == manifest.write_manifest(other, {"step": 3})


def test_a_whole_folder_verifies_and_gives_its_extra_keys(folder: Path) -> None:
    digest = manifest.write_manifest(folder, {"step": 3})

    body = manifest.verify_folder(folder, digest)

    assert body["step"] == 3
    assert body["files"]["sub/weights"]["size"] == 10


def test_a_second_manifest_does_not_count_the_first_as_a_file(folder: Path) -> None:
    assert manifest.write_manifest(folder) == manifest.write_manifest(folder)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda f: (f / "sub/weights").write_bytes(b"01234"), "sub/weights has 5 bytes, expected 10"),
    "one bit": (lambda f: (f / "sub/weights").write_bytes(b"0123456780"), "sub/weights has the right size but"),
    "missing file": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
    "half a manifest": (lambda f: (f / "manifest.json").write_text('{"format": 1, "fi'), "is not JSON"),
    "other format": (lambda f: (f / "manifest.json").write_text('{"format": 9, "files": {}}'), "not of format 1"),
    "no files": (lambda f: (f / "manifest.json").write_text('{"format": 1, "files": {}}'), "names no files"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "not of format 1"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(folder: Path, case: str) -> None:
    manifest.write_manifest(folder)
    damage, message = DAMAGE[case]
    damage(folder)

    with pytest.raises(ManifestError, match=message):
        manifest.verify_folder(folder)


def test_a_manifest_swapped_for_another_valid_one_fails_by_its_digest(folder: Path) -> None:
    digest = manifest.write_manifest(folder)
    (folder / "config.json").write_text('{"a": 1}')
    manifest.write_manifest(folder)

    with pytest.raises(ManifestError, match="the folder was changed"):
        manifest.verify_folder(folder, digest)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b"])
def test_it_cannot_point_outside_its_folder(folder: Path, name: str) -> None:
    body = {"format": 1, "files": {name: {"size": 1, "sha256": "0"}}}
    (folder / "manifest.json").write_text(json.dumps(body))

    with pytest.raises(ManifestError, match="outside its folder"):
        manifest.verify_folder(folder)
