"""How a ModelVersion becomes an inference pod. Knows nothing of Deployments and rollouts."""
