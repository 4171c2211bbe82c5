"""The Accept header: plain objects, Tables for kubectl get, or 406."""

from dataclasses import dataclass

from aiohttp import web

from finetune_local.apiserver.status_error import not_acceptable

ACCEPTED = ("application/json", "application/*", "*/*")


@dataclass(frozen=True)
class TableFormat:
    """A Table, whose rows carry the object as `includeObject` says: None, Metadata or Object."""

    version: str = "v1"
    include_object: str = "Metadata"


def table_format(request: web.Request) -> TableFormat | None:
    """The first acceptable alternative decides: None means plain objects."""
    header = request.headers.get("Accept", "")
    if not header or header == "application/json" or header == "*/*":
        return None
    for alternative in header.split(","):
        media, *pairs = (part.strip() for part in alternative.split(";"))
        parameters = dict(pair.partition("=")[::2] for pair in pairs)
        if media not in ACCEPTED:
            continue
        if parameters.get("as") == "Table" and parameters.get("g") == "meta.k8s.io":
            return TableFormat(parameters.get("v", "v1"), request.query.get("includeObject", "Metadata"))
        if "as" not in parameters:
            return None
    raise not_acceptable(["application/json", "application/yaml"])
