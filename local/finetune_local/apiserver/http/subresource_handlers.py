"""Subresources over HTTP: scale, finalize, log."""

from aiohttp import web

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.http.bodies import media_type, read_object
from finetune_local.apiserver.http.calls import Call, Handler
from finetune_local.apiserver.http.pod_log import stream_log
from finetune_local.apiserver.http.responses import json_response
from finetune_local.apiserver.subresources.namespaces import finalize
from finetune_local.apiserver.subresources.posting import post_special
from finetune_local.apiserver.subresources.scale import get_scale, patch_scale, replace_scale


async def read_scale(call: Call) -> web.StreamResponse:
    return json_response(get_scale(call.cluster.operations, call.resource, call.info.namespace, call.info.name))


async def write_scale(call: Call) -> web.StreamResponse:
    body = await read_object(call.request)
    info, options = call.info, call.write_options()
    operations = call.cluster.operations
    if call.request.method == "PUT":
        scale = replace_scale(operations, call.resource, info.namespace, info.name, body, options)
    else:
        kind = media_type(call.request)
        scale = patch_scale(operations, call.resource, info.namespace, info.name, body, kind, options)
    return json_response(scale, 200, options.warnings)


async def finalize_namespace(call: Call) -> web.StreamResponse:
    body = await read_object(call.request)
    stored = finalize(call.cluster, call.resource, call.info.name, body)
    return json_response(object_codec.present(call.resource, stored))


async def post(call: Call) -> web.StreamResponse:
    body = await read_object(call.request)
    answer = post_special(call.cluster, call.resource, call.info, body, call.user)
    return json_response(answer or {}, 201)


async def pod_log(call: Call) -> web.StreamResponse:
    return await stream_log(call.cluster, call.request, call.info)


def choose(call: Call) -> Handler | None:
    """None when the subresource has no such method; unknown subresources are refused by the handlers."""
    key, method = call.resource.key, call.request.method
    match call.info.subresource:
        case "scale" if call.resource.scale is not None:
            return {"GET": read_scale, "PUT": write_scale, "PATCH": write_scale}.get(method)
        case "finalize" if key == ("", "namespaces"):
            return {"PUT": finalize_namespace}.get(method)
        case "log" if key == ("", "pods"):
            return {"GET": pod_log}.get(method)
    return post if method == "POST" else None
