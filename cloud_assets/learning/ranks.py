"""Data-parallel training: ranks as helper processes or on a Ray cluster, and what their parts of a batch make."""

import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cloud_assets.errors import CloudAssetsError, TrainingFailed
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.settings import StepResources, settings
from cloud_assets.worker_processes import WorkerDied, WorkerProcesses

_LOGGER = logging.getLogger("cloud_assets")
_POLL_SECONDS = 0.1
_CONSEQUENCES_SECONDS = 2.0  # after so long the errors are there that a rank's death causes in others


def place() -> tuple[int, int]:
    """This process's rank and the number of ranks; (0, 1) outside of a training on several devices."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def together(part: Tensor) -> Tensor:
    """The parts (N, …) of all ranks in their order, (N · ranks, …), with gradients; all ranks have to call it."""
    return part if place()[1] == 1 else torch.cat(_Gather.apply(part))  # type: ignore[no-untyped-call]


def own_part(whole: Tensor) -> Tensor:
    """This rank's part of what :func:`together` made."""
    rank, ranks = place()
    return whole.chunk(ranks)[rank]


class _Gather(torch.autograd.Function):
    """The derivative is that of the sum of all ranks' losses; averaging over ranks then makes it that of the loss."""

    @staticmethod
    def forward(_: Any, part: Tensor) -> tuple[Tensor, ...]:
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(place()[1])]
        dist.all_gather(parts, part.contiguous())
        return tuple(parts)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = torch.stack(gradients)
        dist.all_reduce(total)
        return total[place()[0]]


class WholeBatch(TorchFunctionMode):
    """A context in which batch normalisation learns over the whole batch, and dropout draws for it, as on one device.

    ``torch.nn.SyncBatchNorm`` needs a GPU, and converting to it drops the activation of timm's layers.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replaces the functions that all layers call."""
        if func is F.batch_norm and kwargs["training"] and torch.is_grad_enabled():
            return _joint_batch_norm(*args, **kwargs)
        if func in (F.dropout, F.dropout2d) and kwargs["training"]:
            return args[0] * own_part(func(torch.cat([torch.ones_like(args[0])] * place()[1]), **kwargs))
        return func(*args, **(kwargs or {}))


def _joint_batch_norm(
    images: Tensor, running_mean: Tensor | None, running_variance: Tensor | None, **how: Any
) -> Tensor:
    axes = [axis for axis in range(images.ndim) if axis != 1]
    variance, mean = torch.var_mean(images.float(), axes, correction=0)
    means, variances = together(torch.stack([mean, variance])[None]).unbind(1)  # (ranks, C) each, of equal batches
    mean = means.mean(dim=0)
    variance = (variances + (means - mean).square()).mean(dim=0)
    if running_mean is not None and running_variance is not None:
        count = images.numel() // images.shape[1] * len(means)
        running_mean.lerp_(mean.detach(), how["momentum"])
        running_variance.lerp_(variance.detach() * (count / (count - 1)), how["momentum"])
    scale = torch.rsqrt(variance + how["eps"]) * (1.0 if how["weight"] is None else how["weight"])
    shift = (0.0 if how["bias"] is None else how["bias"]) - mean * scale
    shape = [1, -1] + [1] * (images.ndim - 2)
    return (images * scale.view(shape) + shift.view(shape)).to(images.dtype)


def lightning_arguments(ranks: int) -> dict[str, Any]:
    """What Lightning's trainer is told in one of so many ranks, whose process group is there already."""
    # Parts that are frozen, or judged in turn, are not used in every step; buffers are equal anyway.
    how: Any = {"find_unused_parameters": True, "broadcast_buffers": False}
    if ranks == 1 or settings().rank_resources is None:
        joined = DDPStrategy(cluster_environment=LightningEnvironment(), **how) if ranks > 1 else "auto"
        return {"devices": ranks, "strategy": joined}
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    return {"devices": "auto", "strategy": RayDDPStrategy(cluster_environment=RayLightningEnvironment(), **how)}


