"""One training run on several processes, on one machine or many, as ``torchrun`` starts them.

    torchrun --nproc_per_node=4 -m dpo_lib train --operator l0 --images DIR --scale paper --out runs/l0

Every process holds the whole network and its part of the target bank, and learns from its part of every batch; the
gradients are averaged. The result is that of one process with the same batches, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class Workers:
    """The processes of a run, and which of them this is (`rank`, from 0)."""

    rank: int
    count: int
    device: torch.device

    @staticmethod
    def join(device: torch.device) -> Workers:
        """Meet the other processes that ``torchrun`` started; alone where it started none."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return Workers(0, 1, device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return Workers(distributed.get_rank(), count, device)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def check_batches(self, sizes: Sequence[int]) -> None:
        """Refuse batches that cannot be dealt out evenly."""
        uneven = [size for size in sizes if size % self.count]
        if uneven:
            raise ValueError(
                f"batch_size must be a multiple of the number of processes, {self.count}, got {uneven[0]}: "
                "start another number of processes, or change the phases"
            )

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their means over all processes, in one exchange."""
        if self.count > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            distributed.all_reduce(flat)
            flat /= self.count
            for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process, so that all of them stop at the same step."""
        if self.count == 1:
            return flag
        total = torch.tensor([float(flag)], device=self.device)
        distributed.all_reduce(total)
        return bool(total > 0)
