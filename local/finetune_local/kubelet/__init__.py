"""Runs pods as local processes: sandboxes, volumes, environment, probes, statuses."""
