"""The target bank: what training batches are drawn from.

An operator takes longer than a training step, so its answers are computed ahead: for every training image a few
(value, target) entries, on whole images, kept as 8-bit numbers, used many times, and replaced by new ones one after
the other while training goes on. Everything follows from the seed and the step, so that a run that was killed finds
the same bank again.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from ..images import shrink_image, to_tensor
from ..operators.operator import Operator, Operators, as_operators
from ..randomness import seeded


@dataclass
class Entry:
    """One input, one operator and parameter value, one target; images (3, H, W)."""

    input: torch.Tensor
    target: torch.Tensor
    value: torch.Tensor
    operator: str


class Batch(NamedTuple):
    """What a step trains on: n crops.

    `input` and `target` are tensors (n, 3, crop, crop), float32; `value` (n, m), float64, on the CPU, with m the
    largest number of parameters of an operator, zeros where an operator has fewer; `operators` n names.
    """

    input: torch.Tensor
    target: torch.Tensor
    value: torch.Tensor
    operators: list[str]


class TargetBank:
    """Entries of one or several operators on a set of images.

    Parameters
    ----------
    operators : Operator, or sequence or mapping of them
        With several, the entries (and an entry's successive versions) take turns: each operator has its equal part
        of the bank, and meets every image in time.
    images : sequence of ndarray (H, W, 3)
        Training images, uint8 or float in [0, 1].
    entries_per_image : int
    size : int, optional
        At most so many entries; with fewer than there are images, successive versions of an entry show other images.
    shrink : float
        Images are first reduced to this part of their size. The networks' receptive field is hundreds of pixels
        wide; a small whole image keeps the context that a small crop of a large one loses.
    crop : int
        Side of the square crops that `batch` draws; smaller images are left out.
    values : sequence of float or None
        Train on these values only (each drawn equally often) instead of the whole range; for a single operator.
    seed : int
    device : str or torch.device
        Where the operator runs and the entries are kept.
    progress : bool
        Show a bar while the bank is filled.
    strata : int
        The batch size in view: the i-th of a batch is drawn from the entries i, i + strata, i + 2 strata ...
    part : (rank, count)
        Hold only what process `rank` of `count` draws, where `count` divides `strata`.

    Notes
    -----
    Every entry flips and transposes its image *before* the operator runs, so that operators that treat the
    directions differently (forward differences) still give exact targets.
    """

    def __init__(
        self,
        operators: Operators,
        images: Sequence[np.ndarray],
        *,
        entries_per_image: int = 4,
        size: int | None = None,
        shrink: float = 1.0,
        crop: int = 160,
        values: Sequence[float] | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        progress: bool = True,
        strata: int = 1,
        part: tuple[int, int] = (0, 1),
    ):
        self.operators = list(as_operators(operators).values())
        self.shrink, self.crop, self.seed = shrink, crop, seed
        self.value_columns = max(len(operator.parameters) for operator in self.operators)
        if values is not None and len(self.operators) > 1:
            raise ValueError(f"values can be chosen for a single operator only, got {len(self.operators)} operators")
        self.values = None if values is None else torch.as_tensor(values, dtype=torch.float64).reshape(len(values), -1)
        self.device, self.progress = torch.device(device), progress
        self.images = [image for image in images if min(round(side * shrink) for side in image.shape[:2]) >= crop]
        if not self.images:
            sizes = sorted({tuple(image.shape[:2]) for image in images})[:3]
            raise ValueError(
                f"no image of {len(images)} is at least {crop} pixels a side at {shrink:g} of its size "
                f"(sizes seen: {sizes}): use larger images or a smaller crop"
            )
        self.size = min(len(self.images) * entries_per_image, size or sys.maxsize)
        if self.size < len(self.operators):
            raise ValueError(
                f"{len(self.operators)} operators need at least as many entries, got {self.size}: "
                "use more images, a larger entries_per_image or a larger bank_size"
            )
        self.entries: list[Entry | None] = [None] * self.size
        self.replaced = 0
        self.strata = strata if self.size >= strata else 1
        self.rank, self.count = part

    def fill(self, replaced: int = 0, *, deadline: float | None = None) -> None:
        """Compute all entries as they are after `replaced` replacements; gives up at `deadline`, of time.monotonic."""
        self.replaced = replaced
        versions = [(index, self._version(index, replaced)) for index in range(self.size)]
        names = "+".join(operator.name for operator in self.operators)
        self._compute(versions, description=f"{names}: targets", show=self.progress, deadline=deadline)

    def advance(self, replaced: int) -> None:
        """Go on to the state after `replaced` replacements (oldest entries first)."""
        if replaced > self.replaced:
            pending = {count % self.size: count // self.size + 1 for count in range(self.replaced, replaced)}
            self._compute(list(pending.items()), show=False)
            self.replaced = replaced

    def batch(self, n: int, generator: torch.Generator) -> Batch:
        """Draw `n` random crops of random entries (of these, the process's own part)."""
        draws = torch.rand(n, 3, generator=generator, dtype=torch.float64)  # alike in every process
        inputs, targets, values, names = [], [], [], []
        for position in range(self.rank, n, self.count):
            choice, *place = draws[position].tolist()
            entry = self.entries[self._drawn(position, choice)]
            top, left = (
                int(u * (side - self.crop + 1)) for u, side in zip(place, entry.input.shape[1:], strict=True)
            )
            window = (slice(None), slice(top, top + self.crop), slice(left, left + self.crop))
            inputs.append(_as_float(entry.input[window]))
            targets.append(_as_float(entry.target[window]))
            values.append(F.pad(entry.value, (0, self.value_columns - len(entry.value))))
            names.append(entry.operator)
        return Batch(torch.stack(inputs), torch.stack(targets), torch.stack(values), names)

    def _drawn(self, position: int, choice: float) -> int:
        """The entry for a batch's `position`, by a number in [0, 1)."""
        first = position % self.strata
        return first + self.strata * int(choice * -(-(self.size - first) // self.strata))

    def _is_held(self, index: int) -> bool:
        return self.strata == 1 or index % self.count == self.rank

    def operator_of(self, index: int, version: int) -> Operator:
        """Whose turn it is: the next operator for the next image, the next round of images, the next version."""
        place, n = self._place(index, version), len(self.images)
        turn = place % n + place // n + (version if self.size >= n else 0)
        return self.operators[turn % len(self.operators)]

    def _place(self, index: int, version: int) -> int:
        """Where an entry stands in the round of images; in a bank smaller than a round, the rounds go on."""
        return index if self.size >= len(self.images) else index + version * self.size

    def _version(self, index: int, replaced: int) -> int:
        return replaced // self.size + (index < replaced % self.size)

    def _prepare(self, index: int, version: int):
        """The image, operator, value and generator of an entry: all random choices are made here."""
        generator = seeded(self.seed, index, version)
        image = shrink_image(to_tensor(self.images[self._place(index, version) % len(self.images)]), self.shrink)
        down, right, swap = (torch.rand(3, generator=generator) < 0.5).tolist()
        image = image.flip([axis for axis, flip in ((2, down), (3, right)) if flip])
        image = image.transpose(2, 3).contiguous() if swap else image.contiguous()
        operator = self.operator_of(index, version)
        if self.values is None:
            value = operator.sample(1, generator)[0]
        else:
            value = self.values[int(torch.randint(len(self.values), (1,), generator=generator))]
        return image, operator, value, generator

    def _compute(
        self, versions: list[tuple[int, int]], *, description: str = "", show: bool, deadline: float | None = None
    ) -> None:
        """Compute entries; on a GPU several of one filter and size at once."""
        groups = defaultdict(list)
        bar = tqdm(total=len(versions), desc=description, unit="image", disable=not show, leave=False)
        for index, version in versions:
            if deadline is not None and time.monotonic() >= deadline:
                break
            if not self._is_held(index):
                bar.update()
                continue
            image, operator, value, generator = self._prepare(index, version)
            # a restoration operator draws noise, with each entry's own generator
            at_once = 1 if self.device.type == "cpu" or operator.kind == "restoration" else 32
            key = (operator.name, image.shape)
            groups[key].append((index, image, value, generator))
            if len(groups[key]) == at_once:
                bar.update(self._run(operator, groups.pop(key)))
        for (name, _), group in groups.items():
            bar.update(self._run(next(operator for operator in self.operators if operator.name == name), group))
        bar.close()

    def _run(self, operator: Operator, group: list[tuple]) -> int:
        """Compute the entries of a group, and say how many they are."""
        indices, images, values, generators = zip(*group, strict=True)
        batch, gamma = torch.cat(images).to(self.device), torch.stack(values)
        gamma = gamma if gamma.shape[1] else None
        inputs, targets = operator.make_pair(batch, gamma, generator=generators[0], check_range=False)
        exact = operator.kind == "restoration"
        for index, shown, target, value in zip(indices, inputs, targets, values, strict=True):
            self.entries[index] = Entry(_as_stored(shown, exact=exact), _as_stored(target), value, operator.name)
        return len(group)


def _as_stored(image: torch.Tensor, *, exact: bool = False) -> torch.Tensor:
    """8 bits; degraded inputs, which may leave [0, 1], in half precision."""
    return image.half() if exact else (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _as_float(image: torch.Tensor) -> torch.Tensor:
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()
