"""Operators' answers on test images, kept on disk: every network of an operator is measured against the same ones."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch

from ..images import load_image, save_image, to_tensor
from .operator import Operator


def kept_targets(operator: Operator, folder: str | os.PathLike | None) -> Operator:
    """The same filter, whose answers are read from `folder` if they are there, and put there if not.

    Parameters
    ----------
    operator : Operator
        A restoration operator comes back as it is: its targets cost nothing.
    folder : path or None
        One PNG per image and value, named by a hash of the image, the values, the settings and the source of this
        library's operators. An operator of your own is known by its name only: empty the folder when its code changes.
        None keeps nothing.

    Returns
    -------
    Operator
        Rounds its answers to 8 bits, as `evaluate` does before it compares.
    """
    if folder is None or operator.kind != "filter":
        return operator
    folder = Path(folder)

    def function(image: torch.Tensor, *values: torch.Tensor, **settings) -> torch.Tensor:
        answers = []
        for one, *own in zip(image.split(1), *(value.split(1) for value in values), strict=True):
            path = folder / operator.name / f"{_key(operator, one, own, settings)}.png"
            try:
                answer = load_image(path)
            except (OSError, SyntaxError):  # not there, or damaged
                save_image(path, operator.function(one, *own, **settings))
                answer = load_image(path)
            answers.append(to_tensor(answer).to(one))
        return torch.cat(answers)

    return replace(operator, function=function)


def _key(operator: Operator, image: torch.Tensor, values: list[torch.Tensor], settings: dict) -> str:
    pixels = image.detach().cpu().float().contiguous().numpy()
    gamma = [f"{float(value):.17g}" for value in values]
    names = [parameter.name for parameter in operator.parameters]
    text = repr((_source(Path(__file__).parent), operator.name, pixels.shape, names, gamma, sorted(settings.items())))
    return hashlib.sha256(text.encode() + pixels.tobytes()).hexdigest()[:32]


@functools.cache
def _source(folder: Path) -> str:
    """A hash of the source of all operators, and of what they share, in the folders below; not of this file."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        if file != Path(__file__):
            digest.update(file.read_bytes())
    return digest.hexdigest()
