"""The webhooks as the API server calls them: over HTTPS, with the certificate that the operator keeps by itself."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import aiohttp
import orjson
import pytest

from controllers.cluster_user import QUICK, ClusterUser
from controllers.operator_under_test import OperatorUnderTest
from finetune_local.cluster import Cluster
from finetune_operator.cli import local_installation, local_webhooks
from finetune_operator.cli.ports import LOOPBACK
from finetune_operator.controllers.look_ups import LookUps
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import MUTATING_WEBHOOK_CONFIGURATIONS, SECRETS, VALIDATING_WEBHOOK_CONFIGURATIONS
from finetune_operator.kube.servers import Server
from finetune_operator.web import admission
from finetune_operator.web.admission import MAX_REVIEW_BYTES, AdmissionWebhooks
from finetune_operator.web.own_certificate import OwnCertificate, TrustOptions
from finetune_operator.web.serving_certificate import SERVER_LIFETIME
from plan.builders import job
from plan.test_admission import request

HOST, NAME, SECRET_NAMESPACE = LOOPBACK, "finetune-operator-webhooks", local_installation.NAMESPACE
SECRET = local_installation.CERTIFICATE


@dataclass
class Webhooks:
    """The server of one replica, and the clock by which it renews its certificate."""

    cluster: Cluster
    operator: OperatorUnderTest
    now: datetime = field(default_factory=lambda: datetime.now(UTC) - SERVER_LIFETIME * 0.7)

    async def start(self) -> None:
        await local_installation.install_rights(self.cluster.api)
        arguments = await local_webhooks.register_webhooks(self.cluster.api)
        await self.insist()
        self.trust = self.replica()
        await self.trust.step()
        app = AdmissionWebhooks([self.operator.caches], LookUps(self.cluster.api)).app()
        self.server = Server(app, int(arguments[1]), HOST, self.trust.context)
        await self.server.start()

    def replica(self) -> OwnCertificate:
        options = TrustOptions(SECRET_NAMESPACE, SECRET, (HOST,), NAME)
        return OwnCertificate(self.operator.api, options, lambda: self.now)  # type: ignore[arg-type]

    async def insist(self) -> None:
        """failurePolicy Fail: a call that does not work cannot go unnoticed."""
        for kind in (VALIDATING_WEBHOOK_CONFIGURATIONS, MUTATING_WEBHOOK_CONFIGURATIONS):
            found = await self.cluster.api.get(kind, NAME)
            hooks = [hook | {"failurePolicy": "Fail"} for hook in found["webhooks"]]
            await self.cluster.api.replace(kind, found | {"webhooks": hooks})

    async def bundle(self) -> str:
        found = await self.cluster.api.get(VALIDATING_WEBHOOK_CONFIGURATIONS, NAME)
        return str(found["webhooks"][0]["clientConfig"]["caBundle"])

    async def secret(self) -> dict[str, str]:
        return dict((await self.cluster.api.get(SECRETS, SECRET, SECRET_NAMESPACE))["data"])

    async def post(self, body: bytes, path: str = "validate") -> tuple[int, str]:
        trust = ssl.create_default_context(cadata=base64.b64decode(await self.bundle()).decode())
        url = f"https://{HOST}:{self.server.port}/{path}"
        async with aiohttp.ClientSession() as session, session.post(url, data=body, ssl=trust) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def webhooks(cluster: Cluster, operator: OperatorUnderTest) -> AsyncIterator[Webhooks]:
    webhooks = Webhooks(cluster, operator)
    await webhooks.start()
    yield webhooks
    await webhooks.server.close()


async def test_a_wrong_job_is_refused_with_every_error_and_a_right_one_runs(
    webhooks: Webhooks, user: ClusterUser
) -> None:
    with pytest.raises(ApiError) as refused:
        await user.apply(output=None, training={"batchSize": 7}, distributed={"nodes": 2})
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")
    assert 'denied the request: FineTuneJob "tickets" is invalid' in refused.value.message
    causes = refused.value.body["details"]["causes"]
    assert [cause["field"] for cause in causes] == ["spec.training.batchSize", "spec.output.storage"]
    await user.apply()
    await user.phase("Running")
    with pytest.raises(ApiError) as edited:
        await user.edit(training={"epochs": 9})
    assert "spec.training.epochs: cannot change after the start" in edited.value.message
    await user.edit(suspend=True)


async def test_a_secret_that_is_not_there_is_warned_of_and_refuses_nothing(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = job(credentials={"secretName": "s3"}, dataset=QUICK["dataset"], checkpoint=QUICK["checkpoint"])
    body = orjson.dumps({"apiVersion": "admission.k8s.io/v1", "request": request(new)})
    _, answer = await webhooks.post(body)
    warned = "spec.credentials.secretName: there is no Secret 's3' in namespace ml; create it, or correct the name"
    assert orjson.loads(answer)["response"] == {"uid": "1", "allowed": True, "warnings": [warned]}
    _, answer = await webhooks.post(body, "default")
    assert "warnings" not in orjson.loads(answer)["response"]
    monkeypatch.setattr(admission, "LOOK_SECONDS", 0.05)
    silent = SimpleNamespace(get_metadata=lambda *_: asyncio.Event().wait())
    webhook = AdmissionWebhooks([webhooks.operator.caches], LookUps(silent))  # type: ignore[arg-type]
    answered = await asyncio.wait_for(webhook._validate(request(new)), 10)
    assert answered == {"allowed": True}, "a warning that comes too late is none"


async def test_the_certificate_is_renewed_under_a_running_server(webhooks: Webhooks, user: ClusterUser) -> None:
    before = await webhooks.secret()
    other = webhooks.replica()
    await other.step()
    assert (await webhooks.secret(), other.problem()) == (before, None)
    webhooks.now += SERVER_LIFETIME * 0.7
    await webhooks.trust.step()
    assert (await webhooks.secret())["tls.crt"] != before["tls.crt"]
    with pytest.raises(ApiError, match="denied the request"):
        await user.apply(output=None)
    await user.apply()


async def test_two_replicas_agree_on_one_certificate(webhooks: Webhooks, cluster: Cluster) -> None:
    await cluster.api.patch(SECRETS, SECRET, {"data": None}, SECRET_NAMESPACE)
    replicas = [webhooks.replica(), webhooks.replica()]
    outcomes = await asyncio.gather(*(one.step() for one in replicas), return_exceptions=True)
    lost = [one for one in outcomes if isinstance(one, ApiError)]
    assert all(one.conflict for one in lost)
    for replica in replicas:
        await replica.step()
    assert await webhooks.bundle() == (await webhooks.secret())["ca.crt"]


async def test_it_is_not_ready_before_it_has_a_certificate(webhooks: Webhooks) -> None:
    assert webhooks.replica().problem() == "no certificate yet"
    assert webhooks.trust.problem() is None
    untold = OwnCertificate(webhooks.cluster.api, TrustOptions(SECRET_NAMESPACE, SECRET, (HOST,), "of-nobody"))
    with pytest.raises(ApiError, match="of-nobody"):
        await untold.step()
    assert untold.problem() == "the API server does not know the certificate's authority yet"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"apiVersion": "admission.k8s.io/v1", "request": {"uid": "1"}}', 400),
        (b'{"apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "1", "kind": {"kind": "Pod"}}}', 400),
        (b'{"apiVersion": "admission.k8s.io/v1", "request": {"uid": "1", "kind": {"kind": "Pod"}}}', 200),
        (b" " * (MAX_REVIEW_BYTES + 1), 413),
    ],
)
async def test_only_reviews_of_a_bounded_size_are_read(webhooks: Webhooks, body: bytes, status: int) -> None:
    for path in ("validate", "default"):
        assert (await webhooks.post(body, path))[0] == status
