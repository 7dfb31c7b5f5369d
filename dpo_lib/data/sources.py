"""Where images come from: scikit-image's wheel, or a folder of yours.

Nothing is read at import. Images come as uint8 arrays ``(H, W, 3)``, a quarter of the memory of floats;
`dpo_lib.images.to_tensor` turns one into a batch.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from ..files import sha256_of

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")

# the photographs among the colour pictures of scikit-image's wheel; the rest are scans, charts and logos
EMBEDDED = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}


def embedded_images(*names: str) -> dict[str, np.ndarray]:
    """The photographs that come inside scikit-image's wheel; nothing is downloaded.

    They are for showing and testing: no shipped network was trained on them.

    Parameters
    ----------
    *names : str
        Which ones, in this order; none for all of them.

    Returns
    -------
    dict
        Name to ndarray (H, W, 3), uint8.

    Raises
    ------
    ValueError
        An unknown name.
    FileNotFoundError
        scikit-image is missing, or was installed without its pictures.

    Examples
    --------
    >>> {name: image.shape for name, image in embedded_images("chelsea", "coffee").items()}
    {'chelsea': (300, 451, 3), 'coffee': (400, 600, 3)}
    """
    unknown = [name for name in names if name not in EMBEDDED]
    if unknown:
        raise ValueError(f"embedded images are {', '.join(EMBEDDED)}, got {', '.join(map(repr, unknown))}")
    found = importlib.util.find_spec("skimage")  # finds the package without the half second of importing it
    if found is None or found.origin is None:
        raise FileNotFoundError("the embedded images come with scikit-image, which is missing: install scikit-image")
    folder = Path(found.origin).parent / "data"
    images = {}
    for name in names or EMBEDDED:
        path = folder / EMBEDDED[name]
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: install scikit-image from its wheel, pip install scikit-image")
        images[name] = read_image(path)
    return images


def image_files(folder: str | os.PathLike) -> list[Path]:
    """All JPEG, PNG, BMP and TIFF files in a folder and the folders below it.

    Parameters
    ----------
    folder : str or path

    Returns
    -------
    list of Path
        In plain string order of the path below `folder`. Names that start with a dot are left out.

    Raises
    ------
    FileNotFoundError
        No such folder, or no image in it.
    NotADirectoryError
        It is a file.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"image folder {folder} does not exist: check the path")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, expected a folder of images: give the folder it lies in")
    found = []
    for path in folder.rglob("*"):
        below = path.relative_to(folder)
        if path.suffix.lower() in ENDINGS and not any(part.startswith(".") for part in below.parts) and path.is_file():
            found.append((below.as_posix(), path))
    if not found:
        raise FileNotFoundError(f"no image in {folder}: expected files ending in {', '.join(ENDINGS)}")
    return [path for _, path in sorted(found)]


def load_folder(
    folder: str | os.PathLike | Iterable[str | os.PathLike], *, minimum_size: int = 1, limit: int | None = None
) -> list[np.ndarray]:
    """Load every usable image of a folder; report the others by name.

    Parameters
    ----------
    folder : path, or iterable of paths
        A folder (read as by `image_files`), or the files themselves.
    minimum_size : int
        Images with fewer pixels on a side are reported and skipped.
    limit : int, optional
        Stop after so many usable images.

    Returns
    -------
    list of ndarray (H, W, 3), uint8
        Gray images are turned to RGB, an alpha channel is dropped, a camera's rotation mark is applied.

    Warns
    -----
    UserWarning
        For each file that is unreadable or too small.

    Raises
    ------
    FileNotFoundError
        No such folder, or no image in it.
    ValueError
        Not one usable image, or a wrong `limit`.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 (or None for all images), got {limit}")
    files = _as_files(folder)
    images = []
    for path in files:
        if len(images) == limit:
            break
        try:
            image = read_image(path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            warnings.warn(f"skipped {path}: not readable as an image ({error})", stacklevel=2)
            continue
        if min(image.shape[:2]) < minimum_size:
            height, width = image.shape[:2]
            warnings.warn(
                f"skipped {path}: {width}x{height}, smaller than {minimum_size} pixels on a side", stacklevel=2
            )
            continue
        images.append(image)
    if not images:
        where = folder if isinstance(folder, (str, os.PathLike)) else "the list"
        raise ValueError(
            f"none of the {len(files)} files in {where} is a readable image of at least {minimum_size} pixels a side"
        )
    return images


def file_list(folder: str | os.PathLike | Sequence[str | os.PathLike]) -> list[dict]:
    """What exactly a result was computed on: name, SHA-256 and size of every image file.

    Parameters
    ----------
    folder : path, or sequence of paths
        A folder (read as by `image_files`), or the files themselves.

    Returns
    -------
    list of dict
        ``file`` (path below the folder, or below the files' common folder), ``sha256``, ``width``, ``height``
        (None where the file is not readable as an image).
    """
    files = _as_files(folder)
    if isinstance(folder, (str, os.PathLike)):
        root = Path(folder)
    else:
        root = Path(os.path.commonpath([file.absolute().parent for file in files])) if files else Path()
        files = [file.absolute() for file in files]
    rows = []
    for path in files:
        width = height = None
        with contextlib.suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            height, width = read_image(path).shape[:2]
        rows.append(
            {"file": path.relative_to(root).as_posix(), "sha256": sha256_of(path), "width": width, "height": height}
        )
    return rows


def _as_files(folder: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    if isinstance(folder, (str, os.PathLike)):
        return image_files(folder)
    return [Path(file) for file in folder]


def read_image(path: str | os.PathLike | BinaryIO) -> np.ndarray:
    """An image file (or its bytes) as ndarray (H, W, 3), uint8 RGB, turned as its EXIF says."""
    with Image.open(path) as file:
        if file.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255 instead of scaling them
            gray = np.rint(np.asarray(file) / 257.0).astype(np.uint8)
            return np.repeat(gray[:, :, None], 3, axis=2)
        if file.mode in ("I", "F"):
            raise ValueError(f"32-bit pixels (mode {file.mode}) have no known range: convert it to 8 bits")
        return np.array(ImageOps.exif_transpose(file).convert("RGB"))


def load_images(folder: str | os.PathLike = "", limit: int | None = None) -> dict[str, np.ndarray]:
    """Images by name, as the notebooks take them: of a folder, or (folder empty) the embedded photographs.

    Parameters
    ----------
    folder : str or path
    limit : int, optional
        Only the first so many.

    Returns
    -------
    dict
        File name without its ending to ndarray (H, W, 3), uint8.

    Examples
    --------
    >>> list(load_images(limit=2))
    ['astronaut', 'chelsea']
    """
    if folder == "":
        return embedded_images(*list(EMBEDDED)[:limit])
    return {path.stem: load_folder([path])[0] for path in image_files(folder)[:limit]}
