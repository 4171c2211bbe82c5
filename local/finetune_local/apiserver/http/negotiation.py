"""The Accept header: plain objects, Tables for kubectl get, metadata alone, or 406."""

from dataclasses import dataclass

from aiohttp import web

from finetune_local.apiserver.status_error import not_acceptable

ACCEPTED = ("application/json", "application/*", "*/*")
VERSIONS = ("v1", "v1beta1")
"""Of meta.k8s.io."""


@dataclass(frozen=True)
class TableFormat:
    """A Table, whose rows carry the object as `includeObject` says: None, Metadata or Object."""

    version: str = "v1"
    include_object: str = "Metadata"


@dataclass(frozen=True)
class MetadataFormat:
    """PartialObjectMetadata of objects and of watch events, or of a list: nothing but their metadata."""

    version: str = "v1"
    of_list: bool = False


Format = TableFormat | MetadataFormat


def wanted_format(request: web.Request) -> Format | None:
    """The first acceptable alternative decides: None means plain objects."""
    header = request.headers.get("Accept", "")
    if not header or header == "application/json" or header == "*/*":
        return None
    for alternative in header.split(","):
        media, *pairs = (part.strip() for part in alternative.split(";"))
        parameters = dict(pair.partition("=")[::2] for pair in pairs)
        if media not in ACCEPTED:
            continue
        if "as" not in parameters:
            return None
        if found := _transformed(parameters, request.query.get("includeObject", "Metadata")):
            return found
    raise not_acceptable(["application/json", "application/yaml"])


def _transformed(parameters: dict[str, str], include_object: str) -> Format | None:
    version = parameters.get("v", "v1")
    if parameters.get("g") != "meta.k8s.io" or version not in VERSIONS:
        return None
    match parameters["as"]:
        case "Table":
            return TableFormat(version, include_object)
        case "PartialObjectMetadata":
            return MetadataFormat(version)
        case "PartialObjectMetadataList":
            return MetadataFormat(version, of_list=True)
    return None
