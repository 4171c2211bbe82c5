"""Containers as processes: their file system, their signals, and that nothing of them is left."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from asyncio.subprocess import DEVNULL
from pathlib import Path

import pytest

from finetune_local.kubelet.sandbox.root import Mount
from finetune_local.kubelet.sandbox.supervisor import FULL, MOUNTS, NONE
from local.kubelet.sandboxes import Sandbox


def processes_with(marker: str) -> list[int]:
    """Processes whose command line holds `marker`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in command and int(name) != os.getpid():
                found.append(int(name))
    return found


async def until_gone(marker: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while left := processes_with(marker):
        assert time.monotonic() < deadline, f"still alive: {left}"
        await asyncio.sleep(0.02)


async def until_there(marker: str, count: int = 1, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while len(processes_with(marker)) < count:
        assert time.monotonic() < deadline, "never started"
        await asyncio.sleep(0.02)


async def test_volumes_appear_at_their_mount_paths_and_leave_the_host_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "job.json").write_text("{}")
    script = """
        cat /etc/finetune/job.json && cat /mnt/pvc/models/job.json
        echo made > /mnt/pvc/models/new && ls /etc/passwd
    """
    mounts = [Mount("/etc/finetune", str(volume), read_only=True), Mount("/mnt/pvc/models", str(volume))]
    ended, output = await sandbox.run(script, *mounts)
    assert (ended.code, output) == (0, "{}{}/etc/passwd\n")
    assert (volume / "new").read_text() == "made\n"
    assert not os.path.exists("/etc/finetune")
    assert not os.path.exists("/mnt/pvc/models")


async def test_read_only_mounts_refuse_writes(sandbox: Sandbox, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    ended, output = await sandbox.run("touch /data/x", Mount("/data", str(volume), read_only=True))
    assert ended.code != 0
    assert "Read-only file system" in output


async def test_a_mount_inside_another_mount_appears(sandbox: Sandbox, tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    outer.mkdir()
    inner.mkdir()
    (inner / "file").write_text("inner")
    ended, output = await sandbox.run(
        "cat /scratch/deep/er/file", Mount("/scratch", str(outer)), Mount("/scratch/deep/er", str(inner))
    )
    assert (ended.code, output) == (0, "inner")


async def test_a_file_can_be_mounted_over_an_existing_file(sandbox: Sandbox, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.9.9.9 job-0.job.default.svc\n")
    ended, output = await sandbox.run("getent hosts job-0.job.default.svc", Mount("/etc/hosts", str(hosts)))
    assert ended.code == 0
    assert output.split() == ["127.9.9.9", "job-0.job.default.svc"]


async def test_var_run_is_run_and_private(sandbox: Sandbox, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("t")
    target = "/var/run/secrets/kubernetes.io/serviceaccount"
    ended, output = await sandbox.run(f"cat {target}/token && ls /run", Mount(target, str(secrets), read_only=True))
    assert (ended.code, output) == (0, "tsecrets\n")


async def test_shared_memory_is_private_and_as_small_as_in_containers(sandbox: Sandbox) -> None:
    ended, output = await sandbox.run("ls -A /dev/shm; df -k --output=size /dev/shm | tail -1; echo x > /dev/shm/y")
    assert ended.code == 0
    assert output.split() == ["65536"]


async def test_memory_volume_has_its_size_limit(sandbox: Sandbox) -> None:
    size = str(8 * 1024 * 1024)
    ended, output = await sandbox.run("df -k --output=size /dev/shm | tail -1", Mount("/dev/shm", None, size=size))
    assert (ended.code, output.strip()) == (0, "8192")


async def test_the_container_has_its_own_hostname_process_ids_and_user_rights(sandbox: Sandbox) -> None:
    script = "hostname; ls /proc | grep -c '^[0-9]'; id -u; mount -t tmpfs none /mnt 2>/dev/null && echo mounted"
    _, output = await sandbox.run(script, hostname="job-0")
    name, count, uid, *_ = output.split()
    assert name == "job-0"
    assert int(count) < 8
    assert int(uid) == os.getuid()


async def test_exit_code_of_a_signal_is_128_and_its_number(sandbox: Sandbox) -> None:
    ended, _ = await sandbox.run("kill -KILL $$")
    assert ended.code == 137


async def test_a_missing_program_is_a_start_error(sandbox: Sandbox) -> None:
    ended, _ = await sandbox.run("", argv=["no-such-program"])
    assert (ended.code, ended.reason) == (128, "StartError")
    assert "no-such-program" in ended.message


async def test_a_missing_working_directory_is_a_start_error_that_names_it(sandbox: Sandbox) -> None:
    ended, _ = await sandbox.run("true", cwd="/no/such/folder")
    assert ended.reason == "StartError"
    assert "/no/such/folder" in ended.message


async def test_commands_run_inside_the_container(sandbox: Sandbox) -> None:
    process = await sandbox.start("sleep 60", hostname="inside")
    assert await process.started()
    result = await process.exec(["sh", "-c", "hostname; exit 3"], timeout=10)
    assert (result.code, result.output) == (3, "inside\n")
    late = await process.exec(["sleep", "60"], timeout=0.1)
    assert late.timed_out
    await process.kill()


@pytest.mark.parametrize("isolation", [FULL, MOUNTS, NONE])
async def test_when_the_command_ends_its_children_end(tmp_path: Path, best_isolation: str, isolation: str) -> None:
    sandbox = _sandbox(tmp_path, best_isolation, isolation)
    marker = f"7{os.getpid()}1.{len(isolation)}"
    ended, _ = await sandbox.run(f"setsid sleep {marker} & (setsid sleep {marker} &) ; exit 5")
    assert ended.code == 5
    await until_gone(f"sleep\0{marker}")


@pytest.mark.parametrize("isolation", [FULL, MOUNTS, NONE])
async def test_kill_ends_children_that_ignore_signals(tmp_path: Path, best_isolation: str, isolation: str) -> None:
    sandbox = _sandbox(tmp_path, best_isolation, isolation)
    marker = f"8{os.getpid()}2.{len(isolation)}"
    process = await sandbox.start(f"trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep {marker}' & wait")
    await until_there(f"sleep\0{marker}")
    process.signal(signal.SIGTERM)
    await process.kill()
    await until_gone(marker)


@pytest.mark.parametrize("isolation", [FULL, MOUNTS, NONE])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_nothing_outlives_the_parent(
    tmp_path: Path, best_isolation: str, isolation: str, end: signal.Signals
) -> None:
    """Not even grandchildren in sessions of their own, whatever ends the parent."""
    _sandbox(tmp_path, best_isolation, isolation)
    marker = f"9{os.getpid()}3.{len(isolation)}{int(end)}"
    program = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from finetune_local.kubelet.process import ContainerProcess
        from finetune_local.kubelet.sandbox.supervisor import Spec
        async def main():
            script = "setsid sleep {marker} & (setsid setsid sleep {marker} &); exec sleep {marker}"
            spec = Spec(argv=["sh", "-c", script], env={{"PATH": "/usr/bin:/bin"}}, isolation={isolation!r},
                        root={str(tmp_path / "sandbox" / "root")!r})
            await ContainerProcess.start(spec, 1)
            await asyncio.sleep(600)
        asyncio.run(main())
    """)
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=DEVNULL, stderr=DEVNULL)
    try:
        await until_there(f"sleep\0{marker}", count=3)
        parent.send_signal(end)
        await until_gone(f"sleep\0{marker}")
    finally:
        if parent.returncode is None:
            parent.kill()
        await parent.wait()


def _sandbox(tmp_path: Path, best: str, isolation: str) -> Sandbox:
    order = [NONE, MOUNTS, FULL]
    if order.index(isolation) > order.index(best):
        pytest.skip(f"this machine does not allow {isolation}")
    folder = tmp_path / "sandbox"
    folder.mkdir()
    return Sandbox(folder, isolation)
