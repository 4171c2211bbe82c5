"""What stands in for an image stays visible under a pod's volumes."""

import os
import sys
from pathlib import Path

from finetune_local.kubelet.image import image_folders, uncovered
from finetune_local.kubelet.sandbox.root import Mount
from local.kubelet.sandboxes import Sandbox


def test_python_and_its_packages_are_the_image() -> None:
    folders = image_folders()
    for needed in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)):
        assert any(Path(needed).is_relative_to(folder) for folder in folders), needed


def test_only_what_a_volume_hides_is_shown_again() -> None:
    volumes = [Mount("/tmp/", None), Mount("/mnt/pvc/data", "/data")]
    shown = uncovered(["/tmp/checkout/.venv", "/usr/lib/python3", "/mnt/pvc/data", "/tmpx"], volumes)
    assert shown == [Mount("/tmp/checkout/.venv", "/tmp/checkout/.venv", True)]


async def test_programs_installed_under_a_folder_that_a_volume_covers_can_be_started(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    programs = tmp_path / "covered" / "checkout" / "bin"
    programs.mkdir(parents=True)
    (programs / "hello").write_text("#!/bin/sh\necho hello\n")
    (programs / "hello").chmod(0o755)
    volume = Mount(str(tmp_path / "covered"), None)
    shown = uncovered([str(programs.parent)], [volume])
    ended, log = await sandbox.run(f"ls {tmp_path}/covered; {programs}/hello", volume, *shown)
    assert (ended.code, log.split()) == (0, ["checkout", "hello"])
