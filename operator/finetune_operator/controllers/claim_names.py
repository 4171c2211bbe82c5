"""The PersistentVolumeClaims of a namespace as a set that is looked into, and never listed."""

from dataclasses import dataclass

from finetune_operator.kube.informer import Informer


@dataclass(frozen=True)
class ClaimNames:
    """`name in it`: there is such a claim; with `bound`, one that has a volume."""

    claims: Informer
    namespace: str
    bound: bool = False

    def __contains__(self, name: object) -> bool:
        if not self.bound:
            return self.claims.has(self.namespace, str(name))
        claim = self.claims.get(self.namespace, str(name)) or {}
        return (claim.get("status") or {}).get("phase") == "Bound"
