"""One thin reconciler a kind: read the cache, plan, apply, write the status."""
