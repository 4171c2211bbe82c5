"""A whole operator process on the runtime, for tests that kill, freeze and stop it; it writes one status per Thing."""

import argparse
import asyncio
import logging
import sys

from finetune_operator.kube import event_loop
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.controller import Controller, Key
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.leader_election import LeaseElector
from finetune_operator.kube.resources import Kind
from finetune_operator.kube.runtime import Runtime

THINGS = Kind("v1", "Thing", "things")


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def main(arguments: argparse.Namespace) -> None:
    async with await HttpKubeApi.connect(arguments.kubeconfig) as api:
        informer = Informer(api, THINGS)
        recorder = EventRecorder(api, "tester")

        async def reconcile(key: Key) -> None:
            say("reconciling", key[1])
            if key[1] == "crash":
                raise SystemExit(7)
            thing = informer.get(*key)
            if key[1] == "slow":
                await asyncio.sleep(arguments.slow)
            if thing:
                recorder.record(thing, "Normal", "Reconciled", arguments.identity)
            say("reconciled", key[1])

        controller = Controller("things", reconcile, workers=2)
        controller.watch(informer)
        duration = arguments.lease
        elector = LeaseElector(api, "d", "lock", arguments.identity, duration, duration / 1.5, duration / 15)
        runtime = Runtime(
            controllers=[controller],
            elector=elector,
            recorder=recorder,
            probe_port=0,
            probe_host="127.0.0.1",
            leader_background=[announce],
            grace=arguments.grace,
        )
        runtime.on_serving(lambda: say("probes", runtime.servers[-1].port))
        await runtime.run()


async def announce() -> None:
    say("leading")
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--identity", required=True)
    parser.add_argument("--lease", type=float, default=3.0)
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--slow", type=float, default=0.5)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    event_loop.run(main(parser.parse_args()))
