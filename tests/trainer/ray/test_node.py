"""A pod as a node of a Ray cluster: what `ray start` is told."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from finetune_trainer.launch.topology import Topology
from finetune_trainer.ray import node

HEAD = Topology(nodes=2, processes=4, node_rank=0, master_addr="tickets-1-0", master_port=23456)
OTHER = Topology(nodes=2, processes=4, node_rank=1, master_addr="tickets-1-0", master_port=23456)


def options(topology: Topology, folder: Path) -> dict[str, str]:
    words = node.node_command(topology, "10.1.2.3", folder)
    return dict(word.removeprefix("--").partition("=")[::2] for word in words[2:])


def test_ray_knows_every_option(tmp_path: Path) -> None:
    from ray.scripts.scripts import start

    known = {name for parameter in start.params for name in parameter.opts}
    for topology in (HEAD, OTHER):
        assert {f"--{name}" for name in options(topology, tmp_path)} <= known


def test_pod_zero_is_the_head_and_the_others_join_it(tmp_path: Path) -> None:
    head, other = options(HEAD, tmp_path), options(OTHER, tmp_path)
    assert "head" in head
    assert (head["port"], head["include-dashboard"]) == ("23456", "false")
    assert other["address"] == "tickets-1-0:23456"
    assert "head" not in other


def test_a_node_takes_one_worker_a_process_and_is_reached_at_the_pods_address(tmp_path: Path) -> None:
    told = options(OTHER, tmp_path)
    assert (told["num-cpus"], told["node-ip-address"], told["labels"]) == ("4", "10.1.2.3", "finetune-node=1")


def test_ray_accepts_so_small_an_object_store() -> None:
    from ray._private.ray_constants import OBJECT_STORE_MINIMUM_MEMORY_BYTES

    assert OBJECT_STORE_MINIMUM_MEMORY_BYTES <= node.OBJECT_STORE_BYTES < 2 * OBJECT_STORE_MINIMUM_MEMORY_BYTES


def test_objects_are_kept_in_files_where_shared_memory_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {tmp_path: 64 * 2**20}
    monkeypatch.setattr(node.shutil, "disk_usage", lambda path: SimpleNamespace(free=sizes[path]))
    cluster = tmp_path / "cluster"
    assert node.object_store_folder(cluster, tmp_path) == cluster
    sizes[tmp_path] = 2**30
    assert node.object_store_folder(cluster, tmp_path) == tmp_path
    assert node.object_store_folder(cluster, tmp_path / "nothing") == cluster


def test_the_folder_leaves_room_for_the_names_of_sockets(tmp_path: Path) -> None:
    long = tmp_path / ("a" * 60)
    long.mkdir()
    folder = node.cluster_folder(str(long))
    try:
        assert len(f"{folder}/session_2026-11-22_14-57-35_536847_4194304/sockets/plasma_store") <= 107
    finally:
        os.rmdir(folder)


def test_telemetry_is_off_unless_the_pod_says_otherwise() -> None:
    assert node.node_environment({})["RAY_USAGE_STATS_ENABLED"] == "0"
    assert node.node_environment({"RAY_BACKEND_LOG_LEVEL": "debug"})["RAY_BACKEND_LOG_LEVEL"] == "debug"


def test_the_command_is_there() -> None:
    from ray.scripts.scripts import cli

    assert Path(node.node_command(HEAD, "10.1.2.3", Path("/tmp"))[0]).is_file()
    assert CliRunner().invoke(cli, ["start", "--help"]).exit_code == 0
