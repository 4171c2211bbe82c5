"""How plans become requests."""

import asyncio
from typing import Any

import pytest

from finetune_operator.controllers.carry_out import PlanCarrier

POLICY = {"kind": "NetworkPolicy", "metadata": {"name": "finetune-trainer-0", "namespace": "ml"}}


async def test_jobs_that_start_together_make_what_they_share_once() -> None:
    carrier = PlanCarrier(None, None, None)  # type: ignore[arg-type] - writes nothing by itself here
    made: list[str] = []
    answered = asyncio.Event()

    async def write(job: str, error: Exception | None = None) -> None:
        made.append(job)
        await answered.wait()
        if error:
            raise error

    async def together(*writes: Any) -> None:
        answered.clear()
        tasks = [asyncio.create_task(carrier._once(POLICY, one)) for one in writes]
        await asyncio.sleep(0)  # each has come to its wait
        await asyncio.sleep(0)
        answered.set()
        await asyncio.gather(*tasks)

    await together(write("a"), write("b"), write("c"))
    assert made == ["a"]
    with pytest.raises(ValueError, match="no quota"):
        await together(write("d", ValueError("no quota")), write("e"))
    await together(write("f"))
    assert made == ["a", "d", "f"]
