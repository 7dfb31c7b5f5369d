"""Networks and classic operators used: on an array, and over photographs in files, where what goes."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from .data.sources import image_files
from .files import printable
from .images import SUFFIXES, load_image, save_image, to_tensor
from .models.parameterized import ParameterizedNetwork
from .models.pretrained import load_pretrained
from .operators.operator import Operator
from .parameters import Parameter, Value, as_gamma
from .progress import progress_bar

FORMATS = ("png", "jpg", "tif", "webp", "bmp")


def smooth(image: np.ndarray, operator: str = "l0", value: Value = None) -> np.ndarray:
    """What an operator makes of an image, by its shipped network; of a damage (``"denoise"``), the image without it.

    Parameters
    ----------
    image : ndarray (H, W), (H, W, 3) or (B, H, W, 3), floating in [0, 1] or uint8
        At least 16 pixels a side.
    operator : str
        Whose network, see `pretrained_names`: l0, wls, rtv, rgf, wmf, llf, denoise, deblock, super_resolution, derain.
    value : number or sequence, optional
        Of its parameter, in its unit; None for the default. A network is loaded once.

    Returns
    -------
    ndarray of the same shape and dtype

    Examples
    --------
    >>> smooth(np.random.default_rng(0).random((32, 48)), "wls", 1.0).shape
    (32, 48)
    """
    network = _shipped(operator)
    if np.ndim(image) != 2:
        return network(image, value)
    return np.median(network(np.stack([image] * 3, axis=-1), value), axis=-1).astype(image.dtype)


_shipped = functools.lru_cache(load_pretrained)


@dataclass
class Applied:
    """What `apply_to_files` did.

    Parameters
    ----------
    written : list of Path
    failed : dict
        Photograph to the reason why nothing was written for it.
    """

    written: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)


def image_function(
    what: ParameterizedNetwork | Operator, values: Sequence[float] | None = None, *, task: str | None = None
) -> tuple[Callable[[torch.Tensor], torch.Tensor], str]:
    """A network or an operator at one parameter value, as a function of a tensor (1, 3, H, W) in [0, 1].

    Parameters
    ----------
    what : ParameterizedNetwork or Operator
        A filter; for the restoration tasks a network, since their operators are the damage.
    values : sequence of float, optional
        One number per parameter, or the first one's alone; None for the defaults.
    task : str, optional
        Which operator, for a network that knows several.

    Returns
    -------
    (function, description)
        The description names operator and values, for people.

    Raises
    ------
    ValueError
        A wrong value, a wrong or missing task, or a restoration operator.
    """
    if isinstance(what, Operator):
        if what.kind != "filter":
            raise ValueError(f"the operator {what.name} is the damage that a network undoes: give --model {what.name}")
        if task is not None:
            raise ValueError(f"--task chooses an operator of a network, got the operator {what.name} alone")
        name, parameters = what.name, what.parameters
    else:
        name = _task_of(what, task)
        parameters = what.operators[name]
    gamma = _gamma(values, parameters, name)
    words = ", ".join(f"{p.name} {float(v):g}" for p, v in zip(parameters, gamma[0], strict=True))
    description = f"{name} at {words}" if words else name
    if isinstance(what, Operator):
        return (lambda image: what(image, gamma if parameters else None)), description
    given = gamma if parameters else None
    return (lambda image: what(image, given, operator=name)), description


def _task_of(network: ParameterizedNetwork, task: str | None) -> str:
    names = list(network.operators)
    if task is None and len(names) > 1:
        raise ValueError(f"the network knows {', '.join(names)}: choose one with --task")
    if task is not None and task not in names:
        raise ValueError(f"the network knows {', '.join(names)}, got {task!r}")
    return names[0] if task is None else task


def _gamma(values: Sequence[float] | None, parameters: Sequence[Parameter], name: str) -> torch.Tensor:
    if values and parameters and len(values) not in (1, len(parameters)):
        names = ", ".join(p.name for p in parameters)
        raise ValueError(f"{name} takes {len(parameters)} value(s) ({names}), got {len(values)}")
    value = None if not values else values[0] if len(values) == 1 else list(values)
    return as_gamma(value, parameters=parameters, batch=1, owner=name)


def output_paths(
    inputs: Sequence[str | os.PathLike], out: str | os.PathLike, *, file_format: str = "png", overwrite: bool = False
) -> list[tuple[Path, Path]]:
    """Which photograph becomes which file: the stem and the folders below an input folder are kept.

    Parameters
    ----------
    inputs : sequence of path
        Photographs, and folders of them (read as by `image_files`).
    out : path
        The folder for the results.
    file_format : {"png", "jpg", "tif", "webp", "bmp"}
        Their suffix.
    overwrite : bool
        Allow results to replace files of an earlier run. A photograph among the inputs is never replaced.

    Returns
    -------
    list of (photograph, result)

    Raises
    ------
    FileNotFoundError
        No such photograph or folder, or a folder without photographs.
    ValueError
        Two photographs with one result, a result that would replace a photograph, or (without `overwrite`) any file.

    Examples
    --------
    >>> [target.as_posix() for _, target in output_paths([], "smooth")]
    []
    """
    out, pairs = Path(out), []
    for given in map(Path, inputs):
        if given.is_dir():
            found = [(path, path.relative_to(given)) for path in image_files(given)]
        elif not given.exists():
            raise FileNotFoundError(f"there is no photograph or folder {given}: check the path")
        elif given.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{given} is no photograph: expected a name ending in {', '.join(SUFFIXES)}")
        else:
            found = [(given, Path(given.name))]
        pairs += [(path, out / below.with_suffix(f".{file_format}")) for path, below in found]
    pairs = list(dict.fromkeys(pairs))  # a photograph that is named beside its folder is done once
    _refuse_clashes(pairs, overwrite)
    return pairs


def _refuse_clashes(pairs: Sequence[tuple[Path, Path]], overwrite: bool) -> None:
    photographs = {_identity(source) for source, _ in pairs}
    owners: dict[str, Path] = {}
    for source, target in pairs:
        owner = owners.setdefault(str(target).casefold(), source)  # some file systems take A.png for a.png
        if _identity(owner) != _identity(source):
            raise ValueError(f"{owner} and {source} would both become {target}: rename one, or run them apart")
        if target.exists() and _identity(target) in photographs:
            raise ValueError(f"{target} is one of the photographs and would be replaced: choose another --out")
        if target.exists() and not overwrite:
            raise ValueError(f"{target} is there already: choose another --out, or allow it with --overwrite")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()  # the same through links, and where capitals do not count
    return found.st_dev, found.st_ino


def apply_to_files(
    function: Callable[[torch.Tensor], torch.Tensor],
    pairs: Sequence[tuple[Path, Path]],
    *,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Applied:
    """Read, answer and write one photograph after the other; what cannot be read or written is named and left out.

    Parameters
    ----------
    function : callable
        Tensor (1, 3, H, W) in [0, 1] to the same.
    pairs : sequence of (photograph, result)
        Of `output_paths`.
    device : str or torch.device
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    Applied

    Notes
    -----
    Results have 8 bits per channel, whatever the photograph has; a deeper one is computed on in its own depth, as
    floats, and rounded at the end. Metadata is not copied; a camera's rotation mark is applied to the pixels.
    """
    done = Applied()
    with progress_bar(pairs, unit="photo", progress=progress) as bar:
        for source, target in bar:
            bar.set_postfix_str(printable(source.name))
            try:
                notes = _apply_to_file(function, source, target, device)
            except (OSError, ValueError, MemoryError) as error:
                done.failed[source] = _in_one_line(error).removeprefix(f"{printable(source)} ")
                tqdm.write(f"skipped {printable(source)}: {done.failed[source]}", file=sys.stderr)
            else:
                done.written.append(target)
                for note in notes:
                    tqdm.write(f"note: {note}", file=sys.stderr)
    return done


def _apply_to_file(
    function: Callable[[torch.Tensor], torch.Tensor], source: Path, target: Path, device: str | torch.device
) -> list[str]:
    """Do one photograph; what the reader and the writer warn of."""
    with warnings.catch_warnings(record=True) as notes, torch.no_grad():
        warnings.simplefilter("always", UserWarning)
        image = to_tensor(load_image(source)).to(device)
        try:
            result = function(image)
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            raise MemoryError(f"memory is too short for {image.shape[3]}x{image.shape[2]} pixels") from error
        save_image(target, result, clip=True)
    return [_in_one_line(note.message) for note in notes if issubclass(note.category, UserWarning)]


def _in_one_line(error: BaseException | str) -> str:
    return " ".join(str(error).split()) or type(error).__name__
