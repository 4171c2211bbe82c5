"""What stands in for a container image: this Python, its packages, and the sources that they are installed from."""

import os
import sys
from collections.abc import Iterable
from pathlib import PurePath

from finetune_local.kubelet.sandbox.root import Mount


def image_folders() -> list[str]:
    """The folders without which a pod's programs cannot start; none of them lies within another."""
    found = {sys.prefix, sys.base_prefix, *sys.path, os.path.dirname(__file__)}
    folders = sorted({os.path.abspath(path) for path in found if path and os.path.isdir(path)})
    return [folder for folder in folders if not any(_within(folder, other) for other in folders)]


def uncovered(folders: Iterable[str], mounts: Iterable[Mount]) -> list[Mount]:
    """Shows again the folders that a volume hides: a checkout under /tmp, where pods mount a volume of their own."""
    targets = [os.path.normpath(mount.target) for mount in mounts]
    return [Mount(folder, folder, True) for folder in folders if any(_within(folder, target) for target in targets)]


def _within(path: str, folder: str) -> bool:
    return path != folder and PurePath(path).is_relative_to(folder)
