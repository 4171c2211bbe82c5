import json

import pytest

from finetune_api.errors import field_of
from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.validation import InvalidSpec, validate
from plan.builders import NOW, condition, created, follow, job, message, reasons, spec, world

BAD = [
    ({"checkpoint": None}, "spec.checkpoint.storage: required; set it here or in the TrainingRuntime"),
    ({"output": None}, "spec.output.storage: required"),
    (
        {"checkpoint": {"storage": "s3://here/it"}, "output": {"storage": "s3://here/it/"}},
        "spec.output.storage: 's3://here/it/' is where the checkpoints go; give each a folder of its own",
    ),
    ({"training": {"learningRate": -1}}, "spec.training.learningRate: input should be greater than 0; got -1"),
    ({"training": {"epoch": 3}}, "spec.training.epoch: unknown field"),
    ({"task": "Cooking"}, "spec.task: input should be 'TextClassification'"),
    ({"dataset": {}}, "spec.dataset.train: required"),
    (
        {"dataset": {"train": {"source": "modelversion://x"}}},
        "spec.dataset.train.source: modelversion:// names a model",
    ),
    ({"evaluation": {"gate": [{"metric": "bleu", "operator": ">", "value": 1}]}}, "spec.evaluation.gate[0].metric"),
    ({"training": {"batchSize": 7}}, "spec.training.batchSize (7) must be a multiple"),
    ({"podTemplate": {"spec": {"containers": [{"image": "x"}]}}}, "spec.podTemplate.spec.containers[0]: needs name"),
    (
        {"priorityClassName": "batch", "podTemplate": {"spec": {"priorityClassName": "high"}}},
        "spec.priorityClassName: 'batch' here and 'high' in spec.podTemplate; keep one of the two",
    ),
    ({"method": {}}, "spec.method: set exactly one of full, lora"),
    ({"deploy": {"name": "tickets"}}, "spec.deploy needs publish"),
]


@pytest.mark.parametrize(("change", "text"), BAD, ids=[text for _, text in BAD])
def test_each_error_names_its_field_and_the_mend(change: dict, text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        validate(spec(**change), None)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "runtime", "fields"),
    [
        ({"checkpoint": None, "output": None}, None, ["spec.checkpoint.storage", "spec.output.storage"]),
        (
            {"task": "Cooking", "training": {"learningRate": -1}},
            {"ttlSecondsAfterFinished": -1},
            ["spec.task", "spec.training.learningRate", "runtime.spec.ttlSecondsAfterFinished"],
        ),
        (
            {
                "training": {"batchSize": 7, "packing": True},
                "deploy": {"name": "tickets"},
                "evaluation": {"gate": [{"metric": "bleu", "operator": ">", "value": 1}]},
            },
            None,
            ["spec.evaluation.gate[0].metric", "spec.training.batchSize", "spec.deploy", "spec.training.packing"],
        ),
    ],
)
def test_all_errors_come_at_once(changes: dict, runtime: dict | None, fields: list[str]) -> None:
    with pytest.raises(InvalidSpec) as caught:
        validate(spec(**changes), runtime)
    assert [field_of(error) for error in caught.value.errors] == fields
    assert str(caught.value).splitlines() == list(caught.value.errors)


def test_the_runtime_may_give_what_the_job_leaves_out() -> None:
    runtime = {"checkpoint": {"storage": "s3://c"}, "output": {"storage": "s3://o"}}
    assert validate(spec(checkpoint=None, output=None), runtime)


def test_remote_code_needs_the_runtimes_consent() -> None:
    trusting = spec(model={"source": "hf://a/b", "trustRemoteCode": True})
    assert validate(trusting, {"allowTrustRemoteCode": True})
    assert validate(trusting, None, complete=False)
    for runtime in (None, {}, {"allowTrustRemoteCode": False}):
        with pytest.raises(InvalidSpec, match="only a runtime can allow it"):
            validate(trusting, runtime)


def test_an_invalid_job_fails_for_good() -> None:
    bad = job(output=None)
    plan = plan_job(world(bad))
    assert condition(plan, "Failed") == ("True", "InvalidSpec")
    assert condition(plan, "Validated") == ("False", "InvalidSpec")
    assert condition(plan, "Stalled") == ("True", "InvalidSpec")
    assert "spec.output.storage" in message(plan, "Failed")
    assert plan.status["phase"] == "Failed"
    assert plan.writes == ()
    assert reasons(plan) == ["InvalidSpec", "Failed"]


def test_mending_a_failed_job_does_not_run_it() -> None:
    failed = follow(job(output=None), plan_job(world(job(output=None))))
    mended = {**job(), "status": failed["status"], "metadata": {**job()["metadata"], "generation": 2}}
    plan = plan_job(world(mended, after=60))
    assert plan.writes == ()
    assert plan.status["phase"] == "Failed"


def test_a_missing_runtime_is_waited_for() -> None:
    waiting = job(runtimeRef={"name": "gpu"})
    plan = plan_job(world(waiting))
    assert condition(plan, "Validated") == ("False", "RuntimeNotFound")
    assert "ClusterTrainingRuntime 'gpu'" in message(plan, "Validated")
    assert (plan.status["phase"], plan.writes) == ("Pending", ())
    again = plan_job(world(follow(waiting, plan), after=5))
    assert (again.status, again.events) == (plan.status, ())
    started = plan_job(world(follow(waiting, plan), runtime={"spec": {}}, after=6))
    assert created(started) == ["ConfigMap/tickets-1", "Service/tickets-1", "Job/tickets-1"]


