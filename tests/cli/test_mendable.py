"""What whoever types a command can mend is told in one line."""

import socket
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "finetune_operator.cli"]


def refusal(*arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def test_a_missing_kubeconfig(tmp_path: Path) -> None:
    assert refusal("run", "--kubeconfig", str(tmp_path / "none")).endswith(
        f"Error: no kubeconfig at {tmp_path / 'none'}: give --kubeconfig FILE or set KUBECONFIG"
    )


def test_a_kubeconfig_that_is_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("clusters: [")
    assert f"kubeconfig {tmp_path / 'config'} can't be used" in refusal("run", "--kubeconfig", str(tmp_path / "config"))


def test_a_port_that_is_none() -> None:
    assert "'--metrics-port': -5 is not in the range 0<=x<=65535" in refusal("run", "--metrics-port", "-5")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal("local", "--port", str(port), "--state", str(tmp_path), "--no-operator")
    assert str(port) in said
    assert said.endswith("address already in use; choose another port or address")
