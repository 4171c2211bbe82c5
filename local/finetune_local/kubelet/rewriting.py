"""Where the machine allows no mounts: the container's paths and names become the host's, as far as text can tell.

Env values, arguments, workingDir and the files of configMap and projected volumes are rewritten: a mountPath becomes
the volume's folder, `pvc://CLAIM` the claim's folder as a file:// URI, and the DNS name of a pod or Service its address
(Python code resolves names besides, through `confinement`). What a program composes itself is out of reach: such
programs need Linux with unprivileged user namespaces.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune_local.kubelet.pod_context import KubeletSettings
from finetune_local.kubelet.sandbox.root import Mount
from finetune_local.kubelet.sandbox.supervisor import Spec

Object = dict[str, Any]

_UNTOUCHED = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_POD = re.compile(r"(?<![\w.-])([a-z0-9-]+\.[a-z0-9-]+\.[a-z0-9-]+)\.svc(?:\.cluster\.local)?(?![\w.-])")
_SERVICE = re.compile(r"(?<![\w.-])([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?(?![\w.-])")
_TEXT_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Rewriter:
    """What stands for what."""

    places: Mapping[str, str]
    """Mount path → folder on the host."""
    claims: Mapping[str, str]
    """Claim → folder on the host."""
    settings: KubeletSettings

    def text(self, text: str) -> str:
        for claim in sorted(self.claims, key=len, reverse=True):
            folder = self.claims[claim]
            text = re.sub(rf"pvc://{re.escape(claim)}(?![\w.-])", _always(f"file://{folder}"), text)
        if self.places:
            # All in one pass: a folder that stands for a path may itself lie under another mount path, such as /tmp.
            targets = "|".join(re.escape(target) for target in sorted(self.places, key=len, reverse=True))
            pattern = rf"(?<![\w./-])({targets})(?=$|[/\s:;,\"'])"
            text = re.sub(pattern, lambda match: self.places[match[1]], text)
        text = _POD.sub(lambda match: self.settings.network.reserve(match[1]), text)
        return _SERVICE.sub(self._service, text)

    def _service(self, match: re.Match[str]) -> str:
        for service in self.settings.services(match[2]):
            address = service["spec"].get("clusterIP")
            if service["metadata"]["name"] == match[1] and address not in (None, "", "None"):
                return str(address)
        return match[0]


def _always(text: str) -> Callable[[re.Match[str]], str]:
    """A replacement in which backslashes mean nothing."""
    return lambda _: text


def without_mounts(spec: Spec, settings: KubeletSettings, pod: Object) -> Spec:
    """The same container for a machine without namespaces."""
    folder = settings.pod_folder(pod["metadata"]["uid"])
    places = _places(spec.mounts, folder)
    rewriter = Rewriter(places, _claims(settings, pod), settings)
    for target, source in places.items():
        if source.startswith(str(folder / "volumes")) and (Path(source) / "..data").exists():
            places[target] = str(_rewritten_copy(Path(source), folder / "rewritten" / Path(source).name, rewriter))
    environment = {name: rewriter.text(value) for name, value in spec.env.items()}
    environment["FINETUNE_LOCAL_HOSTS_FILE"] = str(folder / "etc" / "hosts")
    termination = next((place for place in places.values() if place.endswith("/termination-log")), "")
    environment.setdefault("FINETUNE_TERMINATION_FILE", termination)
    return replace(
        spec,
        argv=[rewriter.text(word) for word in spec.argv],
        env=environment,
        cwd=rewriter.text(spec.cwd),
        mounts=[],
    )


def _places(mounts: list[Mount], folder: Path) -> dict[str, str]:
    places: dict[str, str] = {}
    for index, mount in enumerate(mounts):
        source = mount.source
        if source is None:
            memory = folder / "memory" / str(index)
            memory.mkdir(parents=True, exist_ok=True)
            source = str(memory)
        if mount.target not in _UNTOUCHED:
            places[mount.target.rstrip("/")] = source
    return places


def _claims(settings: KubeletSettings, pod: Object) -> dict[str, str]:
    namespace = pod["metadata"]["namespace"]
    names = [
        (volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in pod["spec"].get("volumes") or []
    ]
    return {name: str(settings.claim_folder(namespace, name)) for name in names if name}


def _rewritten_copy(source: Path, target: Path, rewriter: Rewriter) -> Path:
    """A copy of a configMap or projected volume with its text files rewritten; it does not follow later changes."""
    for path in source.rglob("*"):
        inside = path.relative_to(source)
        if inside.parts[0].startswith("..") or not path.is_file():
            continue
        content = path.read_bytes()
        if len(content) <= _TEXT_LIMIT and b"\0" not in content:
            content = rewriter.text(content.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        (target / inside).write_bytes(content)
    return target
