"""The contract of finetune-operator: every custom resource, what goes into a training pod and what comes back.

Imports pydantic only. The operator, the trainer, the server and the local cluster meet here and nowhere else.
"""

from finetune_api.fine_tune_job import FineTuneJob, FineTuneJobSpec, FineTuneJobStatus
from finetune_api.model_deployment import ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus
from finetune_api.model_version import ModelVersion, ModelVersionSpec, ModelVersionStatus
from finetune_api.training_runtime import ClusterTrainingRuntime, TrainingRuntime, TrainingRuntimeSpec

__all__ = [
    "ClusterTrainingRuntime",
    "FineTuneJob",
    "FineTuneJobSpec",
    "FineTuneJobStatus",
    "ModelDeployment",
    "ModelDeploymentSpec",
    "ModelDeploymentStatus",
    "ModelVersion",
    "ModelVersionSpec",
    "ModelVersionStatus",
    "TrainingRuntime",
    "TrainingRuntimeSpec",
]
