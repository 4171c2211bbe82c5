from pathlib import Path

import pytest

from finetune_local.kubelet.process import find_isolation
from finetune_local.kubelet.sandbox.supervisor import FULL
from local.kubelet.sandboxes import Sandbox


@pytest.fixture
async def best_isolation(tmp_path: Path) -> str:
    return await find_isolation(tmp_path)


@pytest.fixture
async def sandbox(tmp_path: Path, best_isolation: str) -> Sandbox:
    """A sandbox with all namespaces."""
    if best_isolation != FULL:
        pytest.skip("this machine allows no unprivileged user namespaces")
    folder = tmp_path / "sandbox"
    folder.mkdir()
    return Sandbox(folder, FULL)
