"""Rain out of pairs of photographs: pairs from a folder, and an operator that adds their rain."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..files import printable
from ..images import load_image
from ..operators import derain
from ..operators.operator import Operator
from ..records import read_table
from .sources import file_row


class RainPair(NamedTuple):
    """A rainy photograph and its clean original, (H, W, 3), float32 in [0, 1]; `name` is the rainy one's in the table.

    `files` says what exactly the two are, as `named_images` does.
    """

    name: str
    rainy: np.ndarray
    clean: np.ndarray
    files: list[dict]


def rain_pairs(folder: str | os.PathLike, *, split: str = "train", rain: str = "light") -> Iterator[RainPair]:
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
    RainPair
        The clean image is cut at its top left to the size of the rainy one.

    Warns
    -----
    UserWarning
        For each pair of which an image is missing or not readable, or the clean one is smaller; it is left out.

    Raises
    ------
    FileNotFoundError, ValueError
        No table there; no such column or split; not one usable pair.
    """
    table = Path(folder) / "pairs.csv"
    rows = read_table(table)
    columns = list(rows[0]) if rows else []
    kinds = [name for name in columns if name not in ("split", "id", "clean")]
    if rain not in kinds:
        raise ValueError(f"rain must be one of {', '.join(kinds) or 'no column'} in {printable(table)}, got {rain!r}")
    if missing := [name for name in ("split", "clean") if name not in columns]:
        raise ValueError(f"{printable(table)} has no column {missing[0]}, expected split, clean and {rain}")
    chosen = [row for row in rows if row["split"].strip() == split]
    if not chosen:
        raise ValueError(f"{printable(table)} has no row with split {split!r}")
    count = 0
    for row in chosen:
        try:
            pair = _pair(Path(folder), row[rain], row["clean"])
        except (OSError, ValueError) as error:
            warnings.warn(f"skipped the pair {printable(row[rain])}: {error}", stacklevel=2)
        else:
            count += 1
            yield pair
    if not count:
        raise ValueError(f"none of the {len(chosen)} pairs with split {split!r} in {printable(table)} can be used")


def _pair(folder: Path, *names: str) -> RainPair:
    """The rainy and the clean image of these names."""
    paths = [_find(folder, name.strip()) for name in names]
    rainy, clean = (load_image(path) for path in paths)
    files = [file_row(printable(n.strip()), p, i) for n, p, i in zip(names, paths, (rainy, clean), strict=True)]
    height, width = rainy.shape[:2]
    if clean.shape[0] < height or clean.shape[1] < width:
        raise ValueError(f"{names[1]} is smaller than {names[0]}: {clean.shape[:2]} against {rainy.shape[:2]}")
    return RainPair(files[0]["file"], rainy, clean[:height, :width], files)


def rain_of_pairs(folder: str | os.PathLike) -> Operator:
    """A deraining operator whose streaks come from the training pairs of a folder with ``pairs.csv``.

    Each streak layer is rainy minus clean picture (a little below zero where JPEG made it so); to an image one of them,
    drawn at random, flipped at random and repeated in mirror image where it is too small, is added.
    """
    layers = [torch.from_numpy(pair.rainy - pair.clean).permute(2, 0, 1) for pair in rain_pairs(folder)]

    def add_layer(image: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        return torch.stack([one + _layer_for(one, layers, generator) for one in image]).clamp_(0, 1)

    digest = hashlib.sha256(b"".join(layer.contiguous().numpy().tobytes() for layer in layers))
    add_layer.version = digest.hexdigest()  # type: ignore[attr-defined]  # other rain is another operator
    return replace(derain.OPERATOR, function=add_layer)


def _layer_for(image: torch.Tensor, layers: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    """One streak layer of the image's size."""
    number, flip, *starts = torch.rand(4, generator=generator, dtype=torch.float32).tolist()
    layer = layers[int(number * len(layers))]
    layer = layer.flip(2) if flip < 0.5 else layer
    for axis, start in zip((1, 2), starts, strict=True):
        side = layer.shape[axis]
        index = (int(start * side) + torch.arange(image.shape[axis])) % (2 * side)
        layer = layer.index_select(axis, torch.minimum(index, 2 * side - 1 - index))
    return layer.to(image)


def _find(folder: Path, name: str) -> Path:
    """Where an image of the table is, however its system writes folders and umlauts."""
    slashed = name.replace("\\", "/")
    spellings = (name, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")))
    places = [place / spelling for spelling in spellings for place in (folder, folder.parent)]
    return next((path for path in places if path.exists()), folder / name)
