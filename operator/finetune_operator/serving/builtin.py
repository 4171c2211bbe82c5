"""The built-in server, `finetune-serving`."""

from typing import Any

from finetune_api.names import SERVING_PORT
from finetune_operator.serving.served_model import ServedModel

PORT_NAME = "http"


class BuiltinServer:
    """Ready means: the files were verified, the model is loaded, and it has answered a request of its own."""

    container_name = "server"
    port = SERVING_PORT
    # Its drain delay (5 s) and grace period (45 s), and time to end. The delay is the server's own: it turns its
    # readiness off and goes on answering until load balancers have noticed, so no preStop hook is needed.
    grace_seconds = 60

    def command(self, model: ServedModel) -> list[str]:
        """The digest makes the pod refuse files that changed after they were published."""
        command = [
            *("finetune-serving", "--model", model.uri, "--name", model.model_name),
            *("--version-name", model.version, "--digest", model.digest, "--port", str(self.port)),
        ]
        optional = {
            "--base-model": model.base_uri,
            "--base-digest": model.base_digest,
            "--base-revision": model.base_revision,
        }
        for flag, value in optional.items():
            if value is not None:
                command += [flag, value]
        return [*command, "--trust-remote-code"] if model.trust_remote_code else command

    def probes(self) -> dict[str, Any]:
        """The server listens before it loads: liveness need not wait for a model of many gigabytes."""
        live = {"httpGet": {"path": "/v2/health/live", "port": PORT_NAME, "scheme": "HTTP"}}
        ready = {"httpGet": {"path": "/v2/health/ready", "port": PORT_NAME, "scheme": "HTTP"}}
        return {
            "startupProbe": {**live, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 300},
            "readinessProbe": {**ready, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 2},
            "livenessProbe": {**live, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
        }
