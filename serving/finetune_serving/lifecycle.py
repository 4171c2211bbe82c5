"""Where the server is in its life, which is what the readiness probe asks."""

from enum import Enum

from finetune_serving.errors import RequestError


class State(Enum):
    LOADING = "Loading"
    READY = "Ready"
    DRAINING = "Draining"


class Lifecycle:
    """Loading → Ready → Draining. Draining still answers: load balancers learn late that it has begun."""

    def __init__(self) -> None:
        self.state = State.LOADING

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    @property
    def draining(self) -> bool:
        return self.state is State.DRAINING

    def model_loaded(self) -> None:
        if self.state is State.LOADING:
            self.state = State.READY

    def drain(self) -> None:
        self.state = State.DRAINING

    def refusal(self) -> RequestError:
        """Why there is no answer yet."""
        return RequestError(503, "not_ready", f"the server is {self.state.value.lower()}", retry_after=1)
