"""A small training program with the real contract: supervisor, agreement, checkpoints, termination message.

    standin.py --config FILE             the launcher of a pod
    standin.py --config FILE --worker    one process

The model is tiny, and everything that a resume can get wrong matters to its losses: dropout draws random numbers that
differ by rank, the optimizer has momentum, the learning rate decays, and the data is shuffled anew each epoch. Written
out by hand, because `torch.optim` and DDP import PyTorch's compiler, which would double the time of every test.
STANDIN_FAULT says what goes wrong: "RANK:STEP:WHAT", with WHAT a signal's name or the name of a function here.
"""

import os
import signal
import sys
import time
from pathlib import Path

from finetune_api.reports import TrainingResult
from finetune_trainer import termination
from finetune_trainer.errors import DataError, Preempted, TrainerError
from finetune_trainer.launch import configuration, verdict
from finetune_trainer.launch.supervisor import Supervisor, Timing
from finetune_trainer.launch.topology import topology_of
from finetune_trainer.launch.worker import configure_logging, prepare_process, scratch_folder, work
from finetune_trainer.stop import StepAgreement, StopSignal

EXAMPLES, BATCH = 20, 4


def train(config, run):
    import torch
    import torch.distributed as dist

    from finetune_trainer.checkpoint import CheckpointStore, Lineage
    from finetune_trainer.ranks import Ranks

    if run.world_size > 1:
        dist.init_process_group("gloo")
    ranks = Ranks.join(run.rank, run.world_size, run.local_rank)
    torch.manual_seed(7)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1))
    if config.method.name == "lora":
        model[0].requires_grad_(False)
    data, target = torch.randn(EXAMPLES, 6), torch.randn(EXAMPLES, 1)
    torch.manual_seed(100 + run.rank)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    momentum = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}
    where, keep = config.checkpoint.storage, config.checkpoint.keep
    store = CheckpointStore(where, keep, ranks, run.scratch, Lineage("data-1", {"lr": 0.05}), run.metrics)
    start, total = resume(store, trained, momentum), config.training.max_steps
    agreement = StepAgreement(ranks, run.stop, config.checkpoint)
    for step in range(start + 1, total + 1):
        batch = batch_of(step, run)
        loss = torch.nn.functional.mse_loss(model(data[batch]), target[batch])
        update(loss, step / total, trained, momentum, run)
        with Path(f"{os.environ['STANDIN_LOSSES']}.{run.rank}").open("a") as losses:
            losses.write(f"{step} {loss.item().hex()}\n")
        run.reporter.update(step=step, total_steps=total, loss=loss.item())
        misbehave(run, step)
        decision = agreement.at(step)
        if decision.save or step == total:
            saved = store.save(state_of(step, trained, momentum), final=decision.stop or step == total)
            agreement.saved()
            if decision.stop and step < total:
                raise Preempted(step, saved.uri)
        run.heartbeat.step(step)
    run.heartbeat.rest()
    ranks.barrier()
    if run.world_size > 1:
        dist.destroy_process_group()
    return TrainingResult(artifact_uri=config.output, artifact_digest="sha256:0", metrics={"loss": loss.item()})


def resume(store, trained, momentum):
    import torch

    state = store.restore({name: tuple(parameter.shape) for name, parameter in trained.items()})
    if state is None:
        return 0
    for name, parameter in trained.items():
        parameter.data.copy_(state.weights[name])
        momentum[name].copy_(state.optimizer[name])
    torch.set_rng_state(state.local["torch"])
    return state.step


def state_of(step, trained, momentum):
    import torch

    from finetune_trainer.train_state import TrainState

    weights = {name: parameter.data for name, parameter in trained.items()}
    return TrainState(step, weights, momentum, {"torch": torch.get_rng_state()})


def batch_of(step, run):
    import torch

    epoch, place = divmod(step - 1, EXAMPLES // BATCH)
    order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(epoch))
    return order[place * BATCH :][:BATCH][run.rank :: run.world_size]


def update(loss, progress, trained, momentum, run):
    import torch
    import torch.distributed as dist

    gradients = torch.autograd.grad(loss, list(trained.values()))
    for (name, parameter), gradient in zip(trained.items(), gradients, strict=True):
        if run.world_size > 1:
            dist.all_reduce(gradient)
        momentum[name].mul_(0.9).add_(gradient / run.world_size)
        parameter.data.sub_(0.05 * (1 - progress / 2) * momentum[name])


def misbehave(run, step):
    rank, at, what = (os.environ.get("STANDIN_FAULT") or "-1:0:").split(":")
    if run.rank != int(rank) or step != int(at):
        return
    if what.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, what))
        return
    globals()[what](run)


def launcher_sigterm(run):
    os.kill(int(os.environ["FINETUNE_LAUNCHER_PID"]), signal.SIGTERM)
    while not run.stop.requested:
        time.sleep(0.01)


def launcher_sigkill(run):
    os.kill(int(os.environ["FINETUNE_LAUNCHER_PID"]), signal.SIGKILL)
    time.sleep(60)


def bad_line(run):
    raise DataError("train.jsonl:3: not JSON")


def crash(run):
    raise ZeroDivisionError("a bug")


def never_stop(run):
    os.kill(int(os.environ["FINETUNE_LAUNCHER_PID"]), signal.SIGTERM)
    while True:
        signal.pause()


def dump_stacks(run):
    os.kill(int(os.environ["FINETUNE_LAUNCHER_PID"]), signal.SIGUSR1)
    time.sleep(1)


def main() -> int:
    stop = StopSignal().install()
    path = Path(sys.argv[sys.argv.index("--config") + 1])
    config = configuration.load(path)
    topology = topology_of()
    if "--worker" in sys.argv or topology is None:
        prepare_process()
        return work(config, train, stop)
    configure_logging(0, 1)
    command = [sys.executable, __file__, "--config", str(path), "--worker"]
    supervisor = Supervisor(topology, command, "run", scratch_folder(), Timing.from_environment(), stop)
    try:
        message = supervisor.run()
    except TrainerError as error:
        message = termination.message_of(error)
    termination.write(message, termination.termination_file())
    return verdict.exit_code(message)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
