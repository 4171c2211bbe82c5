"""What the operator itself is told, as opposed to each job."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Defaults that neither the job nor its runtime sets."""

    trainer_image: str
    progress_url: str | None = None
    """Base URL of the progress receiver as the pods see it; None: nobody listens."""
    progress_ca: str | None = None
    """PEM of the authorities that the pods shall trust; None: plain HTTP, or those of the trainer's image."""
    progress_port: int = 8443
    """Where the receiver listens in its pods, behind the Service that `progress_url` may name."""
    training_network: str = ""
    """JSON of a `TrainingNetwork`; empty: its defaults."""
