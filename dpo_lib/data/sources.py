"""Where images come from: scikit-image's wheel, or a folder of yours.

Nothing is read at import. Images come as uint8 arrays ``(H, W, 3)``, a quarter of the memory of floats;
`dpo_lib.images.to_tensor` turns one into a batch.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..files import printable, sha256_of
from ..images import SUFFIXES, load_image

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
        images[name] = load_image(path, dtype="uint8")
    return images


def image_files(folder: str | os.PathLike) -> list[Path]:
    """All image files in a folder and the folders below it, by their suffixes (`dpo_lib.images.SUFFIXES`, in any case).

    Parameters
    ----------
    folder : str or path

    Returns
    -------
    list of Path
        In plain string order of the path below `folder`. Names that start with a dot are left out, and so are pipes,
        devices, and folders behind symbolic links (which may lead in circles); linked files are taken.

    Warns
    -----
    UserWarning
        For each folder below that cannot be read.

    Raises
    ------
    FileNotFoundError
        No such folder, or no image in it.
    NotADirectoryError
        It is a file.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"image folder {printable(folder)} does not exist: check the path")
    if not folder.is_dir():
        name = printable(folder)
        raise NotADirectoryError(f"{name} is a file, expected a folder of images: give the folder it lies in")
    found = []
    for place, folders, names in os.walk(folder, onerror=lambda error: _unreadable(error, folder)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                found.append((path.relative_to(folder).as_posix(), path))
    if not found:
        raise FileNotFoundError(f"no image in {printable(folder)}: expected files ending in {', '.join(SUFFIXES)}")
    return [path for _, path in sorted(found)]


def _unreadable(error: OSError, folder: Path) -> None:
    if Path(error.filename) == folder:
        raise error
    warnings.warn(f"skipped the folder {printable(error.filename)}: {error.strerror}", stacklevel=4)


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
        Read by `dpo_lib.images.load_image`.

    Warns
    -----
    UserWarning
        For each file that is unreadable, too small or far too large, and for each that is transparent in places.

    Raises
    ------
    FileNotFoundError
        No such folder, or no image in it.
    ValueError
        Not one usable image, or a wrong `limit`.
    """
    return [image for _, image in _usable(_as_files(folder), folder, minimum_size, limit)]


def named_images(
    folder: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    root: str | os.PathLike | None = None,
    minimum_size: int = 1,
    limit: int | None = None,
) -> tuple[dict[str, np.ndarray], list[dict]]:
    """The usable images of a folder by name, and what exactly they are; the others are reported as by `load_folder`.

    Parameters
    ----------
    folder, minimum_size, limit
        See `load_folder`.
    root : path, optional
        Names are paths below it. Default: the folder, or the files' common folder.

    Returns
    -------
    images : dict
        Name to ndarray (H, W, 3), uint8.
    files : list of dict
        Of each image ``file`` (its name), ``sha256``, ``width`` and ``height``.
    """
    files = _as_files(folder)
    if root is None and isinstance(folder, (str, os.PathLike)):
        root = folder
    elif root is None:
        root = os.path.commonpath([file.absolute().parent for file in files]) if files else ""
    images, rows = {}, []
    for path, image in _usable(files, folder, minimum_size, limit):
        name = printable(path.absolute().relative_to(Path(root).absolute()).as_posix())
        images[name] = image
        rows.append(file_row(name, path, image))
    return images, rows


def file_row(name: str, path: Path, image: np.ndarray) -> dict:
    """What exactly an image file is, for a record."""
    return {"file": name, "sha256": sha256_of(path), "width": image.shape[1], "height": image.shape[0]}


def _as_files(folder: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    if isinstance(folder, (str, os.PathLike)):
        return image_files(folder)
    return [Path(file) for file in folder]


def _usable(
    files: Sequence[Path], folder: object, minimum_size: int, limit: int | None
) -> Iterator[tuple[Path, np.ndarray]]:
    """The usable images, `limit` at most and one at least, among the `files` of a folder."""
    _check_limit(limit)
    count = 0
    for path in files:
        name = printable(path)
        try:
            image = load_image(path, dtype="uint8")
            height, width = image.shape[:2]
            if min(height, width) < minimum_size:
                raise ValueError(f"{width}x{height}, smaller than {minimum_size} pixels on a side")
        except (OSError, ValueError) as error:
            warnings.warn(f"skipped {name}: {str(error).removeprefix(f'{name} ')}", stacklevel=3)
            continue
        yield path, image
        count += 1
        if count == limit:
            return
    if not count:
        where = printable(folder) if isinstance(folder, (str, os.PathLike)) else "the list"
        raise ValueError(
            f"none of the {len(files)} files in {where} is a readable image of at least {minimum_size} pixels a side"
        )


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 (or None for all images), got {limit}")


def load_images(folder: str | os.PathLike = "", limit: int | None = None, *, every: int = 1) -> dict[str, np.ndarray]:
    """Images by name, as the notebooks take them: of a folder, or (folder empty) the embedded photographs.

    Parameters
    ----------
    folder : str or path
    limit : int, optional
        Only the first so many.
    every : int
        Of a folder only every n-th file, in string order.

    Returns
    -------
    dict
        Path below the folder to ndarray (H, W, 3), uint8.

    Examples
    --------
    >>> list(load_images(limit=2))
    ['astronaut', 'chelsea']
    """
    _check_limit(limit)
    if folder == "":
        return embedded_images(*list(EMBEDDED)[:limit])
    if every < 1:
        raise ValueError(f"every must be at least 1 (all images), got {every}")
    files = image_files(folder)[::every] if every > 1 else folder
    return named_images(files, root=folder, limit=limit)[0]
