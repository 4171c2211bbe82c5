"""What the API server refuses in ValidatingWebhookConfigurations and MutatingWebhookConfigurations."""

from typing import Any
from urllib.parse import urlsplit

from finetune_local.apiserver.status_error import Cause, duplicate_value, invalid_value, required, unsupported_value
from finetune_local.apiserver.string_formats import dns_subdomain_error

Object = dict[str, Any]
SIDE_EFFECTS = ("None", "NoneOnDryRun")
POLICIES = ("Fail", "Ignore")
MAX_TIMEOUT_SECONDS = 30


def check_webhooks(new: Object, _old: Object | None) -> list[Cause]:
    """k8s.io/kubernetes/pkg/apis/admissionregistration/validation."""
    errors: list[Cause] = []
    names: set[str] = set()
    for index, hook in enumerate(new.get("webhooks") or ()):
        path = f"webhooks[{index}]"
        errors += [*_check_name(hook, path), *_check_behaviour(hook, path)]
        errors += _check_client(hook.get("clientConfig") or {}, f"{path}.clientConfig")
        errors += _check_rules(hook.get("rules") or (), f"{path}.rules")
        if hook.get("name") in names:
            errors.append(duplicate_value(f"{path}.name", hook["name"]))
        names.add(hook.get("name", ""))
    return errors


def _check_name(hook: Object, path: str) -> list[Cause]:
    name = hook.get("name") or ""
    error = dns_subdomain_error(name) or ("" if name.count(".") >= 2 else _SEGMENTS)
    return [invalid_value(f"{path}.name", name, error)] if error else []


_SEGMENTS = "should be a domain with at least three segments separated by dots"


def _check_behaviour(hook: Object, path: str) -> list[Cause]:
    errors = []
    side_effects, versions = hook.get("sideEffects"), hook.get("admissionReviewVersions") or []
    if side_effects is None:
        errors.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    elif side_effects not in SIDE_EFFECTS:
        errors.append(unsupported_value(f"{path}.sideEffects", side_effects, SIDE_EFFECTS))
    if not versions:
        errors.append(required(f"{path}.admissionReviewVersions", "must specify one of v1, v1beta1"))
    elif "v1" not in versions:
        errors.append(invalid_value(f"{path}.admissionReviewVersions", versions, "must include at least one of v1"))
    if hook.get("failurePolicy", "Fail") not in POLICIES:
        errors.append(unsupported_value(f"{path}.failurePolicy", hook["failurePolicy"], POLICIES))
    if not 1 <= hook.get("timeoutSeconds", 10) <= MAX_TIMEOUT_SECONDS:
        text = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid_value(f"{path}.timeoutSeconds", hook["timeoutSeconds"], text))
    return errors


def _check_client(config: Object, path: str) -> list[Cause]:
    url, service = config.get("url"), config.get("service")
    if bool(url) == bool(service):
        return [required(path, "exactly one of url or service is required")]
    if service:
        missing = [name for name in ("name", "namespace") if not service.get(name)]
        return [required(f"{path}.service.{name}") for name in missing]
    parts = urlsplit(str(url))
    if parts.scheme != "https":
        return [invalid_value(f"{path}.url", url, "'https' is the only allowed URL scheme")]
    if not parts.hostname:
        return [invalid_value(f"{path}.url", url, "host must be specified")]
    if parts.query or parts.fragment or parts.username:
        return [invalid_value(f"{path}.url", url, "user, query parameters and fragments are not permitted")]
    return []


def _check_rules(rules: Any, path: str) -> list[Cause]:
    return [
        required(f"{path}[{index}].{field}")
        for index, rule in enumerate(rules)
        for field in ("operations", "apiGroups", "apiVersions", "resources")
        if not rule.get(field)
    ]
