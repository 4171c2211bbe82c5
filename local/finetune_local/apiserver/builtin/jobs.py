"""batch/v1 (pkg/apis/batch/v1/defaults.go, pkg/apis/batch/validation, pkg/registry/batch/job/strategy.go)."""

from typing import Any

from finetune_local.apiserver.builtin.pod_spec import check_pod_spec, default_template
from finetune_local.apiserver.status_error import Cause, invalid_value, required, unsupported_value
from finetune_local.apiserver.string_formats import label_value_error

Object = dict[str, Any]
CONTROLLER_UID, JOB_NAME = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
LEGACY_CONTROLLER_UID, LEGACY_JOB_NAME = "controller-uid", "job-name"
MAX_BACKOFF_LIMIT = 2**31 - 1
IMMUTABLE = (
    "completions",
    "completionMode",
    "podFailurePolicy",
    "backoffLimitPerIndex",
    "managedBy",
    "successPolicy",
    "podReplacementPolicy",
)


def default_job(new: Object, old: Object | None) -> None:
    spec = new.setdefault("spec", {})
    default_job_spec(spec)
    if old is None:
        new["status"] = {}
        # Mutating webhooks see a Job before it has an identity, and so before it has a selector.
        if not spec.get("manualSelector") and "uid" in new["metadata"]:
            _generate_selector(new)
    elif "status" not in new:
        new["status"] = {}


def default_job_spec(spec: Object) -> None:
    """Both completions and parallelism default to 1; parallelism alone makes a work queue."""
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = spec["parallelism"] = 1
    spec.setdefault("parallelism", 1)
    per_index = "backoffLimitPerIndex" in spec
    spec.setdefault("backoffLimit", MAX_BACKOFF_LIMIT if per_index else 6)
    if "podFailurePolicy" in spec:
        spec["podReplacementPolicy"] = "Failed"
    declared = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy")
    default_template(spec)
    if declared is None:
        # A pod's default, Always, is no value for a Job: leaving it out makes validation name the valid ones.
        spec["template"]["spec"].pop("restartPolicy")


def _generate_selector(new: Object) -> None:
    """The labels that tie pods to this very Job."""
    meta, spec = new["metadata"], new["spec"]
    template_meta = spec["template"]["metadata"]
    labels = template_meta.setdefault("labels", {})
    labels |= {CONTROLLER_UID: meta["uid"], LEGACY_CONTROLLER_UID: meta["uid"]}
    if len(meta.get("name", "")) <= 63:
        labels |= {JOB_NAME: meta["name"], LEGACY_JOB_NAME: meta["name"]}
    spec.setdefault("selector", {"matchLabels": {CONTROLLER_UID: meta["uid"]}})


def check_job(new: Object, old: Object | None) -> list[Cause]:
    spec = new["spec"]
    errors = check_job_spec(spec, "spec")
    if spec.get("completionMode") == "Indexed":
        errors += _check_indexed_name(new)
    if old is not None:
        errors += _check_immutable(spec, old["spec"])
    return errors


def check_job_spec(spec: Object, path: str) -> list[Cause]:
    errors = check_pod_spec(spec["template"]["spec"], f"{path}.template.spec")
    policy = spec["template"]["spec"].get("restartPolicy")
    where = f"{path}.template.spec.restartPolicy"
    if policy is None:
        errors.append(required(where, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(unsupported_value(where, policy, ["OnFailure", "Never"]))
    if spec.get("completionMode") == "Indexed" and "completions" not in spec:
        errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if "podFailurePolicy" in spec and policy != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(invalid_value(where, policy, text))
    if "backoffLimitPerIndex" in spec and spec.get("completionMode") != "Indexed":
        text = "requires indexed completion mode"
        errors.append(invalid_value(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], text))
    return errors


def _check_indexed_name(new: Object) -> list[Cause]:
    """Pods are called NAME-INDEX, and that is a host name: at most 63 letters."""
    name = new["metadata"].get("name", "")
    last = f"{name}-{max(new['spec'].get('completions', 1) - 1, 0)}"
    if len(last) > 63 or label_value_error(last):
        text = f"will not able to create pod with invalid DNS label: {last}: must be no more than 63 characters"
        return [invalid_value("metadata.name", name, text)]
    return []


def _check_immutable(new: Object, old: Object) -> list[Cause]:
    errors = []
    if new.get("selector") != old.get("selector"):
        errors.append(invalid_value("spec.selector", new.get("selector"), "field is immutable"))
    if _comparable_template(new, old) != _comparable_template(old, old):
        errors.append(invalid_value("spec.template", new.get("template"), "field is immutable"))
    for field in IMMUTABLE:
        elastic = field == "completions" and new.get("completionMode") == "Indexed"
        if elastic and new.get("completions") == new.get("parallelism"):
            continue
        if new.get(field) != old.get(field):
            errors.append(invalid_value(f"spec.{field}", new.get(field), "field is immutable"))
    return errors


def _comparable_template(spec: Object, old: Object) -> Object:
    """A suspended Job that has not started lets its scheduling directives change (KEP-2926)."""
    template = spec.get("template") or {}
    if not old.get("suspend"):
        return template
    free = ("nodeSelector", "tolerations", "affinity", "schedulingGates")
    pod = {key: value for key, value in (template.get("spec") or {}).items() if key not in free}
    return {"spec": pod}


def default_cron_job(new: Object, old: Object | None) -> None:
    template = new.setdefault("spec", {}).setdefault("jobTemplate", {})
    default_template(template.setdefault("spec", {}))
    if old is None:
        new["status"] = {}


def check_cron_job(new: Object, _old: Object | None) -> list[Cause]:
    spec = new["spec"]
    errors = [] if spec.get("schedule") else [required("spec.schedule")]
    return errors + check_pod_spec(
        spec["jobTemplate"]["spec"]["template"]["spec"], "spec.jobTemplate.spec.template.spec"
    )
