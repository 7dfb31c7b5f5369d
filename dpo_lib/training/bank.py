"""The target bank: what training batches are drawn from.

A filter takes longer than a training step, so its answers are computed ahead: for every training image a few
(value, target) entries, on whole images, kept as 8-bit numbers and used many times. In a folder they serve every
network of the operator. Degradations are quick: they are made anew, with a new value and new noise, for each crop.

Everything follows from the seeds and the step, so that a run that was killed finds the same batches again.
"""

from __future__ import annotations

import functools
import math
import os
import pickle
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ..checks import as_numbers
from ..images import shrink_image, stand_ins, to_tensor
from ..models.base_network import with_ranks
from ..operators.cached import kept_targets
from ..operators.operator import Operator, Operators, as_operators
from ..parameters import as_gamma
from ..processes import child_processes
from ..progress import progress_bar
from ..randomness import seeded

MEMORY_SHARE = 0.25  # of the machine's memory, that targets may take


class Change(NamedTuple):
    """What is done to a photograph before its operator runs."""

    flips: tuple[bool, bool, bool]  # upside down, left to right, rows for columns
    channels: tuple[int, int, int] = (0, 1, 2)  # their order
    saturation: float = 1.0  # factor

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The image (1, 3, H, W), changed."""
        down, right, swap = self.flips
        image = image.flip([axis for axis, flip in ((2, down), (3, right)) if flip])
        image = image.transpose(2, 3) if swap else image
        if self.saturation != 1:
            image = torch.lerp(image.mean(1, keepdim=True), image, self.saturation).clamp(0, 1)
        return image[:, self.channels].contiguous()


@dataclass
class Entry:
    """One image, one operator and parameter value, and, of a filter, the target."""

    image: int
    change: Change
    operator: Operator
    value: torch.Tensor
    target: torch.Tensor | None = None  # (3, H, W), 8 bits

    @property
    def key(self) -> tuple:
        """Equal for entries whose crops can share a value: degradations draw it later."""
        return (self.operator.name, *(self.value.tolist() if self.operator.kind == "filter" else ()))


class Batch(NamedTuple):
    """What a step trains on: n crops.

    `input` and `target` are tensors (n, 3, crop, crop), float32, of the input perhaps with a fourth channel, the
    ranks; beyond an image's border a filter's target is NaN. `value` is (n, m), float64, on the CPU, with m the largest
    number of parameters of an operator, zeros where an operator has fewer; `operators` n names.
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
        With several, the entries take turns: each operator has its equal part of the bank.
    images : sequence of ndarray (H, W, 3)
        Training images, uint8 or float in [0, 1].
    entries_per_image : int
    size : int, optional
        At most so many entries.
    shrink : float
        Images are first reduced to this part of their size. The dilated network's receptive field is hundreds of
        pixels wide; a small whole image keeps the context that a small crop of a large one loses.
    crop : int
        Side of the square crops that `batch` draws; smaller images are left out.
    step : int
        Crops begin at multiples of it. With a pyramid's ``base_network.step`` every crop meets the network's grid, and
        that of an operator with a pyramid of its own, as the whole image does; beyond the lower and the right border
        its last pixels are repeated, as a pyramid does. So a crop may also be larger than an image's shorter side,
        and then shows all of it.
    equalised : bool
        Images of filters come `with_ranks` of the whole picture; degraded ones with those of the crop.
    border : {"edge", "symmetric", "wrap"}
    margin : int
        Crops of filters with this border may reach beyond the image, which goes on as `images.extended` says: by
        `margin` pixels ("wrap": by any number), or where a crop is larger than the image. 0: by none.
    levels : int
        Values are so many equal steps of the range (0: any number of it).
    same_value : int
        So many crops of a batch have the same operator and value, unless too few entries do.
    same_crop : int
        So many consecutive crops of a batch show the same place of a photograph to different operators, all filters.
        Divides `entries_per_image`, the number of operators and every batch.
    values : sequence of float or None
        Train on these values only (each drawn equally often) instead of the whole range; for a single operator.
    recoloured : float
        Share of the entries whose photograph gets its channels in another order and 0.5 to 2 times its saturation.
    seed : int
        Of the entries' values and flips. Networks with the same images and seed share their targets.
    device : str or torch.device
        Where the operator runs, and where batches lie.
    folder : path, optional
        Keeps the targets, see `operators.cached.kept_targets`.
    memory_bytes : int, optional
        Targets beyond this stay in the folder (without a folder: are refused). Default: a quarter of the machine's.
    progress : bool
        Show a bar while the bank is filled.
    strata : int
        The batch size in view: the i-th of a batch is drawn from the entries i, i + strata, i + 2 strata ...
    part : (rank, count)
        Hold only what process `rank` of `count` draws, where `count` divides `strata`.

    Notes
    -----
    Every entry changes its image *before* the operator runs, so that operators that treat directions (forward
    differences) or channels (luminance) differently still give exact targets.
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
        step: int = 1,
        equalised: bool = False,
        border: str = "edge",
        margin: int = 0,
        levels: int = 0,
        same_value: int = 1,
        same_crop: int = 1,
        values: Sequence[float] | None = None,
        recoloured: float = 0.0,
        seed: int = 0,
        device: str | torch.device = "cpu",
        folder: str | os.PathLike | None = None,
        memory_bytes: int | None = None,
        progress: bool = True,
        strata: int = 1,
        part: tuple[int, int] = (0, 1),
    ):
        self.operators = list(as_operators(operators).values())
        self.shrink, self.crop, self.step, self.equalised = shrink, crop, step, equalised
        self.border, self.margin = border if margin else "edge", margin
        self.levels, self.same_value, self.same_crop = levels, same_value, same_crop
        self.seed, self.folder = seed, folder
        self.value_columns = max(len(operator.parameters) for operator in self.operators)
        self.values = None if values is None else _chosen(values, self.operators)
        self.device, self.progress, self.recoloured = torch.device(device), progress, recoloured
        side = max if step > 1 or self.border == "symmetric" else min  # what lies beyond the shorter side is known
        large = [side(round(length * shrink) for length in image.shape[:2]) >= crop for image in images]
        self.numbers = [number for number, fits in enumerate(large) if fits]
        self.images = [images[number] for number in self.numbers]
        if not self.images:
            sizes = sorted({tuple(image.shape[:2]) for image in images})[:3]
            far = "long" if side is max else "a side"
            raise ValueError(
                f"no image of {len(images)} is at least {crop} pixels {far} at {shrink:g} "
                f"of its size (sizes seen: {sizes}): use larger images or a smaller crop"
            )
        self.size = min(len(self.images) * entries_per_image, size or sys.maxsize)
        if self.size < len(self.operators):
            raise ValueError(
                f"{len(self.operators)} operators need at least as many entries, got {self.size}: "
                "use more images, a larger entries_per_image or a larger bank_size"
            )
        if same_crop > 1:
            self._check_same_crop(entries_per_image, same_value, part)
        self.strata = strata if self.size >= strata else 1
        self.rank, self.count = part
        self.entries = [self._entry(index) for index in range(self.size)]
        self.alike: dict[tuple, list[Entry]] = {}  # held entries by operator and value
        for index, entry in enumerate(self.entries):
            if self._is_held(index):
                self.alike.setdefault(entry.key, []).append(entry)
        self.memory_bytes = _memory() * MEMORY_SHARE if memory_bytes is None else memory_bytes
        needed = sum(3 * image.shape[0] * image.shape[1] * shrink**2 for image in self.images) / len(self.images)
        needed *= sum(entry.operator.kind == "filter" for entry in self.entries)
        if folder is None and needed > self.memory_bytes:
            raise ValueError(
                f"{self.size} targets take about {needed / 1e9:.1f} GB, and {self.memory_bytes / 1e9:.1f} GB of memory "
                "are set aside for them: name a folder that keeps them, or a smaller bank_size"
            )

    def _check_same_crop(self, entries_per_image: int, same_value: int, part: tuple[int, int]) -> None:
        whole = {"entries_per_image": entries_per_image, "the number of operators": len(self.operators)}
        wrong = [f"{name} ({number})" for name, number in whole.items() if number % self.same_crop]
        degraded = [operator.name for operator in self.operators if operator.kind == "restoration"]
        if degraded:
            raise ValueError(
                f"same_crop ({self.same_crop}) hands one picture to several operators, but {', '.join(degraded)} "
                "degrades its own: train filters so, or use same_crop=1"
            )
        if wrong or same_value > 1 or part[1] > 1 or self.size < len(self.images) * entries_per_image:
            raise ValueError(
                f"same_crop ({self.same_crop}) must divide {' and '.join(wrong) or ', '.join(whole)}, and goes with "
                "same_value=1, one process, and no bank_size"
            )

    def fill(self, *, deadline: float | None = None, jobs: int = 1) -> None:
        """Compute, or read from the folder, the targets of all filters; gives up at `deadline`, of time.monotonic.

        With a folder, `jobs` processes compute those that are missing there. Operators that cannot be handed to
        another process (functions made inside others) are computed here.
        """
        held = [entry for index, entry in enumerate(self.entries) if self._is_held(index)]
        todo = [entry for entry in held if entry.operator.kind == "filter"]
        names = "+".join(operator.name for operator in self.operators)
        bar = progress_bar(total=len(todo), desc=f"{names}: targets", unit="image", progress=self.progress, leave=False)
        room = self.memory_bytes
        for entry, target in self._targets(todo, jobs):
            if room >= target.nbytes:
                entry.target = target
                room -= target.nbytes
            bar.update()
            if deadline is not None and time.monotonic() >= deadline:
                break
        bar.close()

    def batch(self, n: int, generator: torch.Generator) -> Batch:
        """Draw `n` random crops of random entries (of these, the process's own part)."""
        draws = torch.rand(n, 3, generator=generator, dtype=torch.float64)  # alike in every process
        seeds = torch.randint(2**31, (n,), generator=generator).tolist()
        inputs, targets, values, names = [], [], [], []
        positions, groups = range(self.rank, n, self.count), max(1, n // self.same_value)
        turns = int(torch.randint(2**31, (), generator=generator))  # else the same strata, and operators, would lead
        leaders: dict[int, tuple[Entry, torch.Tensor]] = {}  # of the crops with one value, one
        for group in range(groups):
            if members := [position for position in positions if position % groups == group]:
                first = members[turns % len(members)]
                leaders[group] = self._draw(first, draws, seeded(seeds[first]))
        for position in positions:
            turn, own = position % self.same_crop, seeded(seeds[position])
            choice, *place = draws[position - turn].tolist()
            entry, value = self._draw(position, draws, own)
            leader, shared = leaders[position % groups]
            alike = self.alike[leader.key]
            if len(alike) >= self.same_value:
                entry, value = entry if entry is leader else alike[int(choice * len(alike))], shared
            if turn == 0:
                image = self.image_of(entry)
            crop = functools.partial(self._crop, place=place, goes_on=entry.operator.border == self.border != "edge")
            if entry.operator.kind == "filter":
                target = entry.target if entry.target is not None else self._target(entry)
                if turn == 0:
                    shown = crop(with_ranks(image) if self.equalised else image)
                target = crop(target[None].float(), beyond=math.nan) / 255
            else:
                gamma = value[None] if len(value) else None
                shown, target = entry.operator.make_pair(crop(image).to(self.device), gamma, own, check_range=False)
                shown = with_ranks(shown) if self.equalised else shown
            inputs.append(shown)
            targets.append(target)
            values.append(F.pad(value, (0, self.value_columns - len(value))))
            names.append(entry.operator.name)
        shown, target = (torch.cat(crops).float().to(self.device) for crops in (inputs, targets))
        return Batch(shown, target, torch.stack(values), names)

    def _draw(self, position: int, draws: torch.Tensor, own: torch.Generator) -> tuple[Entry, torch.Tensor]:
        """The entry for a batch's `position`, and its value; `own` draws that of a degradation."""
        turn = position % self.same_crop
        entry = self.entries[self._next(self._drawn(position - turn, float(draws[position - turn, 0])), turn)]
        return entry, self._value(entry.operator, own) if entry.operator.kind == "restoration" else entry.value

    def image_of(self, entry: Entry) -> torch.Tensor:
        """An entry's input, or, of a degradation, its clean image: (1, 3, H, W) on the CPU."""
        return _changed(self.images[entry.image], self.shrink, entry.change)

    def _crop(
        self, image: torch.Tensor, *, place: Sequence[float], goes_on: bool, beyond: float | None = None
    ) -> torch.Tensor:
        """The square of (..., H, W) at a place, two numbers in [0, 1); past the border the last pixels, or `beyond`.

        An image that goes on does so as `border` says.
        """
        for axis, u in zip((-2, -1), place, strict=True):
            size = image.shape[axis]
            along = torch.arange(self.crop)
            if not goes_on:
                along += int(u * (max(0, -(-(size - self.crop) // self.step)) + 1)) * self.step
            elif self.border == "wrap":
                along += int(u * size)
            else:
                first, last = sorted((-self.margin, size + self.margin - self.crop))
                along += first + int(u * (last - first + 1))
            outside = int((along >= size).sum())
            image = image.index_select(axis, stand_ins(along, size, self.border if goes_on else "edge"))
            if beyond is not None and outside and not goes_on:
                image.narrow(axis, self.crop - outside, outside).fill_(beyond)
        return image

    def _drawn(self, position: int, choice: float) -> int:
        """The entry for a batch's `position`, by a number in [0, 1)."""
        first = position % self.strata
        return first + self.strata * int(choice * -(-(self.size - first) // self.strata))

    def _next(self, index: int, turns: int) -> int:
        """The entry of the same photograph and place, so many operators further."""
        turn, image = divmod(index, len(self.images))
        first = turn - turn % self.same_crop
        return (first + (turn + turns) % self.same_crop) * len(self.images) + image

    def _is_held(self, index: int) -> bool:
        return self.strata == 1 or index % self.count == self.rank

    def _entry(self, index: int) -> Entry:
        """All random choices of an entry: the next operator for the next image, and the next round of images.

        They follow from the image itself, so that another crop, or more images, leave them as they are.
        """
        turn, image = divmod(index, len(self.images))
        operator = self.operators[(self.numbers[image] + turn) % len(self.operators)]
        own = zlib.crc32(np.ascontiguousarray(self.images[image]).data)
        generator = seeded(self.seed, own, turn // self.same_crop)
        flips = tuple((torch.rand(3, generator=generator) < 0.5).tolist())
        value = self._value(operator, generator)
        change = Change(flips)
        if self.recoloured and float(torch.rand((), generator=generator)) < self.recoloured:
            order = torch.randperm(3, generator=generator).tolist()
            change = Change(flips, tuple(order), 4 ** (float(torch.rand((), generator=generator)) - 0.5))
        return Entry(image, change, operator, value)

    def _value(self, operator: Operator, generator: torch.Generator) -> torch.Tensor:
        if self.values is None:
            return operator.sample(1, generator, levels=self.levels)[0]
        return self.values[int(torch.randint(len(self.values), (1,), generator=generator))]

    def _target(self, entry: Entry) -> torch.Tensor:
        image = self.image_of(entry).to(self.device)
        return _compute(entry.operator, self.folder, image, entry.value)

    def _targets(self, entries: Sequence[Entry], jobs: int) -> Iterable[tuple[Entry, torch.Tensor]]:
        """The entries with their targets, in any order."""
        if self.folder is None or jobs < 2 or self.device.type != "cpu" or not _picklable(self.operators):
            yield from ((entry, self._target(entry)) for entry in entries)
            return
        with child_processes(jobs, threads=1) as pool:
            waiting = {}
            for entry in entries:
                image = self.images[entry.image]
                work = (entry.operator, self.folder, image, self.shrink, entry.change, entry.value)
                waiting[pool.submit(_compute_apart, *work)] = entry
                if len(waiting) >= 4 * jobs:
                    done = next(as_completed(waiting))
                    yield waiting.pop(done), torch.from_numpy(done.result())
            for done in as_completed(waiting):
                yield waiting[done], torch.from_numpy(done.result())


def _chosen(values: Sequence[float], operators: Sequence[Operator]) -> torch.Tensor:
    """The values to train on, a row each, of the only operator."""
    if len(operators) > 1:
        raise ValueError(f"values can be chosen for a single operator only, got {len(operators)} operators")
    if not len(values):
        raise ValueError("values to train on must be at least one, got none: leave them out for the whole range")
    rows = as_numbers(values, "values to train on").reshape(len(values), -1)
    return as_gamma(rows, parameters=operators[0].parameters, batch=len(rows), owner=operators[0].name)


def _changed(image: np.ndarray, shrink: float, change: Change) -> torch.Tensor:
    """An image (H, W, 3), reduced and changed: tensor (1, 3, H, W)."""
    return change(shrink_image(to_tensor(image), shrink).float())


def _compute(operator: Operator, folder, image: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A filter's answer in 8 bits, (3, H, W) on the CPU, from the folder if it is there."""
    gamma = value[None] if len(value) else None
    answer = kept_targets(operator, folder)(image, gamma, check_range=False)[0]
    return (answer.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def _compute_apart(operator, folder, image, shrink, change, value) -> np.ndarray:
    """`_compute` in a process of its own; arrays travel where tensors would share memory files."""
    return _compute(operator, folder, _changed(image, shrink, change), value).numpy()


def _picklable(operators: Sequence[Operator]) -> bool:
    try:
        pickle.dumps(list(operators))
    except Exception:  # whatever a user's own objects raise
        return False
    return True


def _memory() -> int:
    """The machine's memory in bytes; where that is not told, 8 GB."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 10**9
