"""Query parameters of the Kubernetes API."""

from collections.abc import Mapping

from finetune_local.apiserver.request_options import ListOptions, User, WatchOptions, WriteOptions
from finetune_local.apiserver.status_error import StatusError, bad_request

TRUE, FALSE = ("true", "1", "True", "TRUE", "t"), ("", "false", "0", "False", "FALSE", "f")


def flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "")
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise bad_request(f'strconv.ParseBool: parsing "{value}": invalid syntax (parameter {name})')


def number(query: Mapping[str, str], name: str) -> int:
    value = query.get(name, "")
    if not value:
        return 0
    try:
        return int(value)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax (parameter {name})') from None


def is_dry_run(query: Mapping[str, str]) -> bool:
    value = query.get("dryRun", "")
    if value not in ("", "All"):
        raise StatusError(
            422,
            "Invalid",
            f' "" is invalid: dryRun: Unsupported value: "{value}": supported values: "All"',
            causes=[
                {
                    "reason": "FieldValueNotSupported",
                    "message": f'Unsupported value: "{value}": supported values: "All"',
                    "field": "dryRun",
                }
            ],
        )
    return value == "All"


def write_options(query: Mapping[str, str], user: User, user_agent: str) -> WriteOptions:
    return WriteOptions(
        field_manager=query.get("fieldManager", ""),
        field_validation=query.get("fieldValidation") or "Warn",
        dry_run=is_dry_run(query),
        force=flag(query, "force"),
        user=user,
        user_agent=user_agent or "unknown",
    )


def list_options(query: Mapping[str, str]) -> ListOptions:
    return ListOptions(
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
        limit=number(query, "limit"),
        continue_=query.get("continue", ""),
        resource_version=query.get("resourceVersion", ""),
        resource_version_match=query.get("resourceVersionMatch", ""),
    )


def watch_options(query: Mapping[str, str]) -> WatchOptions:
    return WatchOptions(
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
        resource_version=query.get("resourceVersion", ""),
        resource_version_match=query.get("resourceVersionMatch", ""),
        allow_bookmarks=flag(query, "allowWatchBookmarks"),
        send_initial_events=flag(query, "sendInitialEvents"),
        timeout_seconds=number(query, "timeoutSeconds") or None,
    )
