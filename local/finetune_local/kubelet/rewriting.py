"""Where the machine allows no mounts: the container's paths become host paths, as far as text can tell.

Env values, arguments and workingDir that begin with (or hold, after `=` or `:`) a mountPath are rewritten to the
volume's folder on the host. Paths that a program composes itself, or reads from a file, are not: such programs need
Linux with unprivileged user namespaces.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from finetune_local.kubelet.pod_context import KubeletSettings
from finetune_local.kubelet.sandbox.supervisor import Spec

Object = dict[str, Any]

_UNTOUCHED = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def without_mounts(spec: Spec, settings: KubeletSettings, pod: Object) -> Spec:
    """The same container for a machine without namespaces."""
    folder = settings.pod_folder(pod["metadata"]["uid"])
    places: dict[str, str] = {}
    for index, mount in enumerate(spec.mounts):
        source = mount.source
        if source is None:
            memory = folder / "memory" / str(index)
            memory.mkdir(parents=True, exist_ok=True)
            source = str(memory)
        if mount.target not in _UNTOUCHED:
            places[mount.target.rstrip("/")] = source
    environment = {name: rewrite(value, places) for name, value in spec.env.items()}
    environment["FINETUNE_LOCAL_HOSTS_FILE"] = str(folder / "etc" / "hosts")
    termination = next((place for target, place in places.items() if place.endswith("/termination-log")), "")
    environment.setdefault("FINETUNE_TERMINATION_FILE", termination)
    return replace(
        spec,
        argv=[rewrite(word, places) for word in spec.argv],
        env=environment,
        cwd=rewrite(spec.cwd, places),
        mounts=[],
    )


def rewrite(text: str, places: dict[str, str]) -> str:
    """Replaces every mount path in `text` that stands for itself or begins a longer path."""
    for target in _longest_first(places):
        pattern = re.compile(rf"(?<![\w./-]){re.escape(target)}(?=$|[/\s:;,\"'])")
        text = pattern.sub(lambda _, target=target: places[target], text)  # type: ignore[misc]
    return text


def _longest_first(targets: Iterable[str]) -> list[str]:
    return sorted(targets, key=len, reverse=True)
