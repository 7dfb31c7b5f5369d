"""Test images by name, and rain out of pairs of photographs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .data import embedded_images, file_list, image_files, load_folder
from .images import to_tensor
from .operators.derain import rain_pairs
from .operators.operator import Operator

# set -> folders of it, and which of their files are taken, in string order: 2 is every second one
SETS = {
    "photographs": (("bsds500_test", 2),),
    "bsd68": (("bsd68_gray", 1),),
    "bsd100": (("bsd68_color", 1), ("bsds500_val32", 1)),
}
EMBEDDED_NAME = "photographs inside scikit-image's wheel"


@dataclass(frozen=True)
class ImageSet:
    """Images by name, what they are called, and their files with hashes.

    For a deraining set, `rainy` holds the rainy picture of each clean one.
    """

    name: str
    images: dict[str, np.ndarray]
    files: list[dict]
    rainy: dict[str, np.ndarray] | None = None


def image_set(name: str, folder: str | os.PathLike | None = None, *, limit: int | None = None) -> ImageSet:
    """A test set.

    Parameters
    ----------
    name : str
        "photographs", "bsd68", "bsd100", or the name of a folder, such as "live1".
    folder : path, optional
        Where to look: its subfolders ("photographs" is every second file of bsds500_test), or else the images that lie
        in it. Without either, the photographs inside scikit-image's wheel.
    limit : int, optional
        Only the first so many.

    Raises
    ------
    FileNotFoundError
        No such folder.
    """
    if folder is not None and not Path(folder).is_dir():
        raise FileNotFoundError(f"folder of test images {folder} does not exist: check the path")
    parts = SETS.get(name, ((name, 1),))
    if folder is not None and all((Path(folder) / part).is_dir() for part, _ in parts):
        files = [file for part, every in parts for file in image_files(Path(folder) / part)[::every]]
        label = " and ".join(part if every == 1 else f"{part} (every {every}nd file)" for part, every in parts)
    elif folder is not None and (own := _images_in(Path(folder))):
        files, label = own, Path(folder).resolve().name
    else:
        return ImageSet(EMBEDDED_NAME, dict(list(embedded_images().items())[:limit]), [])
    files = files[:limit]
    return ImageSet(label, {file.stem: load_folder([file])[0] for file in files}, file_list(files))


def rain_test_set(folder: str | os.PathLike, *, limit: int | None = None) -> ImageSet:
    """The test pairs of a folder with ``pairs.csv``, see `dpo_lib.operators.derain.rain_pairs`."""
    pairs = list(rain_pairs(folder, split="test"))[:limit]
    names = [f"pair{number:03d}" for number in range(len(pairs))]
    clean, rainy = ({name: pair[which] for name, pair in zip(names, pairs, strict=True)} for which in (1, 0))
    return ImageSet(f"{Path(folder).resolve().name}, test pairs", clean, file_list(folder), rainy)


def rain_of_pairs(folder: str | os.PathLike) -> Operator:
    """A deraining operator whose streaks come from the training pairs of a folder with ``pairs.csv``.

    Each streak layer is rainy minus clean picture; to an image one of them, drawn at random, flipped at random and
    repeated in mirror image where it is too small, is added.
    """
    layers = [to_tensor(rainy - clean)[0] for rainy, clean in rain_pairs(folder, split="train")]

    def add_layer(image: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        return torch.stack([one + _layer_for(one, layers, generator) for one in image]).clamp_(0, 1)

    return Operator(name="derain", title="Deraining", function=add_layer, kind="restoration", minimum_size=1)


def fixed_rain(rainy: np.ndarray) -> Operator:
    """A deraining operator for one test pair: whatever the clean image, this is the rainy one."""
    shown = to_tensor(rainy)
    return Operator(
        name="derain",
        title="Deraining",
        function=lambda image, *, generator=None: shown.to(image),
        kind="restoration",
        minimum_size=1,
    )


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


def _images_in(folder: Path) -> list[Path]:
    """The images that lie in a folder itself, not below it."""
    try:
        return [file for file in image_files(folder) if file.parent == folder]
    except FileNotFoundError:
        return []
