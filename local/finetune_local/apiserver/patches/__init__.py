"""The three patch formats of the Kubernetes API besides server-side apply."""
