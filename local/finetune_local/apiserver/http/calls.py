"""One request to a resource, as the handlers get it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.http.negotiation import TableFormat, wanted_format
from finetune_local.apiserver.http.parameters import write_options
from finetune_local.apiserver.http.request_info import RequestInfo
from finetune_local.apiserver.http.responses import json_response
from finetune_local.apiserver.partial_metadata import render_metadata
from finetune_local.apiserver.request_options import User, WriteOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.status_error import method_not_allowed
from finetune_local.apiserver.tables.rendering import render_table


@dataclass(frozen=True)
class Call:
    """One request to a resource."""

    cluster: Cluster
    request: web.Request
    info: RequestInfo
    resource: ResourceType
    user: User

    def write_options(self) -> WriteOptions:
        agent = self.request.headers.get("User-Agent", "")
        options = write_options(self.request.query, self.user, agent)
        if self.resource.deprecation_warning:
            options.warnings.append(self.resource.deprecation_warning)
        return options

    def require_verb(self, verb: str) -> None:
        if verb not in self.resource.verbs:
            raise method_not_allowed()

    def respond(self, stored: StoredObject, status: int = 200, warnings: list[str] | None = None) -> web.Response:
        return json_response(self._render(stored), status, warnings or [])

    def _render(self, stored: StoredObject) -> bytes:
        wanted = wanted_format(self.request)
        if wanted is None:
            return object_codec.present(self.resource, stored)
        if isinstance(wanted, TableFormat):
            return render_table(self.resource, [stored], "", wanted)
        return render_metadata(self.resource, stored, wanted)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
