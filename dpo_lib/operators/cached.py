"""Operators' answers on test images, kept on disk: every network of an operator is measured against the same ones."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..images import load_image, save_image, to_tensor
from .operator import Operator

PACKAGE = __package__  # the operators' folder


def kept_targets(operator: Operator, folder: str | os.PathLike | None) -> Operator:
    """The same filter, whose answers are read from `folder` if they are there, and put there if not.

    Parameters
    ----------
    operator : Operator
        A restoration operator comes back as it is: its targets cost nothing.
    folder : path or None
        One PNG per image and value, named by a hash of the image, the values, the settings and the source behind the
        operator, see `source_of`. None keeps nothing.

    Returns
    -------
    Operator
        Rounds its answers to 8 bits, as `evaluate` does before it compares.
    """
    if folder is None or operator.kind != "filter":
        return operator
    folder = Path(folder)

    @functools.wraps(operator.function)
    def function(image: torch.Tensor, *values: torch.Tensor, **settings) -> torch.Tensor:
        answers = []
        for one, *own in zip(image.split(1), *(value.split(1) for value in values), strict=True):
            path = folder / operator.name / f"{_key(operator, one, own, settings)}.png"
            try:
                answer = load_image(path)
                if answer.shape[:2] != tuple(one.shape[2:]):
                    raise ValueError(f"{path} has the shape {answer.shape[:2]}")
            except (OSError, ValueError):  # not there, or damaged
                save_image(path, operator.function(one, *own, **settings), clip=True)
                answer = load_image(path)
            answers.append(to_tensor(answer).to(one))
        return torch.cat(answers)

    return replace(operator, function=function)


def _key(operator: Operator, image: torch.Tensor, values: list[torch.Tensor], settings: dict) -> str:
    pixels = image.detach().cpu().float().contiguous().numpy()
    gamma = [f"{float(value):.17g}" for value in values]
    names = [parameter.name for parameter in operator.parameters]
    text = repr((source_of(operator), operator.name, pixels.shape, names, gamma, sorted(settings.items())))
    return hashlib.sha256(text.encode() + pixels.tobytes()).hexdigest()[:32]


def source_of(operator: Operator) -> str | None:
    """A hash of the source behind an operator; None, and once a warning, where there is none to see (compiled code).

    Of this library's operators that is their module with all modules of the folder that it imports, without comments
    and docstrings; of your own, the function, with the numbers and words that it holds (defaults, arguments given by
    functools.partial, variables of the function that it was made in) and its attribute ``version``, if it has one.
    """
    function: Any = operator.function
    held: list[Any] = []
    while wrapped := getattr(function, "__wrapped__", None) or getattr(function, "func", None):
        held += [getattr(function, "args", ()), tuple(sorted(getattr(function, "keywords", {}).items()))]
        function = wrapped
    held.insert(0, getattr(operator.function, "version", None) or getattr(function, "version", None))
    module = getattr(function, "__module__", None) or ""
    if module.startswith(PACKAGE + "."):
        source = _source_of_module(module)
    else:
        try:
            source = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
            closure = tuple(cell.cell_contents for cell in getattr(function, "__closure__", None) or ())
        except (OSError, TypeError, ValueError):
            _unseen(operator.name)
            return None
        keywords = getattr(function, "__kwdefaults__", None) or {}
        held += [getattr(function, "__defaults__", None), tuple(keywords.items()), closure]
    text = "".join(_in_words(value) for value in held if value)
    return hashlib.sha256((source + text).encode()).hexdigest() if text else source


def _in_words(value: object) -> str:
    """Numbers and words as they are, of what may change meanwhile the kind."""
    if isinstance(value, tuple):
        return repr([_in_words(part) for part in value])
    plain = value is None or isinstance(value, (int, float, complex, str, bytes))
    return repr(value) if plain else getattr(value, "__qualname__", type(value).__qualname__)


@functools.cache
def _unseen(name: str) -> None:
    """Say it once for each name."""
    warnings.warn(
        f"the source behind {name} cannot be seen (compiled code, or a prompt): runs and kept targets know it by its "
        "name, parameters and settings, so choose other folders, or empty them, when the function changes",
        stacklevel=3,
    )


@functools.cache
def _source_of_module(name: str) -> str:
    """Of a module of this folder and all that it imports from here."""
    digest, seen, waiting = hashlib.sha256(), set(), [name]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        text = Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")
        package = module.rpartition(".")[0]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level:
                found = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                if found.startswith(PACKAGE + "."):
                    waiting.append(found)
    for module in sorted(seen):
        digest.update(_code(Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def _code(text: str) -> str:
    """A module's syntax tree, in which comments and docstrings do not count."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
