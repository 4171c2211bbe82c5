import copy

import pytest

from finetune_operator.plan.strategic_merge import MergeError, strategic_merge

POD = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [
            {
                "name": "trainer",
                "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            }
        ],
        "tolerations": [{"key": "old"}],
        "nodeSelector": {"zone": "a"},
    },
}


def test_named_lists_merge_by_their_key() -> None:
    patch = {
        "spec": {
            "containers": [
                {"name": "trainer", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]},
                {"name": "sidecar", "image": "x"},
            ]
        }
    }
    trainer, sidecar = strategic_merge(POD, patch)["spec"]["containers"]
    assert trainer["env"] == [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}]
    assert trainer["volumeMounts"] == [{"name": "scratch", "mountPath": "/scratch"}]
    assert sidecar == {"name": "sidecar", "image": "x"}


def test_lists_without_a_key_are_replaced() -> None:
    assert strategic_merge(POD, {"spec": {"tolerations": [{"key": "new"}]}})["spec"]["tolerations"] == [{"key": "new"}]


def test_null_removes_a_field() -> None:
    assert "nodeSelector" not in strategic_merge(POD, {"spec": {"nodeSelector": None}})["spec"]


def test_patch_delete_removes_an_element() -> None:
    patch = {"spec": {"containers": [{"name": "trainer", "env": [{"name": "A", "$patch": "delete"}]}]}}
    assert strategic_merge(POD, patch)["spec"]["containers"][0]["env"] == []


def test_patch_replace_drops_what_was_there() -> None:
    patch = {"spec": {"nodeSelector": {"$patch": "replace", "zone": "b"}}}
    assert strategic_merge(POD, patch)["spec"]["nodeSelector"] == {"zone": "b"}


def test_mounts_merge_by_path() -> None:
    patch = {"spec": {"containers": [{"name": "trainer", "volumeMounts": [{"name": "big", "mountPath": "/scratch"}]}]}}
    mounts = strategic_merge(POD, patch)["spec"]["containers"][0]["volumeMounts"]
    assert mounts == [{"name": "big", "mountPath": "/scratch"}]


def test_neither_side_is_changed() -> None:
    before, patch = copy.deepcopy(POD), {"spec": {"containers": [{"name": "trainer", "env": []}]}}
    merged = strategic_merge(POD, patch)
    merged["spec"]["containers"][0]["image"] = "changed"
    assert before == POD
    assert patch == {"spec": {"containers": [{"name": "trainer", "env": []}]}}


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers[0]: needs name"),
        ({"spec": {"containers": {"name": "trainer"}}}, "spec.containers: must not be an object"),
        ({"spec": {"nodeSelector": {"$patch": "delete"}}}, "spec.nodeSelector: $patch: delete is not supported"),
        ({"spec": {"$retainKeys": ["a"]}}, "spec: $retainKeys is not supported"),
    ],
)
def test_what_cannot_be_merged_is_named(patch: dict, path: str) -> None:
    with pytest.raises(MergeError) as caught:
        strategic_merge(POD, patch)
    assert str(caught.value).startswith(path)
