"""Test images by name."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import printable
from ..models.base_network import MINIMUM_SIZE
from .rain import rain_pairs
from .sources import image_files, load_images, named_images

# set -> folders of it, and which of their files are taken, in string order: 2 is every second one
SETS = {
    "photographs": (("bsds500_test", 2),),
    "bsd68": (("bsd68_gray", 1),),
    "bsd100": (("bsd68_color", 1), ("bsds500_val32", 1)),
}
SET_OF = {"super_resolution": "bsd100", "denoise": "bsd68", "denoise_color": "bsd68_color", "deblock": "live1"}
EMBEDDED_NAME = "photographs inside scikit-image's wheel"


@dataclass(frozen=True)
class ImageSet:
    """Images, or (input, target) pairs of them, by name; what they are called, and their files with hashes."""

    name: str
    images: Mapping[str, np.ndarray | tuple[np.ndarray, np.ndarray]]
    files: list[dict]


def image_set(name: str, folder: str | os.PathLike | None = None, *, limit: int | None = None) -> ImageSet:
    """A test set.

    Parameters
    ----------
    name : str
        "photographs", "bsd68", "bsd100", or the name of a folder, such as "live1".
    folder : path, optional
        Where to look: its subfolders ("photographs" is every second file of bsds500_test), or else the images that lie
        in it. Without a folder, the photographs inside scikit-image's wheel.
    limit : int, optional
        Only the first so many.

    Raises
    ------
    FileNotFoundError
        No such folder, or neither the set nor an image in it.

    Warns
    -----
    UserWarning
        For each file that is not readable or too small to be measured on; it is left out.
    """
    if folder is None:
        return ImageSet(EMBEDDED_NAME, load_images(limit=limit), [])
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder of test images {printable(folder)} does not exist: check the path")
    parts = SETS.get(name, ((name, 1),))
    missing = [part for part, _ in parts if not (folder / part).is_dir()]
    if not missing:
        files = [file for part, every in parts for file in image_files(folder / part)[::every]]
        label = " and ".join(part if every == 1 else f"{part} (every {every}nd file)" for part, every in parts)
    elif own := _images_in(folder):
        files, label = own, folder.resolve().name
    else:
        raise FileNotFoundError(
            f"the test set {name} is not in {printable(folder)}: expected {', '.join(missing)}/, or images in the "
            "folder itself; without a folder, the photographs inside scikit-image's wheel are taken"
        )
    return ImageSet(label, *named_images(files, minimum_size=MINIMUM_SIZE, limit=limit))


def usual_sets(
    operators: Iterable[str],
    folder: str | os.PathLike | None = None,
    *,
    rain: str | os.PathLike | None = None,
    limit: int | None = None,
) -> dict[str, ImageSet]:
    """What each operator is measured on: the `image_set` of its task, or photographs.

    For "derain", `rain`, a folder with ``pairs.csv``, gives its test pairs, rainy and clean, see `rain_pairs`; without
    it synthetic rain falls on photographs.
    """
    usual = SET_OF if rain is None else {**SET_OF, "derain": "rain"}
    names = {operator: usual.get(operator, "photographs") for operator in operators}
    sets = {
        name: _rain_test_set(rain, limit)
        if name == "rain" and rain is not None
        else image_set(name, folder, limit=limit)
        for name in dict.fromkeys(names.values())
    }
    return {operator: sets[name] for operator, name in names.items()}


def _rain_test_set(folder: str | os.PathLike, limit: int | None) -> ImageSet:
    pairs = {pair.name: pair for pair in itertools.islice(rain_pairs(folder, split="test"), limit)}
    images = {name: (pair.rainy, pair.clean) for name, pair in pairs.items()}
    return ImageSet(f"{Path(folder).resolve().name}, test pairs", images, [f for p in pairs.values() for f in p.files])


def _images_in(folder: Path) -> list[Path]:
    """The images that lie in a folder itself, not below it."""
    try:
        return [file for file in image_files(folder) if file.parent == folder]
    except FileNotFoundError:
        return []
