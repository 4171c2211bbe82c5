"""What looks like a secret is not told; what only sounds like one is."""

import pytest

from finetune_api.masking import MASK, is_secret_name, mask
from finetune_api.reports import RankStack, ReportedPreflight, TerminationMessage

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAplanted\nbGFzdGxpbmU=\n-----END RSA PRIVATE KEY-----"
SECRETS = [
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_CONNECTION_STRING", "DB_PASS",
    "DB_PASSWORD", "PGPASSWORD", "PRIVATE_KEY", "HF_TOKEN", "WANDB_API_KEY", "apiKey", "SENTRY_DSN", "REGISTRY_AUTH",
    "MYSQL_PWD", "SAS", "clientSecret", "tls.key", "GITHUB_PAT", "GOOGLE_APPLICATION_CREDENTIALS_JSON",
]  # fmt: skip
INNOCENT = [
    "PWD", "OLDPWD", "PATH", "TOKENIZERS_PARALLELISM", "TOKENIZER", "SSH_AUTH_SOCK", "AWS_REGION", "AWS_ENDPOINT_URL",
    "FINETUNE_PROGRESS_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS_PATH", "KEYBOARD", "HOSTNAME", "COMPASS",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", INNOCENT)
def test_names_that_only_sound_like_it(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:p@ss@minio:9000/b is away", f"https://{MASK}@minio:9000/b is away"),
        ("cloning https://ghp_x@github.com/o/r", f"cloning https://{MASK}@github.com/o/r"),
        ("AccountName=me;AccountKey=Zm9vYmFy==;Suffix=x", f"AccountName=me;AccountKey={MASK};Suffix=x"),
        ("Server=db;User=sa;Password=hunter2;", f"Server=db;User=sa;Password={MASK};"),
        ("dial: password: hunter2-hunter2, retry", f"dial: password: {MASK}, retry"),
        ("GET /b/o?X-Amz-Signature=abc123&part=1", f"GET /b/o?X-Amz-Signature={MASK}&part=1"),
        ("https://a.blob/c?sv=2026&sig=Zm9v%3D", f"https://a.blob/c?sv=2026&sig={MASK}"),
        ("{'Authorization': 'Basic dXNlcjpwYXNz'}", f"{{'Authorization': 'Basic {MASK}'}}"),
        ("sent bearer abcdefghijklmnop1234", f"sent bearer {MASK}"),
        ("with AKIAIOSFODNN7EXAMPLE", f"with {MASK}"),
        ("token hf_abcdefghijklmnopqrst was refused", f"token {MASK} was refused"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln expired", f"{MASK} expired"),
        (f"loading {KEY} failed", f"loading {MASK} failed"),
        (f"before\n{KEY.partition(chr(10))[2]}\nafter", f"before\n{MASK}\nafter"),
        (f"cut {KEY[:60]}", f"cut {MASK}"),
        ("HOME=/scratch\nDB_PASS=x y\nLANG=C", f"HOME=/scratch\nDB_PASS={MASK}\nLANG=C"),
        ("export API_KEY='x'", f"export API_KEY={MASK}"),
        ("environ({'DB_PASS': 'it\\'s', 'LANG': 'C'})", f"environ({{'DB_PASS': '{MASK}', 'LANG': 'C'}})"),
    ],
)
def test_what_looks_like_a_secret_is_masked_and_stays_masked(text: str, expected: str) -> None:
    assert mask(text) == expected
    assert mask(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "spec.credentials.secretName: required; name a Secret of namespace ml",
        'pod a: secret "s3" not found',
        "couldn't find key AWS_SECRET_ACCESS_KEY in Secret ml/s3",
        "the tokens of 3 rows: 4096 tokens; max_new_tokens=128, pad_token='<pad>', eos_token_id: 50256",
        "s3://bucket/key at 12:30 by me@example.com",
        "image registry.example.com/trainer@sha256:0123456789abcdef",
        "hf://org/name, pvc://claim/path, http://minio:9000/b",
        "password: required",
        "KeyError: 'token'",
        "keys: query_proj, key_proj and value_proj",
        "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert mask(text) == text


def test_what_a_pod_tells_is_masked_when_it_is_read_as_when_it_is_made() -> None:
    text = "s3://b: AccountKey=Zm9vYmFy=="
    assert "Zm9v" not in TerminationMessage(outcome="Crash", message=text).model_dump_json()
    assert "Zm9v" not in ReportedPreflight(status="False", reason="DataError", message=text).model_dump_json()
    assert "Zm9v" not in RankStack(rank=0, text=text).model_dump_json()


@pytest.mark.parametrize("unit", ["password", "://", "a", "eyJ", "-----BEGIN ", "'A", "A" * 64 + "\n", "token:", "\\"])
def test_no_text_of_a_hostile_pod_keeps_the_operator_busy(unit: str) -> None:
    """An expression that tries every way to read it would not end before the time of a test is up."""
    assert len(mask((unit * 32768)[:32768])) <= 32768 + len(MASK)
