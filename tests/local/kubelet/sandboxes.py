"""Containers as tests want them: a shell script, its sandbox, and what it wrote."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from finetune_local.kubelet.process import ContainerProcess, Exit
from finetune_local.kubelet.sandbox.root import Mount
from finetune_local.kubelet.sandbox.supervisor import Spec

PATH = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"


class Sandbox:
    """Starts scripts under one folder."""

    def __init__(self, folder: Path, isolation: str) -> None:
        self.folder = folder
        self.isolation = isolation
        self.log = folder / "log"
        (folder / "root").mkdir()

    def spec(self, script: str, **changes: object) -> Spec:
        spec = Spec(argv=["sh", "-c", script], env={"PATH": PATH}, root=str(self.folder / "root"))
        return replace(spec, isolation=self.isolation, **changes)  # type: ignore[arg-type]

    async def start(self, script: str, *mounts: Mount, **changes: object) -> ContainerProcess:
        with self.log.open("ab") as output:
            return await ContainerProcess.start(self.spec(script, mounts=list(mounts), **changes), output)

    async def run(self, script: str, *mounts: Mount, **changes: object) -> tuple[Exit, str]:
        process = await self.start(script, *mounts, **changes)
        ended = await process.wait()
        return ended, self.log.read_text()
