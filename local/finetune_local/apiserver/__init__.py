"""A Kubernetes API server in memory: the semantics as plain functions over a store, and HTTP in front of them."""

from finetune_local.apiserver.cluster import Cluster, Faults, LogProvider, LogRequest
from finetune_local.apiserver.memory_kube_api import MemoryKubeApi
from finetune_local.apiserver.server import ApiServer

__all__ = ["ApiServer", "Cluster", "Faults", "LogProvider", "LogRequest", "MemoryKubeApi"]
