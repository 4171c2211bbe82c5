"""The 45 questions whose answers of a real kube-apiserver 1.36.2 are on record."""

import asyncio
import pathlib
import re
import sys

from finetune_local.apiserver import ApiServer
from finetune_local.cluster import served_kinds
from finetune_local.controllers.garbage import GarbageCollector

FOLDER = pathlib.Path(__file__).parent / "conformance"
# The recorded cluster ran an etcd that cannot serve WatchList, and was slow to replay its many objects.
BETTER_THAN_RECORDED = {"sendInitialEvents + BOOKMARK", "status patch emits MODIFIED"}


QUESTIONS = re.findall(r"await step\('([^']+)'", (FOLDER / "apiserver.py").read_text())


def verdicts(text: str) -> dict[str, str]:
    """PASS or FAIL for each question."""
    found = (re.match(r"(PASS|FAIL)  (.+)", line) for line in text.splitlines())
    answers = [(match[1], match[2]) for match in found if match]
    return {name: verdict for name in QUESTIONS for verdict, rest in answers if rest.startswith(name)}


async def test_answers_are_those_of_the_real_api_server(server: ApiServer) -> None:
    collector = GarbageCollector(server.api, lambda: served_kinds(server))
    server.cluster.registry.on_change.append(collector.changed.set)
    collecting = asyncio.create_task(collector.run())
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(FOLDER / "apiserver.py"), server.url, server.admin_token, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    collecting.cancel()
    recorded = verdicts((FOLDER / "kubernetes-1.36.2.txt").read_text())
    assert len(recorded) == 45
    expected = recorded | dict.fromkeys(BETTER_THAN_RECORDED, "PASS")
    assert verdicts(output.decode()) == expected
