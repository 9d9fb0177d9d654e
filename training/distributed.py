"""Several processes that train one network, started by torchrun. One process is the special case of a world of one.

Each process computes the gradients of its share of every batch; DistributedDataParallel averages them, so all
processes take the same step. Only the first one writes.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """This process's number and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return what trains `network`: itself, or the wrapper that averages gradients over the processes."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, gradient_as_bucket_view=True)  # one copy of the gradients, not two

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of `values` over all processes."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def agree(self, *, on: bool, device: torch.device) -> bool:
        """Return whether any process says so: they then stop at the same step, and none waits for one that left."""
        if self.size == 1:
            return on
        return bool(self.total(torch.tensor(float(on), device=device)) > 0)


@contextlib.contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """Join the processes that torchrun started beside this one; leave them at the end."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
