"""Named data sets that are downloaded when you ask for them."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..progress import progress_bar


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
            settings = {"total": total, "initial": done if goes_on else 0, "unit": "B", "unit_scale": True}
            bar = progress_bar(progress=self.progress, **settings)
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
                if not member.isfile() or path.parent != PurePosixPath(inside) or path.name == "..":
                    continue
                # only the last part of the name is used: no member can be written outside the folder
                if (source := tar.extractfile(member)) is not None:
                    with source, open(temporary / path.name, "wb") as target:
                        shutil.copyfileobj(source, target)
                    count += 1
        if not count:
            raise ValueError(f"{archive} holds no file in {inside}: not the expected archive")
        temporary.chmod(0o755)
        os.replace(temporary, destination)
    except tarfile.TarError as error:
        raise ValueError(f"{archive} is damaged, or no tar archive ({error}): remove it and call again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
