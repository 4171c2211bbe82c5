"""An index that holds names in order: what is the newest, without decoding what is not."""

from hypothesis import given
from hypothesis import strategies as st

from finetune_operator.kube.index import Ordered
from finetune_operator.kube.store import Store
from kube.watcher import THINGS

CHANGES = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from(["red", "blue", ""]), st.sampled_from(["1", "2", "3", None])),
    max_size=20,
)


@given(changes=CHANGES)
def test_names_are_held_in_order_through_every_change(changes: list[tuple[str, str, str | None]]) -> None:
    colours = Ordered(lambda item: [item["colour"]] if item["colour"] else [], lambda item: item["made"])
    store = Store(THINGS, None, {"colour": colours}, packed=True)
    things: dict[str, tuple[str, str]] = {}
    for version, (name, colour, made) in enumerate(changes):
        metadata = {"namespace": "d", "name": name, "uid": name, "resourceVersion": str(version)}
        if made is None:
            things.pop(name, None)
            store.remove({"metadata": metadata})
        else:
            things[name] = (colour, made)
            store.put({"metadata": metadata, "colour": colour, "made": made})
        for value in ("red", "blue"):
            held = sorted((made, name) for name, (colour, made) in things.items() if colour == value)
            assert store.names_by_index("colour", value) == tuple(("d", name) for _, name in held)
            assert [name for _, name in store.names_from_last("colour", value)] == [n for _, n in reversed(held)]
            assert store.orders("colour", value) == tuple(sorted({made for made, _ in held}))
            assert len(store.by_index("colour", value)) == len(held)
