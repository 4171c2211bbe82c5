"""What runs around a container's process. Standard library only: it starts once for every container."""
