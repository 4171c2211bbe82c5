"""The fallback for machines that allow no mounts: paths and names are rewritten."""

import sys
from typing import cast

from finetune_local.cluster import Cluster
from finetune_local.kubelet.pod_context import KubeletSettings
from finetune_local.kubelet.rewriting import Rewriter
from finetune_local.kubelet.sandbox.supervisor import NONE
from finetune_operator.kube.resources import CONFIG_MAPS, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES
from local.clusters import log_of, pod, terminated, wait_for


async def test_paths_claims_and_names_are_rewritten() -> None:
    async with Cluster(isolation=NONE) as cluster:
        text = '{"output": "pvc://models/out", "data": "/mnt/pvc/models/in", "other": "/mnt/pvc/models2"}'
        await cluster.api.create(CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {"job.json": text}}, "default")
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        await cluster.api.create(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "models"}, "spec": claim}, "default")
        service = {
            "metadata": {"name": "gang"},
            "spec": {"clusterIP": "None", "selector": {"app": "p"}, "publishNotReadyAddresses": True},
        }
        await cluster.api.create(SERVICES, service, "default")
        resolve = "import socket, os; print(socket.gethostbyname('peer.gang') == os.environ['MASTER'])"
        script = f"""
            cat $CONFIG; echo; echo kept > /mnt/pvc/models/file; printf done > /dev/termination-log
            test $MASTER = $POD_IP && echo same
            for i in 1 2 3 4 5 6 7 8 9; do {sys.executable} -c "{resolve}" 2>/dev/null && break; sleep 0.2; done
        """
        container = {
            "env": [
                {"name": "CONFIG", "value": "/etc/finetune/job.json"},
                {"name": "MASTER", "value": "peer.gang.default.svc"},
                {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            ],
            "volumeMounts": [
                {"name": "c", "mountPath": "/etc/finetune"},
                {"name": "models", "mountPath": "/mnt/pvc/models"},
            ],
        }
        volumes = [
            {"name": "c", "configMap": {"name": "c"}},
            {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
        ]
        body = pod("p", script, container=container, volumes=volumes, hostname="peer", subdomain="gang")
        await cluster.api.create(PODS, body, "default")
        ended = await wait_for(cluster, PODS, "p", lambda item: (item.get("status") or {}).get("phase") == "Succeeded")
        folder = cluster.control_plane.claim_folders.path("default", "models")
        assert log_of(cluster, ended).splitlines() == [
            f'{{"output": "file://{folder}/out", "data": "{folder}/in", "other": "/mnt/pvc/models2"}}',
            "same",
            "True",
        ]
        assert (folder / "file").read_text() == "kept\n"
        assert (terminated(ended) or {})["message"] == "done"


def test_a_folder_that_stands_for_a_path_is_not_rewritten_again() -> None:
    places = {"/tmp": "/state/tmp", "/mnt/pvc/data": "/tmp/state/data", "/tmp/checkout": "/tmp/checkout"}
    rewriter = Rewriter(places, {}, cast(KubeletSettings, None))
    assert (
        rewriter.text("/mnt/pvc/data/x:/tmp/y:/tmp/checkout/bin") == "/tmp/state/data/x:/state/tmp/y:/tmp/checkout/bin"
    )
