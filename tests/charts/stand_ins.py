"""What runs in the pods of the installation test: the contracts of trainer and server, without a model."""

TRAINER = """
import json, os, ssl, urllib.request

token = open(os.environ["FINETUNE_PROGRESS_TOKEN_FILE"]).read()
report = json.dumps({"attempt": 1, "step": 7, "totalSteps": 9, "loss": 0.5}).encode()
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
request = urllib.request.Request(os.environ["FINETUNE_PROGRESS_URL"], report, headers)
authority = os.environ.get("FINETUNE_PROGRESS_CA_FILE")
assert bool(authority) == request.full_url.startswith("https://"), request.full_url
context = ssl.create_default_context(cafile=authority) if authority else None
with urllib.request.urlopen(request, timeout=20, context=context) as response:
    assert response.status == 204, response.status

result = {
    "artifactUri": "pvc://storage/models/rights",
    "artifactDigest": "sha256:" + "ab" * 32,
    "metrics": {"f1": 0.9},
    "evaluatedOn": "test",
}
with open("/dev/termination-log", "w") as message:
    json.dump({"outcome": "Succeeded", "result": result}, message)
"""

SERVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()


ThreadingHTTPServer(("", 8080), Ready).serve_forever()
"""


def fine_tune_job(name: str, namespace: str) -> dict[str, object]:
    """A job from apply to a served model in seconds: training and serving are stand-ins, all else is real."""
    return {
        "apiVersion": "finetune-operator.io/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"source": "pvc://storage/base"},
            "task": "TextClassification",
            "dataset": {
                "train": {"source": "pvc://storage/train.jsonl"},
                "test": {"source": "pvc://storage/test.jsonl"},
            },
            "method": {"lora": {}},
            "checkpoint": {"storage": "pvc://storage/checkpoints"},
            "output": {"storage": "pvc://storage/models"},
            "podTemplate": _template("trainer", TRAINER),
            "evaluation": {"gate": [{"metric": "f1", "operator": ">=", "value": 0.8}]},
            "publish": {"modelName": name},
            "deploy": {"name": name, "template": {"podTemplate": _template("server", SERVER)}},
        },
    }


def _template(container: str, script: str) -> dict[str, object]:
    return {"spec": {"containers": [{"name": container, "command": ["python", "-c", script]}]}}
