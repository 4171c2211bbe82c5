"""What of a container comes from Secrets: the trainer masks it in its log, by value.

Of `envFrom` only the kubelet knows the names; there the trainer goes by how they sound.
"""

from typing import Any

from finetune_api.names import ENV_SECRET_PATHS, ENV_SECRET_VARIABLES

Resource = dict[str, Any]
PATH_SEPARATOR = ":"
"""Pods run Linux, whatever the operator runs on."""
SECRETS_STORE = "secrets-store.csi.k8s.io"
"""https://secrets-store-csi-driver.sigs.k8s.io: from a vault to a file, without a Secret."""


def declared_secrets(container: Resource, volumes: list[Resource]) -> list[dict[str, str]]:
    """Environment variables that name them; none where there are none."""
    names = [one["name"] for one in container.get("env") or () if "secretKeyRef" in (one.get("valueFrom") or {})]
    secret = {one["name"] for one in volumes if _holds_secret(one)}
    paths = [one["mountPath"] for one in container.get("volumeMounts") or () if one["name"] in secret]
    told = {ENV_SECRET_VARIABLES: ",".join(names), ENV_SECRET_PATHS: PATH_SEPARATOR.join(paths)}
    return [{"name": name, "value": value} for name, value in told.items() if value]


def _holds_secret(volume: Resource) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    stored = (volume.get("csi") or {}).get("driver") == SECRETS_STORE
    return stored or "secret" in volume or any("secret" in source for source in sources)
