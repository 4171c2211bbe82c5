"""PartialObjectMetadata: what clients get that may not, or need not, see more of an object than its metadata.

https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches
"""

from typing import Any

import orjson

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.http.negotiation import MetadataFormat
from finetune_local.apiserver.reading import Page
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.status_error import StatusError
from finetune_local.apiserver.watching import Event

Object = dict[str, Any]
KIND = "PartialObjectMetadata"


def partial(body: Object, version: str = "v1") -> Object:
    """The metadata of one object."""
    return {"kind": KIND, "apiVersion": f"meta.k8s.io/{version}", "metadata": body["metadata"]}


def render_metadata(resource: ResourceType, stored: StoredObject, wanted: MetadataFormat) -> bytes:
    """Of one object. Raises 406 where the client asked for that of a list."""
    if wanted.of_list:
        raise _not_acceptable(f"you requested {KIND}List, but the requested object is not a list ({resource.kind})")
    return orjson.dumps(partial(object_codec.view(resource, stored), wanted.version))


def render_metadata_list(resource: ResourceType, page: Page, wanted: MetadataFormat) -> bytes:
    """Of the objects of a page. Raises 406 where the client asked for that of one object."""
    if not wanted.of_list:
        raise _not_acceptable(f"you requested {KIND}, but the requested object is a list ({resource.kind}List)")
    items = [partial(object_codec.view(resource, item), wanted.version) for item in page.items]
    head = {"kind": f"{KIND}List", "apiVersion": f"meta.k8s.io/{wanted.version}", "metadata": page.metadata()}
    return orjson.dumps(head | {"items": items})


def metadata_event(event: Event, wanted: MetadataFormat) -> Event:
    """A watch event with the metadata of its object."""
    return Event(event.type, orjson.dumps(partial(orjson.loads(event.object), wanted.version)))


def _not_acceptable(message: str) -> StatusError:
    return StatusError(406, "NotAcceptable", message)
