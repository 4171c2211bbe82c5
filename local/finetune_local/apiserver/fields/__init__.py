"""Field ownership: which manager set which field (KEP-555, server-side apply)."""
