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
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 (or None for all images), got {limit}")
    files = _as_files(folder)
    images: list[np.ndarray] = []
    for path in files:
        if len(images) == limit:
            break
        name = printable(path)
        try:
            image = load_image(path, dtype="uint8")
        except (OSError, ValueError) as error:
            warnings.warn(f"skipped {name}: {str(error).removeprefix(f'{name} ')}", stacklevel=2)
            continue
        if min(image.shape[:2]) < minimum_size:
            height, width = image.shape[:2]
            warnings.warn(
                f"skipped {name}: {width}x{height}, smaller than {minimum_size} pixels on a side", stacklevel=2
            )
            continue
        images.append(image)
    if not images:
        where = printable(folder) if isinstance(folder, (str, os.PathLike)) else "the list"
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
        with contextlib.suppress(OSError, ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is worth saying is said where the image is used
            height, width = load_image(path, dtype="uint8").shape[:2]
        name = printable(path.relative_to(root).as_posix())
        rows.append({"file": name, "sha256": sha256_of(path), "width": width, "height": height})
    return rows


def _as_files(folder: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    if isinstance(folder, (str, os.PathLike)):
        return image_files(folder)
    return [Path(file) for file in folder]


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
