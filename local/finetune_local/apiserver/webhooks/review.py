"""AdmissionReview v1: what a webhook is sent, and what its answer means.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#webhook-request-and-response
"""

import base64
import binascii
import uuid
from dataclasses import dataclass, field
from typing import Any

import orjson

from finetune_local.apiserver.object_codec import Object
from finetune_local.apiserver.patches.json_patch import apply_json_patch
from finetune_local.apiserver.status_error import StatusError
from finetune_local.apiserver.webhooks.question import Question

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


class BadAnswer(Exception):
    """The webhook answered something that is no AdmissionReview of ours: it counts as a failed call."""


@dataclass(frozen=True)
class Verdict:
    """One webhook's answer."""

    allowed: bool
    status: Object = field(default_factory=dict)
    patch: list[Any] | None = None
    warnings: tuple[str, ...] = ()


def review_of(question: Question, new: Object | None) -> Object:
    """`new` may be further than the question's: earlier webhooks have changed it."""
    resource = question.resource
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    plural = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    request: Object = {
        "uid": str(uuid.uuid4()),
        "kind": kind,
        "resource": plural,
        "requestKind": kind,
        "requestResource": plural,
        "operation": question.operation,
        "userInfo": question.user.as_dict(),
        "object": _present(question, new),
        "oldObject": _present(question, question.old),
        "dryRun": question.dry_run,
        "options": _options(question),
    }
    optional = {"name": question.name, "namespace": question.namespace, "subResource": question.subresource}
    request |= {key: value for key, value in optional.items() if value}
    if question.subresource:
        request["requestSubResource"] = question.subresource
    return {"apiVersion": API_VERSION, "kind": KIND, "request": request}


def _present(question: Question, body: Object | None) -> Object | None:
    return body and body | {"apiVersion": question.resource.api_version, "kind": question.resource.kind}


def _options(question: Question) -> Object:
    options: Object = {"apiVersion": "meta.k8s.io/v1", "kind": OPTIONS[question.operation]}
    if question.dry_run:
        options["dryRun"] = ["All"]
    if question.field_manager and question.operation != "DELETE":
        options["fieldManager"] = question.field_manager
    return options


def read_verdict(answer: bytes, uid: str) -> Verdict:
    """Raises BadAnswer."""
    try:
        review = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise BadAnswer(f"couldn't get version/kind; json parse error: {error}") from error
    response = review.get("response") if isinstance(review, dict) else None
    if not isinstance(response, dict):
        raise BadAnswer("webhook response was absent")
    if (review.get("apiVersion"), review.get("kind")) != (API_VERSION, KIND):
        stated = f"{review.get('apiVersion')}, Kind={review.get('kind')}"
        raise BadAnswer(f"expected webhook response of {API_VERSION}, Kind={KIND}, got {stated}")
    if response.get("uid") != uid:
        raise BadAnswer(f'expected response.uid={uid!r}, got "{response.get("uid", "")}"')
    status, warnings = response.get("status") or {}, response.get("warnings") or ()
    return Verdict(response.get("allowed") is True, status, _patch_of(response), tuple(map(str, warnings)))


def _patch_of(response: Object) -> list[Any] | None:
    if not response.get("patch"):
        return None
    if response.get("patchType") != "JSONPatch":
        raise BadAnswer(f'unsupported patch type: {response.get("patchType")!r}; only "JSONPatch" is')
    try:
        patch = orjson.loads(base64.b64decode(response["patch"], validate=True))
    except (binascii.Error, orjson.JSONDecodeError, TypeError) as error:
        raise BadAnswer(f"the patch is no base64 of JSON: {error}") from error
    if not isinstance(patch, list):
        raise BadAnswer("the patch is no list of operations")
    return patch


def patched(body: Object, patch: list[Any]) -> Object:
    """A copy with the patch applied. Raises BadAnswer when it does not fit."""
    try:
        result = apply_json_patch(orjson.loads(orjson.dumps(body)), patch)
    except StatusError as error:
        raise BadAnswer(f"the patch does not apply: {error.message}") from error
    if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
        raise BadAnswer("the patch leaves no object")
    return result


def denial(name: str, status: Object) -> StatusError:
    """As k8s.io/apiserver's ToStatusErr words it."""
    code, reason, message = int(status.get("code") or 0), str(status.get("reason") or ""), status.get("message")
    words = f'admission webhook "{name}" denied the request'
    explained = message or reason
    text = f"{words}: {explained}" if explained else f"{words} without explanation"
    return StatusError(max(code, 400), reason, text, **(status.get("details") or {}))
