"""A whole local cluster: pods as processes, volumes, names, Services, and its end."""

from finetune_local.cluster import Cluster
from finetune_operator.kube.resources import CONFIG_MAPS, PODS, SERVICES

from local.clusters import has_condition, job, log_of, pod, pods_of, run_job, terminated, wait_for


async def test_an_indexed_job_runs_its_pods_to_completion() -> None:
    async with Cluster() as cluster:
        service = {"metadata": {"name": "gang"}, "spec": {"clusterIP": "None", "selector": {"job-name": "gang"}, "publishNotReadyAddresses": True}}
        await cluster.api.create(SERVICES, service, "default")
        await cluster.api.create(CONFIG_MAPS, {"metadata": {"name": "config"}, "data": {"job.json": '{"a": 1}'}}, "default")
        script = """
            cat /etc/finetune/job.json; echo; echo index $JOB_COMPLETION_INDEX of $(hostname)
            until getent hosts gang-0.gang.default.svc >/dev/null && getent hosts gang-1.gang >/dev/null; do sleep 0.05; done
            touch /shared/$JOB_COMPLETION_INDEX; until test -e /shared/0 -a -e /shared/1; do sleep 0.05; done
            printf done > /dev/termination-log
        """
        volumes = [{"name": "config", "configMap": {"name": "config"}}, {"name": "shared", "hostPath": {"path": str(cluster.folder / "shared"), "type": "DirectoryOrCreate"}}]
        mounts = [{"name": "config", "mountPath": "/etc/finetune"}, {"name": "shared", "mountPath": "/shared"}]
        body = job("gang", script, completions=2, parallelism=2, completionMode="Indexed", template={"subdomain": "gang", "volumes": volumes})
        body["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = mounts
        finished = await run_job(cluster, body)
        assert [one["type"] for one in finished["status"]["conditions"]] == ["SuccessCriteriaMet", "Complete"]
        assert finished["status"]["completedIndexes"] == "0,1"
        pods = sorted(await pods_of(cluster, "job-name=gang"), key=lambda one: str(one["metadata"]["name"]))
        assert [terminated(one)["message"] for one in pods] == ["done", "done"]
        assert log_of(cluster, pods[1]) == '{"a": 1}\nindex 1 of gang-1\n'
