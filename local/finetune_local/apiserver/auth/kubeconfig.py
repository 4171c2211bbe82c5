"""kubeconfig files for the cluster's users."""

import base64
import os
import pathlib
from typing import Any

import yaml


def kubeconfig(
    server: str,
    *,
    ca: bytes = b"",
    certificate: bytes = b"",
    key: bytes = b"",
    token: str = "",
    name: str = "finetune-local",
) -> dict[str, Any]:
    """With a client certificate, a bearer token, or neither (a server that asks for none)."""
    cluster: dict[str, Any] = {"server": server}
    if ca:
        cluster["certificate-authority-data"] = base64.b64encode(ca).decode()
    user: dict[str, Any] = {}
    if certificate:
        user["client-certificate-data"] = base64.b64encode(certificate).decode()
        user["client-key-data"] = base64.b64encode(key).decode()
    if token:
        user["token"] = token
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
    }


def write_kubeconfig(path: pathlib.Path, config: dict[str, Any]) -> None:
    """Readable by its owner only, as it holds keys; replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(config, file, sort_keys=False)
    partial.replace(path)
