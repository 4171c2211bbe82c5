"""What real clusters do to programs: each knob has its effect."""

import time

from finetune_local.cluster import Cluster
from finetune_local.controllers.nodes import VirtualNode
from finetune_local.knobs import Knobs
from finetune_operator.kube.resources import NODES, PODS, SERVICES
from local.clusters import has_condition, log_of, pod, wait_for, wait_gone


async def test_an_image_that_cannot_be_pulled_is_in_back_off() -> None:
    async with Cluster(knobs=Knobs(failing_images=("*/missing:*",), image_pull_backoff=0.1)) as cluster:
        await cluster.api.create(PODS, pod("p", "true", container={"image": "example.com/missing:1"}), "default")
        for reason in ("ErrImagePull", "ImagePullBackOff"):
            held = await wait_for(
                cluster,
                PODS,
                "p",
                lambda item, reason=reason: reason in str((item.get("status") or {}).get("containerStatuses")),
            )
            assert held["status"]["phase"] == "Pending"


async def test_scheduling_pulling_and_staggering_take_their_time() -> None:
    async with Cluster(knobs=Knobs(schedule_delay=1.0, image_pull_delay=0.5)) as cluster:
        started = time.monotonic()
        await cluster.api.create(PODS, pod("p", "true"), "default")
        await wait_for(cluster, PODS, "p", lambda item: (item.get("status") or {}).get("phase") == "Succeeded")
        assert time.monotonic() - started > 0.5


async def test_names_of_new_pods_resolve_late() -> None:
    async with Cluster(knobs=Knobs(dns_delay=1.5)) as cluster:
        service = {
            "metadata": {"name": "gang"},
            "spec": {"clusterIP": "None", "selector": {"app": "p"}, "publishNotReadyAddresses": True},
        }
        await cluster.api.create(SERVICES, service, "default")
        script = """
            find() { getent hosts peer.gang > /dev/null; }
            find || echo unknown; until find; do sleep 0.05; done; echo known
        """
        await cluster.api.create(PODS, pod("p", script, hostname="peer", subdomain="gang"), "default")
        ended = await wait_for(cluster, PODS, "p", lambda item: (item.get("status") or {}).get("phase") == "Succeeded")
        assert log_of(cluster, ended) == "unknown\nknown\n"


async def test_a_vanished_node_is_noticed_and_its_pods_are_given_up() -> None:
    knobs = Knobs(heartbeat_period=0.1, node_monitor_grace=1.0, unreachable_toleration=0.5)
    async with Cluster(knobs=knobs, nodes=[VirtualNode("a"), VirtualNode("b")]) as cluster:
        await cluster.api.create(PODS, pod("p", "sleep 60", nodeName="a"), "default")
        await wait_for(cluster, PODS, "p", has_condition("Ready"))
        await cluster.vanish_node("a")
        silent = await cluster.api.get(PODS, "p", "default")
        assert silent["status"]["phase"] == "Running"
        node = await wait_for(cluster, NODES, "a", has_condition("Ready", "Unknown"))
        assert node is not None
        given_up = await wait_for(cluster, PODS, "p", lambda item: item["metadata"].get("deletionTimestamp"))
        assert has_condition("DisruptionTarget")(given_up)
        assert given_up["status"]["phase"] == "Running"
        await cluster.api.delete(NODES, "a")
        await wait_gone(cluster, PODS, "p")
        assert has_condition("Ready")(await cluster.api.get(NODES, "b"))
        await cluster.return_node("a")
        await cluster.api.create(PODS, pod("q", "sleep 60", nodeName="a"), "default")
        await wait_for(cluster, PODS, "q", has_condition("Ready"))
