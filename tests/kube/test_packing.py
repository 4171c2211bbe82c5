"""Compressed objects come back as they were."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from finetune_operator.kube.packing import Packing

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def pod(number: int, **status: Any) -> dict[str, Any]:
    labels = {"finetune.dev/job": f"job-{number:05}", "finetune.example.com/attempt": "1"}
    metadata = {"name": f"job-{number:05}-1-0", "namespace": "team", "uid": f"{number:032x}", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}


@given(st.lists(st.dictionaries(st.text(), json_values), max_size=20))
def test_whatever_was_packed_before_and_comes_after(items: list[dict[str, Any]]) -> None:
    packing = Packing()
    packed = [packing.pack(item) for item in items]
    assert [packing.unpack(one) for one in packed] == items


def test_objects_longer_than_what_deflate_looks_back() -> None:
    packing = Packing()
    items = [pod(1, message="x" * size) for size in (10, 30_000, 40_000, 200_000, 30_001)]
    assert [packing.unpack(one) for one in [packing.pack(item) for item in items]] == items


def test_ever_longer_objects_do_not_use_up_the_numbers_of_dictionaries() -> None:
    packing = Packing()
    items = [{"message": "x" * size} for size in range(0, 33_000, 7)]
    packed = [packing.pack(item) for item in items]
    assert packing.unpack(packed[-1]) == items[-1]
    assert max(one[0] for one in packed) <= 47


def test_objects_that_are_alike_take_a_small_part_of_their_json() -> None:
    packing = Packing()
    packing.pack(pod(0, phase="Running", podIP="10.0.0.1"))
    item = pod(4711, phase="Running", podIP="10.0.3.9")
    assert len(packing.pack(item)) * 4 < len(orjson.dumps(item))
