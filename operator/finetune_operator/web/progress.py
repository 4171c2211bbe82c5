"""The progress receiver: rank 0 of each gang posts here, about once a second.

204 taken; 400 not a report; 401 no valid token; 403 a token of someone else; 404 no such job; 408 too slow; 409 not the
current attempt, or the job is finished; 413 too large; 503 the API server cannot be asked, or asked about too much.
"""

import logging
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from finetune_api.names import LABEL_ATTEMPT
from finetune_api.reports import MAX_REPORT_BYTES, ProgressReport
from finetune_operator.controllers.job_caches import JobCaches, cache_of
from finetune_operator.kube.errors import ApiError
from finetune_operator.plan.conditions import is_true
from finetune_operator.web.progress_token import Bearer, Overloaded, TokenReviewer, Unauthenticated
from finetune_operator.web.progress_writer import ProgressWriter
from finetune_operator.web.request_body import read_body

log = logging.getLogger(__name__)
Resource = dict[str, Any]


class ProgressReceiver:
    """`POST /v1/jobs/{namespace}/{name}/progress`."""

    def __init__(self, caches: list[JobCaches], reviewer: TokenReviewer, writer: ProgressWriter) -> None:
        self._caches = caches
        self._reviewer = reviewer
        self._writer = writer

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_REPORT_BYTES)
        app.router.add_post("/v1/jobs/{namespace}/{name}/progress", self.receive)
        return app

    async def receive(self, request: web.Request) -> web.Response:
        """Checks who reports before it looks at what is reported."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        cache = cache_of(self._caches, namespace)
        job = cache.fine_tune_jobs.get(namespace, name) if cache else None
        token = _bearer_token(request)
        if cache is None or job is None:
            raise web.HTTPNotFound(text=f"no FineTuneJob {namespace}/{name}")
        attempt = attempt_of(cache, job, await self._authenticate(token, job))
        report = _parse(await read_body(request))
        if report.attempt != attempt:
            raise web.HTTPConflict(text=f"attempt {report.attempt} reported by a pod of attempt {attempt}")
        check_running(job, attempt)
        self._writer.offer(namespace, name, job["metadata"]["uid"], report)
        return web.Response(status=204)

    async def _authenticate(self, token: str, job: Resource) -> Bearer:
        try:
            return await self._reviewer.review(token, job)
        except Unauthenticated as error:
            raise web.HTTPUnauthorized(text=str(error)) from error
        except Overloaded as error:
            raise web.HTTPServiceUnavailable(text=str(error), headers={"Retry-After": "1"}) from error
        except ApiError as error:
            log.warning("token review: %s", error)
            raise web.HTTPServiceUnavailable(text="the API server cannot be asked") from error


def _bearer_token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise web.HTTPUnauthorized(text="send the projected token: Authorization: Bearer …")
    return token.strip()


def attempt_of(cache: JobCaches, job: Resource, bearer: Bearer) -> int:
    """Number of the attempt that the pod belongs to: pod → Job → FineTuneJob, by uid. Raises 403 for any other pod."""
    namespace = job["metadata"]["namespace"]
    pod = cache.pods.get(bearer.namespace, bearer.pod_name) if bearer.namespace == namespace else None
    if pod is None or pod["metadata"].get("uid") != bearer.pod_uid:
        raise web.HTTPForbidden(text=f"pod {bearer.pod_name} is not one of this job")
    owner = _controller(pod)
    batch_job = cache.jobs.get(namespace, owner["name"]) if owner.get("kind") == "Job" else None
    if batch_job is None or batch_job["metadata"]["uid"] != owner.get("uid"):
        raise web.HTTPForbidden(text=f"pod {bearer.pod_name} is not one of this job")
    if _controller(batch_job).get("uid") != job["metadata"]["uid"]:
        raise web.HTTPForbidden(text=f"pod {bearer.pod_name} is not one of this job")
    return int(batch_job["metadata"]["labels"][LABEL_ATTEMPT])


def _controller(item: Resource) -> Resource:
    owners: list[Resource] = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})


def check_running(job: Resource, attempt: int) -> None:
    """Raises 409 unless this is the attempt that runs: pods of others may live for a while yet."""
    status = job.get("status") or {}
    conditions = status.get("conditions")
    if is_true(conditions, "Succeeded") or is_true(conditions, "Failed"):
        raise web.HTTPConflict(text="the job is finished")
    if status.get("attempt") != attempt:
        raise web.HTTPConflict(text=f"attempt {attempt} is not the current one")


def _parse(body: bytes) -> ProgressReport:
    try:
        return ProgressReport.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise web.HTTPBadRequest(text=f"not a progress report: {where}: {first['msg']}") from error
