"""Several processes that train one model: each takes its share of every batch, and gradients are averaged.

    torchrun --nproc-per-node N --no-python wsicomp train codec ...

A batch is the same whatever the number of processes, and so is the loss curve, up to the order of floating-point sums
(DistributedDataParallel: Li et al., 2020). Process 0 writes; the others only compute. Without torchrun there is one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from wsicomp.errors import ConfigError

__all__ = ["Processes", "processes"]


@dataclass(frozen=True)
class Processes:
    """The processes of a training, seen from one of them.

    Parameters
    ----------
    rank, count
        Number of this process, from 0, and of all.
    device
        Where this process computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this process logs and saves."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """Which rows of a batch are this process's.

        Raises
        ------
        ConfigError
            If a batch cannot be shared out evenly.
        """
        if batch_size % self.count:
            raise ConfigError(f"a batch of {batch_size} cannot be shared by {self.count} processes; choose a multiple")
        size = batch_size // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def parallel(self, module: nn.Module) -> nn.Module:
        """Wrap a module, so that its gradients are averaged over the processes; one process needs no wrapping."""
        if self.count == 1:
            return module
        # Each step trains one depth, and leaves the parameters of the others out.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def mean(self, value: Tensor) -> float:
        """Mean of a number over the processes."""
        if self.count == 1:
            return value.item()
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total.item() / self.count

    def wait(self) -> None:
        """Go on when every process has come this far."""
        if self.count > 1:
            distributed.barrier()


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started; on CUDA each takes the device of its local rank."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, device)
        return
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if device.type == "cuda" else device
    if own.type == "cuda":
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), count, own)
    finally:
        distributed.destroy_process_group()
