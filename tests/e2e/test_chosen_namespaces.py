"""An operator with Roles in chosen namespaces, not rights everywhere, does all its work there and none elsewhere."""

from pathlib import Path

import pytest

from e2e.conftest import local_mode, prepare
from e2e.test_main_job import train_and_serve
from e2e.user import User, fine_tune_job
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.client import HttpKubeApi

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_rights_in_the_chosen_namespaces_are_enough_for_the_main_job(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--kubeconfig"):
        pytest.skip("is about the rights that local mode gives")
    image = request.config.getoption("--trainer-image")
    async with (
        local_mode(tmp_path, "--namespaces", "team") as installation,
        await HttpKubeApi.connect(installation.kubeconfig) as api,
    ):
        user, stranger = User(api, "team", image, webhooks=True), User(api, "default", image)
        wrong = fine_tune_job("served", evaluation={"gate": [{"metric": "bleu", "operator": ">=", "value": 1}]})
        await stranger.apply(wrong)
        await prepare(user)
        await train_and_serve(user)
        ignored = await stranger.get(FINE_TUNE_JOBS, "served")
    assert ignored is not None
    assert "status" not in ignored, "neither refused nor judged"
