"""The controllers of Kubernetes that local mode needs, level-triggered over the same runtime as the operator."""
