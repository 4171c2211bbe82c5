"""The audit log: every request that is not a read, in the order in which the writes took effect."""

from finetune_local.apiserver import ApiServer
from finetune_local.apiserver.audit import AuditEvent
from finetune_local.apiserver.status_error import StatusError
from local.apiserver.http_client import CONFIG_MAPS, Client
from local.apiserver.objects import config_map


async def test_writes_are_told_with_their_outcome_and_reads_are_not(server: ApiServer, client: Client) -> None:
    events: list[AuditEvent] = []
    server.cluster.audit.append(events.append)
    await client.post(CONFIG_MAPS, config_map("a"), fieldManager="tester")
    await client.post(CONFIG_MAPS, config_map("a"))
    await client.get(f"{CONFIG_MAPS}/a")
    await client.patch(f"{CONFIG_MAPS}/a", {"data": {"x": "y"}})
    await client.delete(f"{CONFIG_MAPS}/a")
    assert [(e.verb, e.code, e.took_effect) for e in events] == [
        ("create", 201, True),
        ("create", 409, False),
        ("patch", 200, True),
        ("delete", 200, True),
    ]
    assert {(e.user, e.resource, e.namespace) for e in events} == {("kubernetes-admin", "configmaps", "default")}
    assert [e.name for e in events] == ["", "", "a", "a"]
    assert events[0].field_manager == "tester"
    revisions = [e.revision for e in events if e.took_effect]
    assert revisions == sorted(set(revisions))


async def test_a_sink_sees_the_store_as_the_write_left_it(server: ApiServer, client: Client) -> None:
    seen: list[str] = []

    def sink(event: AuditEvent) -> None:
        stored = server.cluster.store.collection(("", "configmaps")).get("default", "a")
        assert stored is not None
        assert stored.revision == event.revision
        seen.append(stored.body["data"]["x"])

    server.cluster.audit.append(sink)
    await client.post(CONFIG_MAPS, config_map("a", x="1"))
    await client.patch(f"{CONFIG_MAPS}/a", {"data": {"x": "2"}})
    assert seen == ["1", "2"]


async def test_a_refused_request_changes_nothing(server: ApiServer, client: Client) -> None:
    storm = StatusError(500, "InternalError", "etcdserver: request timed out")
    server.cluster.faults.refuse = lambda method, _path: storm if method == "POST" else None
    code, answer = await client.post(CONFIG_MAPS, config_map("a"))
    assert (code, answer["message"]) == (500, "etcdserver: request timed out")
    assert (await client.get(f"{CONFIG_MAPS}/a"))[0] == 404
