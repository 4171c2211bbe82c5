"""Kubernetes on one machine, for trying and testing: API server, controllers, pods as local processes."""