def train_in_ranks(count: int, train: Callable[..., Any], run: TrainingRun, device: torch.device) -> None:
    """Calls ``train(run=…)`` in as many processes, as ranks of one process group; this process is none of them.

    They are helper processes of this machine, or workers of Ray Train where the settings say what a rank needs.
    Lightning's own launchers run the command line again, which would be the job's step, or import the main module, and
    lose what an error was. Listeners are called and logs written in this process; what they or a rank raise ends all.
    """
    bare = replace(run, on_epoch=TrainingRun.on_epoch, on_picture=TrainingRun.on_picture)
    listeners = {"on_epoch": run.on_epoch, "on_picture": run.on_picture, "log": _LOGGER.handle}
    needs = settings().rank_resources
    start = partial(_as_processes, device) if needs is None else partial(_on_ray, run.workspace, needs)
    errors = start(count, partial(_work, train, bare), listeners)
    errors.sort(key=lambda error: (not isinstance(error, WorkerDied), not isinstance(error, CloudAssetsError)))
    if errors and isinstance(errors[0], WorkerDied):  # the cause of others
        raise TrainingFailed(
            f"{run.task}/{run.variant}: one of {count} ranks died, which ended the training: "
            f"{str(errors[0]).splitlines()[0]} Run it again: it goes on from the last checkpoint, on as many devices "
            "as the recipe then says."
        ) from errors[0]
    if errors:
        raise errors[0]


def _as_processes(
    device: torch.device, count: int, work: Callable[..., None], listeners: Mapping[str, Callable[..., Any]]
) -> list[BaseException]:
    backend = "nccl" if device.type == "cuda" else "gloo"
    ours, theirs = multiprocessing.Pipe()
    tell = partial(_tell, theirs.send, theirs.recv)
    with tempfile.TemporaryDirectory() as folder, WorkerProcesses(count) as processes:
        ranks = [
            processes.submit(_as_process, rank, count, f"{folder}/ranks", backend, partial(work, tell))
            for rank in range(count)
        ]
        while not all(rank.done() for rank in ranks) or ours.poll():
            if ours.poll(_POLL_SECONDS):
                name, content = ours.recv()
                listeners[name](*content)
                ours.send(None)
            elif any(rank.done() and rank.exception() for rank in ranks):
                wait(ranks, _CONSEQUENCES_SECONDS)
                break
        return [error for rank in ranks if rank.done() and (error := rank.exception())]


def _as_process(rank: int, count: int, meeting: str, backend: str, work: Callable[[], None]) -> None:
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback, **os.environ}
    os.environ["LOCAL_RANK"] = str(rank)  # with it, Lightning starts no processes
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=count)
    work()
    dist.destroy_process_group()


def _on_ray(
    workspace: Path, needs: StepResources, count: int, work: Callable[..., None],
    listeners: Mapping[str, Callable[..., Any]],
) -> list[BaseException]:  # fmt: skip
    """Workers of Ray Train, on as many nodes as that takes; all of them have to see the workspace and the patches."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.util.queue import Empty, Queue

    told, heard = Queue(), Queue()
    share = {"CPU": needs.num_cpus, "GPU": needs.num_gpus, "memory": float(needs.memory)}
    share = {name: amount for name, amount in share.items() if amount}
    with tempfile.TemporaryDirectory(dir=workspace) as folder, ThreadPoolExecutor(1) as thread:
        trainer = TorchTrainer(
            partial(work, partial(_tell, told.put, heard.get)),
            torch_config=TorchConfig("nccl" if needs.num_gpus else "gloo"),
            scaling_config=ScalingConfig(num_workers=count, use_gpu=needs.num_gpus > 0, resources_per_worker=share),
            run_config=RunConfig(storage_path=folder),
        )
        training = thread.submit(trainer.fit)
        try:
            while not training.done() or not told.empty():
                with suppress(Empty):
                    name, content = told.get(timeout=_POLL_SECONDS)
                    listeners[name](*content)
                    heard.put(None)
        except BaseException:
            ray.shutdown()  # which ends the workers
            raise
        error = training.exception()
    found = list(getattr(error, "worker_failures", {}).values()) or [error] * (error is not None)
    return [WorkerDied(str(one)) if type(one).__module__.startswith("ray.") else one for one in found]


def _tell(say: Callable[[Any], Any], hear: Callable[[], Any], name: str, *content: Any) -> None:
    say((name, content))
    hear()  # until it was listened to


def _work(train: Callable[..., Any], run: TrainingRun, tell: Callable[..., None]) -> None:
    if place()[0]:
        _LOGGER.addHandler(logging.NullHandler())  # the first rank says the same
    else:
        handler = QueueHandler(None)  # type: ignore[arg-type]
        handler.enqueue = partial(tell, "log")  # type: ignore[method-assign]
        _LOGGER.addHandler(handler)
        run = replace(run, on_epoch=partial(tell, "on_epoch"), on_picture=partial(tell, "on_picture"))
    train(run=run)
