"""Operators by name: the library's, and your own in modules of yours."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..text import nearest
from . import OPERATORS
from .operator import Operator, Parameter


def find_operator(name: str, parameters: Sequence[Parameter] = (), *, called: str = "") -> Operator:
    """An operator of the library by its name, or one of your own as ``module:name``, sought in this folder, too.

    Parameters
    ----------
    name : str
        The module holds an `Operator`, or a function ``function(image, *values)`` on images (H, W, 3).
    parameters, called
        Of that function, in the order of its call; default: none, and its own name.

    Raises
    ------
    ValueError
        Nothing of that name, or a function that does not take these parameters in this order.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        if name not in OPERATORS:
            known = f"{', '.join(OPERATORS)}, or name your own as module:function"
            raise ValueError(f"there is no operator {name!r}{nearest(name, OPERATORS)}: choose from {known}")
        return OPERATORS[name]
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        where = "expected module:function, the module in this folder or on PYTHONPATH"
        raise ValueError(f"there is no operator {name!r} ({error}): {where}") from error
    finally:
        sys.path.remove(os.getcwd())
    if isinstance(found, Operator):
        return found
    if not callable(found):
        raise ValueError(f"{name!r} must be an Operator or a function on images, got {type(found).__name__}")
    _check_call(found, name, [parameter.name for parameter in parameters])
    return Operator.from_function(found, name=called or attribute, parameters=parameters)


def _check_call(function: Callable, name: str, parameters: list[str]) -> None:
    """Refuse parameters that the function does not take, or that would be handed over in each other's place."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # compiled code need not tell
        return
    order = ", ".join(["image", *parameters])
    try:
        taken = list(signature.bind(None, *parameters).arguments)[1:]
    except TypeError as error:
        raise ValueError(f"{name} is called as ({order}), but {error}: name its parameters") from error
    if wrong := [p for p, place in zip(parameters, taken, strict=False) if p != place and p in signature.parameters]:
        raise ValueError(f"{name} is called as ({order}), but takes {signature}: {wrong[0]} has another place there")


def operators_of(network: Any) -> dict[str, Operator]:
    """The operators of a network by name, see `find_operator`: your own, where its card says their ``module:name``."""
    sources, operators = getattr(network, "card", {}).get("sources", {}), getattr(network, "operators", {})
    return {name: find_operator(sources.get(name, name), of, called=name) for name, of in operators.items()}
