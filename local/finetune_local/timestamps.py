"""Times of now and around it, as Kubernetes writes them."""

from datetime import timedelta

from finetune_operator.kube.timestamps import parse_rfc3339, rfc3339, rfc3339_micro, utc_now


def now() -> str:
    return rfc3339(utc_now())


def after(seconds: float) -> str:
    return rfc3339(utc_now() + timedelta(seconds=seconds))


def micro_now() -> str:
    return rfc3339_micro(utc_now())


def seconds_since(text: str) -> float:
    return (utc_now() - parse_rfc3339(text)).total_seconds()
