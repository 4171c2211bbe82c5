"""Mounted volumes and paths of the image."""

import os
from pathlib import Path

import pytest

from finetune_api.manifest import write_manifest
from finetune_storage import open_storage
from finetune_storage.errors import AccessDeniedError, NotFoundError, UnavailableError, UriError
from finetune_storage.local import replace_folder


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINETUNE_PVC_ROOT", str(tmp_path))
    (tmp_path / "data").mkdir()
    return tmp_path


def test_a_claim_is_its_mount(claims: Path) -> None:
    (claims / "data" / "train.jsonl").write_text("{}")

    assert open_storage("pvc://data/train.jsonl").fetch(claims / "scratch") == claims / "data" / "train.jsonl"


def test_a_path_may_have_any_character(claims: Path) -> None:
    for name in ("seed?1", "seed#2", "a b"):
        (claims / "data" / name).mkdir()

    assert [open_storage(f"pvc://data/{name}").fetch(claims).name for name in ("seed?1", "seed#2", "a%20b")] == [
        "seed?1",
        "seed#2",
        "a b",
    ]


def test_nothing_there_names_the_uri_and_the_place(claims: Path) -> None:
    with pytest.raises(NotFoundError, match=rf"pvc://data/no: there is nothing at {claims}/data/no; check the claim"):
        open_storage("pvc://data/no").fetch(claims / "scratch")


def test_whether_it_can_be_written_is_told_by_the_folder_above(claims: Path) -> None:
    place = open_storage("pvc://data/models/tickets")
    place.check_writable()
    assert list((claims / "data").iterdir()) == []
    (claims / "data" / "models").write_text("a file")
    for attempt in (place.check_writable, lambda: place.upload(claims / "data")):
        with pytest.raises(UriError, match=r"^pvc://data/models/tickets: .*/data/models is a file; name a folder$"):
            attempt()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_cannot(claims: Path) -> None:
    (claims / "data").chmod(0o500)
    with pytest.raises(AccessDeniedError, match=r"Permission denied .*let user .* read and write the volume"):
        open_storage("pvc://data/models").check_writable()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("pvc://data/../../etc", "no '..' in PATH"),
        ("pvc:///x", "expected pvc://CLAIM/PATH"),
        ("file://host/x", "three slashes"),
        ("gs://bucket/x", "unknown scheme 'gs'"),
        ("/plain/path", "unknown scheme ''"),
        ("modelversion://tickets-1f3a", "looked up by the operator"),
        ("s3:///key", "expected s3://BUCKET/KEY"),
        ("hf://", "expected hf://ORG/NAME"),
    ],
)
def test_a_uri_of_the_wrong_form_is_refused(uri: str, message: str) -> None:
    with pytest.raises(UriError, match=message):
        open_storage(uri)


def test_unfinished_files_are_not_listed(claims: Path) -> None:
    (claims / "data" / "tmp-m").mkdir()
    (claims / "data" / "tmp-m" / "half").write_text("x")
    (claims / "data" / "whole").write_text("x")

    assert [entry.path for entry in open_storage("pvc://data").files()] == ["whole"]


def test_an_upload_replaces_the_whole_folder(claims: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, name in ((old, "a"), (new, "b")):
        folder.mkdir()
        (folder / name).write_text(name)
        write_manifest(folder)
    place = open_storage("pvc://data/models/m")

    place.upload(old)
    place.upload(new)

    assert [entry.path for entry in place.files()] == ["b", "manifest.json"]
    assert [path.name for path in (claims / "data" / "models").iterdir()] == ["m"]


def test_what_a_killed_upload_left_goes_with_the_next_to_the_same_place(claims: Path, tmp_path: Path) -> None:
    models, source = claims / "data" / "models", tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    for name in ("tmp-m-0a1b2c3d", "tmp-old-m-0a1b2c3d", "tmp-m-merge-0a1b2c3d", "tmp-other-0a1b2c3d", "m-0a1b2c3d"):
        (models / name).mkdir(parents=True)

    open_storage("pvc://data/models/m").upload(source)

    left = sorted(path.name for path in models.iterdir())
    assert left == ["m", "m-0a1b2c3d", "tmp-m-merge-0a1b2c3d", "tmp-other-0a1b2c3d"]


def test_what_an_upload_that_was_killed_between_its_renames_put_aside_stays_until_another_is_there(
    claims: Path, tmp_path: Path
) -> None:
    models, source = claims / "data" / "models", tmp_path / "source"
    (models / "tmp-old-m-0a1b2c3d").mkdir(parents=True)
    source.mkdir()
    (source / "a").write_text("a")
    write_manifest(source)
    (source / "a").write_text("changed after its manifest")
    place = open_storage("pvc://data/models/m")

    with pytest.raises(UnavailableError):
        place.upload(source)
    assert [path.name for path in models.iterdir()] == ["tmp-old-m-0a1b2c3d"]

    write_manifest(source)
    place.upload(source)
    assert [path.name for path in models.iterdir()] == ["m"]


def test_an_upload_that_does_not_verify_leaves_the_old_folder(claims: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    write_manifest(source)
    place = open_storage("pvc://data/m")
    place.upload(source)
    (source / "a").write_text("changed after its manifest")

    with pytest.raises(UnavailableError, match="verification after writing failed: a has 26 bytes, expected 1"):
        place.upload(source)

    assert place.read("a") == b"a"
    assert [path.name for path in (claims / "data").iterdir()] == ["m"]


def test_a_folder_where_a_file_should_be_is_an_error_with_the_uri(claims: Path, tmp_path: Path) -> None:
    (claims / "data" / "models").write_text("a file")
    (tmp_path / "source").mkdir()

    with pytest.raises((UriError, AccessDeniedError), match="pvc://data/models/m: "):
        open_storage("pvc://data/models/m").upload(tmp_path / "source")


def test_delete_is_quiet_about_what_is_gone(claims: Path) -> None:
    place = open_storage("pvc://data/models")

    place.delete("nothing")

    assert not place.exists()


def test_replacing_a_folder_leaves_no_other_behind(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    replace_folder(tmp_path / "new", tmp_path / "old")

    assert (tmp_path / "old" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
