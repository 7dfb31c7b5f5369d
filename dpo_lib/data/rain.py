"""Rain out of pairs of photographs: pairs from a folder, and an operator that adds their rain."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..images import load_image, to_tensor
from ..operators.operator import Operator


def rain_pairs(
    folder: str | os.PathLike, *, split: str = "train", rain: str = "light"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rainy photographs and their clean originals, from a folder with a table ``pairs.csv``.

    Parameters
    ----------
    folder : str or path
        Holds ``pairs.csv`` with the columns ``split``, ``clean`` and one for each kind of rain; the paths in it start
        from this folder or from the one above.
    split : str
        Which rows: "train" or "test".
    rain : str
        Which column: "light" or "heavy".

    Yields
    ------
    (rainy, clean) : ndarray (H, W, 3), float32 in [0, 1]
        The clean image is cut at its top left to the size of the rainy one.

    Raises
    ------
    FileNotFoundError, ValueError
        No table or image there; no such column or split; a clean image smaller than its rainy one.
    """
    folder = Path(folder)
    with open(folder / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in (rows[0] if rows else {}) if name not in ("split", "id", "clean")]
    if rain not in columns:
        raise ValueError(
            f"rain must be one of {', '.join(columns) or 'no column'} in {folder / 'pairs.csv'}, got {rain!r}"
        )
    chosen = [row for row in rows if row["split"] == split]
    if not chosen:
        raise ValueError(f"{folder / 'pairs.csv'} has no row with split {split!r}")
    for row in chosen:
        rainy, clean = (load_image(_find(folder, row[name])) for name in (rain, "clean"))
        height, width = rainy.shape[:2]
        if clean.shape[0] < height or clean.shape[1] < width:
            raise ValueError(f"{row['clean']} is smaller than {row[rain]}: {clean.shape[:2]} against {rainy.shape[:2]}")
        yield rainy, clean[:height, :width]


def rain_of_pairs(folder: str | os.PathLike) -> Operator:
    """A deraining operator whose streaks come from the training pairs of a folder with ``pairs.csv``.

    Each streak layer is rainy minus clean picture; to an image one of them, drawn at random, flipped at random and
    repeated in mirror image where it is too small, is added.
    """
    layers = [to_tensor(rainy - clean)[0] for rainy, clean in rain_pairs(folder, split="train")]

    def add_layer(image: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        return torch.stack([one + _layer_for(one, layers, generator) for one in image]).clamp_(0, 1)

    return Operator(name="derain", title="Deraining", function=add_layer, kind="restoration", minimum_size=1)


def _layer_for(image: torch.Tensor, layers: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    """One streak layer of the image's size."""
    number, flip, *starts = (torch.rand(4, generator=generator)).tolist()
    layer = layers[int(number * len(layers))]
    layer = layer.flip(2) if flip < 0.5 else layer
    for axis, start in zip((1, 2), starts, strict=True):
        side = layer.shape[axis]
        index = (int(start * side) + torch.arange(image.shape[axis])) % (2 * side)
        layer = layer.index_select(axis, torch.minimum(index, 2 * side - 1 - index))
    return layer.to(image)


def _find(folder: Path, name: str) -> Path:
    return next((path for path in (folder / name, folder.parent / name) if path.exists()), folder / name)
