"""Every method trains on several processes as on one, on every engine that the support table allows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exhaustive import some_of
from finetune_api.method_support import SUPPORT, Feature
from finetune_trainer.ranks import Ranks
from trainer.gangs import gang
from trainer.methods.method_runs import CASES
from trainer.parallel.engine_runs import (
    ENGINES,
    KILLED,
    SAVED,
    beside_bfloat16,
    every_method,
    job_of,
    run,
    settings_of,
)
from trainer.parallel.pissa_runs import resumed

pytestmark = pytest.mark.timeout(1200)  # one fixture runs every method
FEATURE: dict[str, Feature | None] = {
    "ddp": None,
    "fsdp": "distributed.fsdp",
    "zero-1": "distributed.deepspeed",
    "zero-2-offload": "distributed.deepspeed",
    "zero-3": "distributed.deepspeed",
}
# Dropout differs between ranks, so it is left out.
EVERY_METHOD = {
    name: type(case)({kind: {**fields, "dropout": 0.0} if "dropout" in fields else fields}, case.learning_rate)
    for name, case in CASES.items()
    if name not in ("p-lstm", "prefix-projected")
    for kind, fields in case.method.items()
}
METHODS = some_of(EVERY_METHOD, ("rslora", "prefix"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, questions: Path) -> Any:
    return gang(every_method, tmp_path_factory.mktemp("methods"), tiny_llama, questions, METHODS)[0]


@pytest.mark.parametrize("name", METHODS)
def test_the_losses_are_those_of_one_process(
    name: str, found: Any, tiny_llama: Path, questions: Path, tmp_path: Path
) -> None:
    method = METHODS[name]
    alone, metrics = run(job_of(tmp_path, tiny_llama, questions, "ddp", **settings_of(method)), tmp_path, Ranks())
    refused = SUPPORT[next(iter(method.method))].refused
    for engine in ENGINES:
        feature = FEATURE[engine]
        if feature in refused:
            assert refused[feature] in found[name, engine]
            continue
        (losses, measured), *broken = found[name, engine]
        assert losses == pytest.approx(alone, rel=1e-4), engine
        assert measured == pytest.approx(metrics, rel=1e-3), engine
        if broken:
            (before, _), (after, again) = broken
            assert (max(before), min(after)) == (KILLED, SAVED + 1), engine
            assert ({**before, **after}, again) == (losses, measured), engine


def test_pissa_goes_on_in_shards_from_what_another_machine_began_with() -> None:
    """The frozen weights move along, in the shards and in the model that is exported."""
    first, second = gang(resumed)
    assert isinstance(first, dict), first
    expected = pytest.approx(np.array(first["expected"]), abs=1e-5)
    for engine in ("fsdp", "zero-3"):
        assert [np.array(found) for found in first[engine]] == [expected, expected], engine
        assert np.array(second[engine][0]) == expected, engine


def test_frozen_weights_in_bfloat16_go_with_every_engine(tiny_llama: Path, questions: Path, tmp_path: Path) -> None:
    """Trained ones beside them are float32; FSDP2 passes bfloat16 from layer to layer, the others float32."""
    found = gang(beside_bfloat16, tmp_path, tiny_llama, questions, list(ENGINES))[0]
    losses, metrics = found["ddp"]
    assert len(losses) == 3
    for engine in ENGINES:
        assert found[engine][0] == pytest.approx(losses, rel=5e-3), engine
        assert found[engine][1] == pytest.approx(metrics, rel=2e-2), engine
