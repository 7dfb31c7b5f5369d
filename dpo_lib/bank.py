"""The target bank: what training batches are drawn from.

An operator takes longer than a training step, so its answers are computed ahead: for every training image a few
(value, target) entries, on whole images, kept as 8-bit numbers, used many times, and replaced by new ones one after
the other while training goes on. Everything follows from the seed and the step, so that a run that was killed finds
the same bank again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from .images import to_tensor
from .operators.operator import Operator


def seeded(*numbers: int) -> torch.Generator:
    """A CPU generator that depends on all the numbers, and on nothing else.

    >>> torch.rand(1, generator=seeded(1, 2)) == torch.rand(1, generator=seeded(1, 2))
    tensor([True])
    """
    state = np.random.SeedSequence(numbers).generate_state(2, dtype=np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def shrink_image(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Antialiased reduction of a batch (B, 3, H, W) to `factor` of its size; 1 gives the batch itself."""
    if factor == 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[2:]]
    return F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


@dataclass
class Entry:
    """One input, one parameter value, one target; images (3, H, W)."""

    input: torch.Tensor
    target: torch.Tensor
    value: torch.Tensor


class TargetBank:
    """Entries of an operator on a set of images.

    Parameters
    ----------
    operator : Operator
    images : sequence of ndarray (H, W, 3)
        Training images, uint8 or float in [0, 1].
    entries_per_image : int
    shrink : float
        Images are first reduced to this part of their size. The networks' receptive field is hundreds of pixels
        wide; a small whole image keeps the context that a small crop of a large one loses.
    crop : int
        Side of the square crops that `batch` draws; smaller images are left out.
    values : sequence of float or None
        Train on these values only (each drawn equally often) instead of the whole range.
    seed : int
    device : str or torch.device
        Where the operator runs and the entries are kept.
    progress : bool
        Show a bar while the bank is filled.

    Notes
    -----
    Every entry flips and transposes its image *before* the operator runs, so that operators that treat the
    directions differently (forward differences) still give exact targets.
    """

    def __init__(
        self,
        operator: Operator,
        images: Sequence[np.ndarray],
        *,
        entries_per_image: int = 4,
        shrink: float = 1.0,
        crop: int = 160,
        values: Sequence[float] | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ):
        self.operator, self.shrink, self.crop, self.seed = operator, shrink, crop, seed
        self.values = None if values is None else torch.as_tensor(values, dtype=torch.float64).reshape(len(values), -1)
        self.device, self.progress = torch.device(device), progress
        self.images = [image for image in images if min(round(side * shrink) for side in image.shape[:2]) >= crop]
        if not self.images:
            sizes = sorted({tuple(image.shape[:2]) for image in images})[:3]
            raise ValueError(
                f"no image of {len(images)} is at least {crop} pixels a side at {shrink:g} of its size "
                f"(sizes seen: {sizes}): use larger images or a smaller crop"
            )
        self.size = len(self.images) * entries_per_image
        self.entries: list[Entry | None] = [None] * self.size
        self.replaced = 0

    def fill(self, replaced: int = 0) -> None:
        """Compute all entries as they are after `replaced` replacements."""
        self.replaced = replaced
        versions = [(index, self._version(index, replaced)) for index in range(self.size)]
        self._compute(versions, description=f"{self.operator.name}: targets", show=self.progress)

    def advance(self, replaced: int) -> None:
        """Go on to the state after `replaced` replacements (oldest entries first)."""
        if replaced > self.replaced:
            pending = {count % self.size: count // self.size + 1 for count in range(self.replaced, replaced)}
            self._compute(list(pending.items()), show=False)
            self.replaced = replaced

    def batch(self, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw `n` random crops of random entries.

        Returns
        -------
        input, target : tensor (n, 3, crop, crop), float32
        value : tensor (n, m), float64, on the CPU
        """
        chosen = torch.randint(self.size, (n,), generator=generator).tolist()
        inputs, targets, values = [], [], []
        for index in chosen:
            entry = self.entries[index]
            top, left = (
                int(torch.randint(side - self.crop + 1, (1,), generator=generator)) for side in entry.input.shape[1:]
            )
            window = (slice(None), slice(top, top + self.crop), slice(left, left + self.crop))
            inputs.append(_as_float(entry.input[window]))
            targets.append(_as_float(entry.target[window]))
            values.append(entry.value)
        return torch.stack(inputs), torch.stack(targets), torch.stack(values)

    def _version(self, index: int, replaced: int) -> int:
        return replaced // self.size + (index < replaced % self.size)

    def _prepare(self, index: int, version: int):
        """The input image, the value and the generator of an entry: all random choices are made here."""
        generator = seeded(self.seed, index, version)
        image = shrink_image(to_tensor(self.images[index % len(self.images)]), self.shrink)
        down, right, swap = (torch.rand(3, generator=generator) < 0.5).tolist()
        image = image.flip([axis for axis, flip in ((2, down), (3, right)) if flip])
        image = image.transpose(2, 3).contiguous() if swap else image.contiguous()
        if self.values is None:
            value = self.operator.sample(1, generator)[0]
        else:
            value = self.values[int(torch.randint(len(self.values), (1,), generator=generator))]
        return image, value, generator

    def _compute(self, versions: list[tuple[int, int]], *, description: str = "", show: bool) -> None:
        """Compute entries, several of one size at once on a GPU."""
        at_once = 1 if self.device.type == "cpu" else 32
        by_size = defaultdict(list)
        bar = tqdm(total=len(versions), desc=description, unit="image", disable=not show, leave=False)

        def run(group):
            indices, images, values, generators = zip(*group, strict=True)
            batch, gamma = torch.cat(images).to(self.device), torch.stack(values)
            gamma = gamma if gamma.shape[1] else None
            # restoration operators draw noise: one generator serves the batch, the first entry's
            inputs, targets = self.operator.make_pair(batch, gamma, generator=generators[0], check_range=False)
            for position, index in enumerate(indices):
                self.entries[index] = Entry(
                    _as_stored(inputs[position], exact=self.operator.kind == "restoration"),
                    _as_stored(targets[position]),
                    values[position],
                )
            bar.update(len(group))

        for index, version in versions:
            image, value, generator = self._prepare(index, version)
            group = by_size[image.shape]
            group.append((index, image, value, generator))
            if len(group) == at_once:
                run(by_size.pop(image.shape))
        for group in by_size.values():
            run(group)
        bar.close()


def _as_stored(image: torch.Tensor, *, exact: bool = False) -> torch.Tensor:
    """8 bits; degraded inputs, which may leave [0, 1], in half precision."""
    return image.half() if exact else (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _as_float(image: torch.Tensor) -> torch.Tensor:
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()
