"""From one command in a pod to its worker processes, and from their ends to one exit code."""
