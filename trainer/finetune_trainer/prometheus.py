"""Prometheus metrics of a training pod, served by rank 0 on `names.METRICS_PORT`."""

import logging
import math
import os
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from finetune_api import names

log = logging.getLogger(__name__)

ENV_METRICS_PORT = "FINETUNE_METRICS_PORT"
"""Overrides the port; 0 turns the metrics off."""
CHECKPOINT_BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800)
"""Seconds: from an adapter on a local disk to a large model on an object store."""


class TrainingMetrics:
    """The numbers of one run. Setting them costs nothing worth mentioning, so every rank does and rank 0 serves."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        gauge, counter = self._gauge, self._counter
        self.step = gauge("step", "Optimizer steps done.")
        self.total_steps = gauge("target_steps", "Optimizer steps that the run will take.")
        self.epoch = gauge("epoch", "Passes over the data done, with fraction.")
        self.loss = gauge("loss", "Training loss of the last logged interval.")
        self.learning_rate = gauge("learning_rate", "Learning rate of the last step.")
        self.gradient_norm = gauge("gradient_norm", "Norm of the gradients before clipping, last logged step.")
        self.tokens_per_second = gauge("tokens_per_second", "Tokens a second over all processes, padding excluded.")
        self.tokens = counter("tokens", "Tokens trained on over all processes, padding excluded.")
        self.checkpoints = counter("checkpoints", "Checkpoints written and verified.")
        self.checkpoint_failures = counter("checkpoint_failures", "Checkpoints that could not be written.")
        self.checkpoint_step = gauge("last_checkpoint_step", "Step of the newest verified checkpoint.")
        self.checkpoint_seconds = Histogram(
            "finetune_training_checkpoint_duration_seconds",
            "Time to write and verify a checkpoint.",
            buckets=CHECKPOINT_BUCKETS,
            registry=self.registry,
        )
        self.rank_slowdown = Gauge(
            "finetune_training_rank_slowdown",
            "Times the others' own time for a step; only of ranks that hold the others up.",
            ["rank"],
            registry=self.registry,
        )
        self.resumed_step = gauge("resumed_from_step", "Step that this attempt started from.")
        for unknown in (self.loss, self.learning_rate, self.gradient_norm, self.tokens_per_second):
            unknown.set(math.nan)  # a loss of 0 before the first step would be the best one ever seen

    def serve(self, port: int) -> int:
        """Answer scrapes on a port until the process ends; returns the port, 0 when nothing is served.

        A taken port costs the metrics, not the run.
        """
        try:
            server, _ = start_http_server(port, registry=self.registry)
        except OSError as error:
            log.warning("no metrics: port %d: %s; set %s to another port or 0", port, error, ENV_METRICS_PORT)
            return 0
        return int(server.server_port)

    def show_stragglers(self, slowdowns: Mapping[int, float]) -> None:
        """These ranks and no others."""
        self.rank_slowdown.clear()
        for rank, slowdown in slowdowns.items():
            self.rank_slowdown.labels(rank).set(slowdown)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"finetune_training_{name}", documentation, registry=self.registry)

    def _counter(self, name: str, documentation: str) -> Counter:
        return Counter(f"finetune_training_{name}", documentation, registry=self.registry)


def metrics_port(environment: Mapping[str, str] = os.environ) -> int:
    """The port to serve metrics on, 0 for none.

    Raises:
        ValueError: The variable is not a port.
    """
    text = environment.get(ENV_METRICS_PORT, str(names.METRICS_PORT))
    if not text.isdigit() or int(text) > 65535:
        raise ValueError(f"{ENV_METRICS_PORT}: expected a port from 0 to 65535, got {text!r}")
    return int(text)