def test_what_is_wrong_in_itself_needs_no_runtime_to_be_refused() -> None:
    plan = plan_job(world(job(runtimeRef={"name": "gpu"}, task="Cooking", output=None)))
    assert condition(plan, "Failed") == ("True", "InvalidSpec")
    assert "spec.task" in message(plan, "Failed")


def version(format_: str = "Full") -> dict:
    artifact = {"uri": "pvc://work/out/v1", "digest": "sha256:x"}
    return {"metadata": {"name": "v1", "namespace": "ml"}, "spec": {"format": format_, "artifact": artifact}}


def test_a_model_version_is_waited_for_then_resolved() -> None:
    item = job(model={"source": "modelversion://v1"})
    assert condition(plan_job(world(item)), "Validated") == ("False", "ModelVersionNotFound")
    plan = plan_job(world(item, source_versions={"v1": version()}))
    (config_map,) = (write.body for write in plan.writes if write.body["kind"] == "ConfigMap")
    assert json.loads(config_map["data"]["job.json"])["model"]["source"] == "pvc://work/out/v1"


def test_an_adapter_cannot_be_trained_further() -> None:
    plan = plan_job(world(job(model={"source": "modelversion://v1"}), source_versions={"v1": version("Adapter")}))
    assert condition(plan, "Failed") == ("True", "InvalidSpec")
    assert "has the format Adapter, which cannot be trained further" in message(plan, "Failed")


TAUGHT = {"distillation": {"teacher": "modelversion://v1"}}


def test_a_teacher_is_waited_for_resolved_and_mounted() -> None:
    item = job(training=TAUGHT)
    waiting = plan_job(world(item))
    assert condition(waiting, "Validated") == ("False", "ModelVersionNotFound")
    assert "spec.training.distillation.teacher: there is no ModelVersion 'v1'" in message(waiting, "Validated")
    plan = plan_job(world(item, source_versions={"v1": version()}))
    bodies = {write.body["kind"]: write.body for write in plan.writes}
    training = json.loads(bodies["ConfigMap"]["data"]["job.json"])["training"]
    assert training["distillation"]["teacher"] == "pvc://work/out/v1"
    volumes = bodies["Job"]["spec"]["template"]["spec"]["volumes"]
    assert "work" in {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in volumes}


def test_a_teacher_that_needs_a_base_is_refused() -> None:
    plan = plan_job(world(job(training=TAUGHT), source_versions={"v1": version("Adapter")}))
    assert condition(plan, "Failed") == ("True", "InvalidSpec")
    assert "has the format Adapter, which needs its base model beside it" in message(plan, "Failed")


def test_models_to_average_are_resolved_and_must_fit() -> None:
    item = job(postprocess=[{"average": {"models": ["s3://other/model", "modelversion://v1"]}}])
    waiting = plan_job(world(item))
    assert "spec.postprocess[0].average.models[1]: there is no ModelVersion 'v1'" in message(waiting, "Validated")
    plan = plan_job(world(item, source_versions={"v1": version("Adapter")}))
    (config_map,) = (write.body for write in plan.writes if write.body["kind"] == "ConfigMap")
    (step,) = json.loads(config_map["data"]["job.json"])["postprocess"]
    assert step["average"]["models"] == ["s3://other/model", "pvc://work/out/v1"]
    other = version("Onnx")
    other["spec"]["task"] = "Seq2Seq"
    refused = message(plan_job(world(item, source_versions={"v1": other})), "Failed")
    assert "models[1]: ModelVersion 'v1' has the format Onnx, which has no weights to average" in refused
    assert "models[1]: ModelVersion 'v1' is a model for Seq2Seq, not TextClassification; remove it" in refused


def test_only_classes_and_tokens_are_learnt_from_a_teacher() -> None:
    plan = plan_job(world(job(task="QuestionAnswering", training=TAUGHT)))
    refused = "training.distillation is for TextClassification, TextGeneration, Seq2Seq; remove it (got QuestionAns"
    assert refused in message(plan, "Failed")


def test_checkpoints_that_are_averaged_are_not_left_to_the_clock() -> None:
    average = {"postprocess": [{"average": {}}]}
    plan = plan_job(world(job(**average, checkpoint={"storage": "s3://ckpt/a"})))
    assert "postprocess[0].average: which checkpoints there are is left to the clock" in message(plan, "Failed")
    by_steps = plan_job(world(job(**average, checkpoint={"storage": "s3://ckpt/a", "everySteps": 10})))
    assert condition(by_steps, "Validated")[0] == "True"


def test_conditions_keep_their_transition_time() -> None:
    waiting = job(runtimeRef={"name": "gpu"})
    first = plan_job(world(waiting))
    later = plan_job(world(follow(waiting, first), runtime={"spec": {}}, after=100))
    times = {c["type"]: c["lastTransitionTime"] for c in later.status["conditions"]}
    assert times["Reconciling"] == times["Ready"] == "2026-11-22T09:00:00Z"
    assert times["Validated"] == "2026-11-22T09:01:40Z"
    assert NOW.isoformat().startswith("2026-11-22T09:00:00")
