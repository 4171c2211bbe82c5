"""POSTs that do not create an object of the addressed kind."""

from typing import Any

from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.http.request_info import RequestInfo
from finetune_local.apiserver.request_options import User
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.status_error import no_such_path
from finetune_local.apiserver.subresources.pods import bind, evict
from finetune_local.apiserver.subresources.reviews import REVIEWS, answer_review
from finetune_local.apiserver.subresources.token_request import request_token

Object = dict[str, Any]


def post_special(
    cluster: Cluster, resource: ResourceType, info: RequestInfo, body: Object, user: User
) -> Object | None:
    """The answer; None for a POST that creates an object. Raises NotFound for an unknown subresource."""
    if not info.name:
        if resource.plural in REVIEWS and resource.group.endswith(("authentication.k8s.io", "authorization.k8s.io")):
            return answer_review(cluster, resource, info.namespace, body, user)
        return None
    match (resource.key, info.subresource):
        case (("", "serviceaccounts"), "token"):
            return request_token(cluster, info.namespace, info.name, body)
        case (("", "pods"), "eviction"):
            return evict(cluster, resource, info.namespace, info.name, body)
        case (("", "pods"), "binding"):
            return bind(cluster, resource, info.namespace, info.name, body)
    raise no_such_path()
