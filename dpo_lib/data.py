"""Where images come from: scikit-image's wheel, a folder of yours, or a named data set that you ask for.

Nothing is read or fetched at import. Images come as uint8 arrays ``(H, W, 3)``, a quarter of the memory of floats;
`dpo_lib.images.to_tensor` turns one into a batch.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from .files import sha256_of

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")

# the photographs among the colour pictures of scikit-image's wheel; the rest are scans, charts and logos
EMBEDDED = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}


@dataclass(frozen=True)
class Dataset:
    """A data set that users download themselves.

    Parameters
    ----------
    base_url, archive, md5 : str
        The tar archive lies at ``base_url/archive`` and has this MD5.
    images : str
        The folder inside the archive whose files are the photographs.
    terms : str
        Where from, and under which terms.
    """

    base_url: str
    archive: str
    md5: str
    images: str
    terms: str


DATASETS = {
    "voc2012": Dataset(
        base_url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012",
        archive="VOCtrainval_11-May-2012.tar",
        md5="6cd6e144f989b92b3379bac3b3de84fd",
        images="VOCdevkit/VOC2012/JPEGImages",
        terms="PASCAL VOC 2012 trainval (Everingham et al.), 17,125 photos from Flickr under Flickr's terms, 2 GB",
    ),
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


def fetch_dataset(
    name: str,
    *,
    folder: str | os.PathLike | None = None,
    base_url: str | None = None,
    md5: str | None = None,
    progress: bool = True,
) -> Path:
    """Download a named data set, check it, and unpack its photographs.

    An interrupted download is gone on with at the next call; what is there already is not fetched again.

    Parameters
    ----------
    name : str
        A key of `DATASETS`: ``"voc2012"`` (2 GB).
    folder : path, optional
        Where to keep it. Default: the user's cache folder.
    base_url : str, optional
        A mirror: the archive is looked for at ``base_url/archive``.
    md5 : str, optional
        The mirror's own checksum. Default: the published one.
    progress : bool
        Show a bar.

    Returns
    -------
    Path
        The folder of photographs, ready for `load_folder`.

    Raises
    ------
    ValueError
        An unknown name, a wrong checksum, or an archive without the photographs.
    OSError
        The download failed; says from where, and what to do.
    """
    if name not in DATASETS:
        raise ValueError(f"known data sets are {', '.join(DATASETS)}, got {name!r}")
    import pooch

    dataset = DATASETS[name]
    folder = Path(folder) if folder is not None else Path(pooch.os_cache("dpo_lib"))
    images = folder / name
    if images.is_dir():
        return images
    archive = pooch.retrieve(
        f"{(base_url or dataset.base_url).rstrip('/')}/{dataset.archive}",
        known_hash=f"md5:{md5 or dataset.md5}",
        fname=dataset.archive,
        path=folder,
        downloader=_ResumingDownloader(folder / f"{dataset.archive}.part", progress=progress),
    )
    _unpack(Path(archive), dataset.images, images)
    return images


class _ResumingDownloader:
    """What pooch calls to fetch a file: keeps what has come in `part`, and asks for the rest only."""

    def __init__(self, part: Path, *, progress: bool):
        self.part, self.progress = part, progress

    def __call__(self, url: str, output_file, pooch) -> None:
        try:
            self._fetch(url)
        except (OSError, urllib.error.URLError) as error:
            raise OSError(
                f"download of {url} failed ({error}): check the connection and call again to go on, "
                "or name a mirror with base_url="
            ) from error
        os.replace(self.part, output_file)

    def _fetch(self, url: str) -> None:
        from tqdm.auto import tqdm

        done = self.part.stat().st_size if self.part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        try:
            reply = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not done:
                raise
            self.part.unlink()  # longer than the file itself, so no beginning of it
            return self._fetch(url)
        with reply:
            goes_on = done and reply.status == 206
            length = reply.headers.get("Content-Length")
            total = None if length is None else int(length) + (done if goes_on else 0)
            bar = tqdm(
                total=total, initial=done if goes_on else 0, unit="B", unit_scale=True, disable=not self.progress
            )
            with open(self.part, "ab" if goes_on else "wb") as file, bar:
                while block := reply.read(1 << 20):
                    file.write(block)
                    bar.update(len(block))
        if total is not None and self.part.stat().st_size != total:
            raise OSError(f"{self.part.stat().st_size} of {total} bytes came")


def _unpack(archive: Path, inside: str, destination: Path) -> None:
    """Unpack the files of one folder of a tar archive, all or none."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        count = 0
        with tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                # only the last part of the name is used: no member can be written outside the folder
                if member.isfile() and path.parent == PurePosixPath(inside):
                    with tar.extractfile(member) as source, open(temporary / path.name, "wb") as target:
                        shutil.copyfileobj(source, target)
                    count += 1
        if not count:
            raise ValueError(f"{archive} holds no file in {inside}: not the expected archive")
        temporary.chmod(0o755)
        os.replace(temporary, destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
