"""Files that are written whole or not at all, and their names."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: what killed writers leave is not removed, and two processes may share a folder
    fcntl = None  # type: ignore[assignment]

LONGEST_PART = 32  # of a name, in characters: whatever the alphabet, a temporary name stays below 255 bytes
SETTLED_S = 60  # a younger file may belong to a writer that has not locked it yet


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there if the block ends well, remove it if not.

    A new file gets the permissions that the umask leaves, an old one keeps its own. What a killed process left of an
    earlier writing of the same file is removed.

    Parameters
    ----------
    path : str or path
        A symbolic link stays one: the file that it names is written. Missing folders are made.

    Yields
    ------
    Path
        To write to; it has the suffix of `path`.

    Raises
    ------
    OSError
        `path` is a folder, a device, a pipe, or a link in a circle; or the folder cannot be written, or the disk is
        full (`path` is named).

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> with write_atomically(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']
    """
    target = _regular_target(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.stem[:LONGEST_PART]}-"
    suffix = target.suffix if len(target.suffix) <= LONGEST_PART else ""
    _remove_leftovers(target.parent, prefix, suffix)
    temporary = target.with_name(f"{prefix}{secrets.token_hex(4)}{suffix}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _lock(file)
            yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, f"{error.strerror} while this was written", os.fspath(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _regular_target(path: str | os.PathLike) -> Path:
    """Where the links of `path` lead; only to a regular file, or to a place where nothing is yet."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, "symbolic links in a circle, expected the name of a file", os.fspath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder, expected the name of a file", os.fspath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "a device or pipe, expected the name of a file", os.fspath(path))
    return target


def _lock(file: BinaryIO) -> bool:
    """Mark a file as being written, until it is closed or its process ends; False if another one has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another's, or a file system without locks
        return False
    return True


def _remove_leftovers(folder: Path, prefix: str, suffix: str) -> None:
    """Remove temporary files whose writers were killed."""
    name = re.compile(re.escape(prefix) + "[0-9a-f]{8}" + re.escape(suffix))
    with os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]:
            with contextlib.suppress(OSError), open(path, "rb+") as file:  # it may have gone in the meantime
                if time.time() - path.stat().st_mtime > SETTLED_S and _lock(file):
                    path.unlink()


def printable(path: str | os.PathLike) -> str:
    """A path for messages and tables: bytes that are no UTF-8 are shown escaped.

    >>> printable("caf\\udce9.png")
    'caf\\\\udce9.png'
    """
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")


def writable_folder(
    path: str | os.PathLike, *, apart_from: Iterable[str | os.PathLike] = (), room: int = 2**20
) -> Path:
    """Make a folder if it is missing, and check that files can be written there.

    Parameters
    ----------
    path : str or path
    apart_from : iterable of path
        Folders of input: the output folder may neither lie in one of them, where the next run would read the results,
        nor hold one of them. Files among them do not matter.
    room : int
        Bytes that the disk must have left.

    Raises
    ------
    OSError
        Says which folder cannot be written, or has no room left, before any work is lost.
    ValueError
        It lies in an input folder, or around it.
    """
    path = Path(path)
    _refuse_inside(path, apart_from, around=True)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"output folder {path} is a file: choose another")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(f"output folder {path} cannot be written ({error.strerror}): choose another") from error
    if (free := shutil.disk_usage(path).free) < room:
        raise OSError(
            errno.ENOSPC, f"{room / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB left: choose another disk", str(path)
        )
    return path


@contextlib.contextmanager
def locked(folder: str | os.PathLike, name: str = "lock") -> Iterator[None]:
    """Hold a folder by its file `name`, where the system can; a BlockingIOError says that another process does."""
    folder = writable_folder(folder)
    with open(folder / name, "wb") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(f"another process is at work in {folder}") from error
        yield


def writable_file(path: str | os.PathLike, *, apart_from: Iterable[str | os.PathLike] = ()) -> Path:
    """Check that a file can be written, and make the folder it goes to; see `writable_folder`."""
    path = Path(path)
    _refuse_inside(path, apart_from)
    if path.is_dir():
        raise IsADirectoryError(f"output file {path} is a folder: give the name of a file")
    writable_folder(_regular_target(path).parent)
    return path


def _refuse_inside(path: Path, folders: Iterable[str | os.PathLike], *, around: bool = False) -> None:
    here = Path(os.path.realpath(path))
    for folder in map(Path, folders):
        if folder.is_dir():
            there = Path(os.path.realpath(folder))
            if here == there or there in here.parents:
                raise ValueError(f"output {path} lies in the input folder {folder}: choose another place")
            if around and here in there.parents:
                raise ValueError(f"output folder {path} holds the input folder {folder}: choose another place")


def sha256_of(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
