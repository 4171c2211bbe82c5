"""The custom resources, as the controller runtime sees them."""

from finetune_api.names import API_VERSION
from finetune_operator.kube.resources import Kind

FINE_TUNE_JOBS = Kind(API_VERSION, "FineTuneJob", "finetunejobs")
TRAINING_RUNTIMES = Kind(API_VERSION, "TrainingRuntime", "trainingruntimes")
CLUSTER_TRAINING_RUNTIMES = Kind(API_VERSION, "ClusterTrainingRuntime", "clustertrainingruntimes", namespaced=False)
MODEL_VERSIONS = Kind(API_VERSION, "ModelVersion", "modelversions")
MODEL_DEPLOYMENTS = Kind(API_VERSION, "ModelDeployment", "modeldeployments")
