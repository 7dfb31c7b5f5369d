"""The contract of every operator: a function on images, its parameters, and pairs to learn from."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..checks import as_numbers
from ..images import BORDERS, OVERSHOOT, AnyImage, as_batch, as_plain, to_numpy
from ..parameters import Parameter, Value, as_gamma, distinct

__all__ = ["Operator", "Operators", "Parameter", "as_operators", "broadcast"]

KINDS = ("filter", "restoration")
SETTINGS = {  # what the annotation of a function's keyword asks for
    "bool": "True or False",
    "str": "a word",
    "torch.Generator": "a torch.Generator",
    "int": "a whole number",
    "torch.Tensor | int": "whole numbers",
    "float": "a finite number",
    "torch.Tensor | float": "finite numbers",
    "tuple[float, float]": "2 finite numbers",
    "tuple[float, float, float]": "3 finite numbers",
}
PRECISIONS = (torch.float32, torch.float64)  # in half precision, solvers and thresholds give wrong pictures silently


def broadcast(value: float | torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """A number or one value per image as a tensor (B, 1, 1, 1) of the image's dtype and device."""
    value = (value if isinstance(value, torch.Tensor) else as_numbers(value, "a value")).to(image)
    if value.numel() not in (1, len(image)):
        raise ValueError(f"expected one value, or one per image ({len(image)}), got shape {tuple(value.shape)}")
    return value.reshape(-1, 1, 1, 1).expand(image.shape[0], 1, 1, 1)


@dataclass(frozen=True)
class Operator:
    """A parameterized image operator f(gamma, image).

    Call it as ``operator(image, value)``. For a filter that is what the network learns to imitate; for a
    restoration operator it is the degradation that the network learns to undo.

    Parameters
    ----------
    name, title : str
        Key in ``OPERATORS`` and name for people.
    function : callable
        ``function(image, *values, **settings)`` with ``image`` a tensor (B, 3, H, W) and each value a tensor
        (B,), on any device; restoration functions take ``generator=`` as well. Gives a tensor of the same shape.
    kind : {"filter", "restoration"}
    parameters : tuple of Parameter
        The parameters that are given by value, in the order of the call.
    optional_parameters : tuple of Parameter
        Settings that can become parameters, see `with_parameters`.
    settings : dict
        Keyword settings handed to the function in every call.
    minimum_size : int
        Smallest image side in pixels.
    target : callable, optional
        For a restoration operator whose answer is not the image as it came: ``target(image, **settings)`` gives what
        the network should answer (its luminance, for the gray benchmarks).
    border : {"edge", "symmetric", "wrap"}
        What the picture goes on as beyond its borders, see `images.extended`, so that answers inside stay as they are,
        or nearly: what a network of it may see there. "wrap": opposite borders are neighbours.
    differentiable : bool
        Automatic differentiation goes through `function` (not through a call of the operator), decisions taken as they
        are.
    """

    name: str
    title: str
    function: Callable
    kind: str = "filter"
    parameters: tuple[Parameter, ...] = ()
    optional_parameters: tuple[Parameter, ...] = ()
    settings: dict = field(default_factory=dict, hash=False)
    minimum_size: int = 4
    target: Callable | None = None
    border: str = "edge"
    differentiable: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.border not in BORDERS:
            raise ValueError(f"border must be one of {', '.join(BORDERS)}, got {self.border!r}")
        for name in ("parameters", "optional_parameters"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        distinct((*self.parameters, *self.optional_parameters), self.name)

    def __call__(self, image: AnyImage, value: Value = None, *, check_range: bool = True, **settings: Any) -> AnyImage:
        """Apply the operator.

        Parameters
        ----------
        image : tensor (B, 3, H, W) or ndarray (H, W, 3) or (B, H, W, 3), float32 or float64 in [0, 1]
            Arrays may be uint8 or float16 as well (computed in float32).
        value : number, sequence or tensor, optional
            A number, one value per image, or one row of values per image; None for the defaults.
        check_range : bool
            Refuse values outside the parameters' ranges (True), or let the function decide.
        **settings
            Keywords of the function; and, in place of `value`, parameters by their names, or as the function calls them
            (l0's ``lam``, since Python has its own ``lambda``).

        Returns
        -------
        Same kind as `image`, without a gradient (every network has one).

        Raises
        ------
        TypeError, ValueError
            Bad image, value or setting; the message says what was expected.
        """
        batch, restore = as_batch(image, minimum_size=self.minimum_size)
        if batch.dtype not in PRECISIONS:
            raise TypeError(f"image must be float32 or float64, got {batch.dtype}: convert it first")
        named, settings = self._sorted(settings)
        if named and value is not None:
            raise TypeError(f"{self.name} takes its parameters by value or by name, got both: leave one out")
        as_values = functools.partial(as_gamma, batch=len(batch), owner=self.name, check_range=check_range)
        gamma = as_values(value, parameters=self.parameters)
        for index, given in named.items():
            gamma[:, index] = as_values(given, parameters=self.parameters[index : index + 1])[:, 0]
        columns = gamma.to(batch).unbind(1)
        batch = batch.clone() if batch is image else batch  # a function of your own may work in place
        with torch.no_grad(), torch.autocast(batch.device.type, enabled=False):  # solvers need all digits
            return restore(self.function(batch, *columns, **settings))

    def _sorted(self, given: dict[str, Any]) -> tuple[dict[int, Any], dict[str, Any]]:
        """The keywords of a call: parameters by position; and all settings, checked by the function's annotations."""
        try:
            keywords = list(inspect.signature(self.function).parameters.values())[1:]
        except (TypeError, ValueError):  # compiled code need not tell
            return {}, {**self.settings, **given}
        by_place = [p.name for p in keywords if p.kind is p.POSITIONAL_OR_KEYWORD][: len(self.parameters)]
        places = {name: k for names in (by_place, [p.name for p in self.parameters]) for k, name in enumerate(names)}
        given = {**{name: value for name, value in self.settings.items() if name not in places}, **given}
        known = {p.name: p for p in keywords if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        named: dict[int, Any] = {}
        settings: dict[str, Any] = {}
        for name, value in given.items():
            if name in places:
                named[places[name]] = value
            elif name in known:
                usual = self.settings.get(name, known[name].default)
                settings[name] = _setting(value, known[name].annotation, usual, f"{name} of {self.name}")
            elif any(p.kind is p.VAR_KEYWORD for p in keywords):
                settings[name] = value
            else:
                words = dict.fromkeys([*(p.name for p in self.parameters), *list(known)[len(by_place) :]])
                raise TypeError(f"{self.name} has no setting {name!r}: choose from {', '.join(words) or 'none'}")
        return named, settings

    @property
    def is_gray(self) -> bool:
        """Whether its pairs are gray pictures, as those of the gray benchmarks: `target` with the setting `on`."""
        return self.target is not None and self.settings.get("on", "rgb") != "rgb"

    def sample(self, n: int, generator: torch.Generator | int | None = None, *, levels: int = 0) -> torch.Tensor:
        """Draw parameter values as in training, see `Parameter.sample`: tensor (n, m) on the CPU."""
        if not isinstance(generator, torch.Generator):
            generator = torch.Generator().manual_seed(0 if generator is None else int(generator))
        columns = [p.sample(n, generator, levels=levels) for p in self.parameters]
        return torch.stack(columns, dim=1) if columns else torch.zeros(n, 0, dtype=torch.float64)

    def make_pair(
        self,
        image: AnyImage,
        value: Value = None,
        generator: torch.Generator | int | None = None,
        *,
        check_range: bool = True,
        **settings: Any,
    ) -> tuple[AnyImage, AnyImage]:
        """What a network is shown and what it should answer.

        Returns
        -------
        (input, target)
            A filter: (image, filtered image). A restoration operator: (degraded image, clean image), the second
            one turned by `target` where the operator has that; the noise is drawn with `generator` (a CPU generator
            or a seed).
        """
        if self.kind == "filter":
            return image, self(image, value, check_range=check_range, **settings)
        if not isinstance(generator, torch.Generator):
            generator = torch.Generator().manual_seed(0 if generator is None else int(generator))
        shown = self(image, value, check_range=check_range, generator=generator, **settings)
        if self.target is None:
            return shown, image
        batch, restore = as_batch(image)
        return shown, restore(self.target(batch, **{**self.settings, **settings}))

    def with_parameters(self, *names: str) -> Operator:
        """The same operator with these of its settings given by value (RTV: lambda, sigma, ... of Table 4).

        Raises
        ------
        ValueError
            A name that is neither a parameter nor an optional one.
        """
        known = {p.name: p for p in (*self.parameters, *self.optional_parameters)}
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ValueError(f"{self.name} offers the parameters {', '.join(known) or 'none'}, got {list(names)}")
        if [p.name for p in self.parameters] != list(names[: len(self.parameters)]):
            raise ValueError(f"{self.name} needs {', '.join(p.name for p in self.parameters)} first, got {list(names)}")
        chosen = tuple(known[name] for name in names)
        extra = tuple(p.name for p in chosen[len(self.parameters) :])
        function = _WithParameters(self.function, len(self.parameters), extra)
        rest = tuple(p for p in self.optional_parameters if p.name not in extra)
        return replace(self, function=function, parameters=chosen, optional_parameters=rest)

    @staticmethod
    def from_function(
        function: Callable[..., np.ndarray],
        *,
        name: str,
        parameters: Sequence[Parameter] = (),
        title: str | None = None,
        kind: str = "filter",
        minimum_size: int = 4,
    ) -> Operator:
        """Make an operator of your own function on NumPy images, ready for training.

        Parameters
        ----------
        function : callable
            ``function(image, *values)`` with image an ndarray (H, W, 3) in [0, 1], a copy that it may change, and each
            value a float; gives an ndarray of the same shape, floating in [0, 1] or uint8.
        name : str
        parameters : sequence of Parameter
        title, kind, minimum_size
            See `Operator`.

        Raises
        ------
        TypeError, ValueError
            At the call: the function's result has another dtype or shape, is not finite, or lies far outside [0, 1].

        Examples
        --------
        >>> from skimage.restoration import denoise_tv_chambolle
        >>> tv = Operator.from_function(
        ...     lambda image, weight: denoise_tv_chambolle(image, weight=weight, channel_axis=-1),
        ...     name="tv", parameters=[Parameter("weight", 0.02, 0.5, sampling="log")])
        >>> tv(np.random.default_rng(0).random((16, 20, 3)), 0.1).shape
        (16, 20, 3)
        """
        return Operator(
            name=name,
            title=title or name,
            function=_OnArrays(function, name, kind),
            kind=kind,
            parameters=tuple(parameters),
            minimum_size=minimum_size,
        )


@dataclass(unsafe_hash=True)
class _OnArrays:
    """A user's function on arrays as one on tensors: pickled, hashed and told apart as that is."""

    function: Callable[..., np.ndarray]
    name: str
    kind: str

    def __post_init__(self):
        functools.update_wrapper(self, self.function, updated=())  # its source is what the operator is known by

    def __call__(self, image: torch.Tensor, *values: torch.Tensor, **settings: Any) -> torch.Tensor:
        results = []
        for index, one in enumerate(image):
            array = np.array(to_numpy(one))  # a copy: the function may work in place
            result = self.function(array, *(float(v[index]) for v in values), **settings)
            results.append(_as_tensor(result, one, f"the result of the function behind {self.name}", self.kind))
        return torch.stack(results)


@dataclass(unsafe_hash=True)
class _WithParameters:
    """A function with some of its keywords given by value, after its `count` own parameters."""

    function: Callable
    count: int
    keywords_by_value: tuple[str, ...]

    def __post_init__(self):
        functools.update_wrapper(self, self.function, updated=())

    def __call__(self, image: torch.Tensor, *values: torch.Tensor, **settings: Any) -> torch.Tensor:
        named = dict(zip(self.keywords_by_value, values[self.count :], strict=True))
        return self.function(image, *values[: self.count], **settings, **named)


def _setting(value: Any, annotation: Any, usual: Any, name: str) -> Any:
    """A setting as the function's annotation asks for; infinite only where its usual value is."""
    kind = (annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")).removesuffix(" | None")
    if kind not in SETTINGS or value is usual:
        return value
    simple: Any = {"bool": (bool, np.bool_), "str": str, "torch.Generator": torch.Generator}.get(kind)
    if simple:
        fits = isinstance(value, simple)
    else:
        numbers = as_numbers(value, name).detach()
        fits = bool(numbers.isfinite().all()) or (usual == np.inf and not bool(numbers.isnan().any()))
        fits = fits and ("int" not in kind or bool((numbers == numbers.round()).all()))
        shape = (kind.count("float"),) if kind.startswith("tuple") else ()
        fits = fits and (numbers.shape == shape or kind.startswith("torch"))
        value = numbers if kind.startswith("torch") else numbers.tolist()
    if not fits:
        raise (TypeError if simple else ValueError)(f"{name} must be {SETTINGS[kind]}, got {value!r}")
    return int(value) if kind == "int" else value


def _as_tensor(result: Any, image: torch.Tensor, owner: str, kind: str) -> torch.Tensor:
    """What a user's function gave for an image (3, H, W), checked, as a tensor like it."""
    array = np.asarray(as_plain(result, owner))
    shape = (*image.shape[1:], 3)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{owner} must be a finite array of shape {shape}, got shape {array.shape}")
    array = np.array(array / 255 if array.dtype == np.uint8 else array)  # a copy: it may use one array in every call
    low, high = float(array.min()), float(array.max())
    margin = OVERSHOOT if kind == "filter" else 4 * OVERSHOOT  # noise leaves the range by more
    if low < -margin or high > 1 + margin:
        raise ValueError(f"{owner} must lie in [0, 1], got [{low:.4g}, {high:.4g}]: divide by the value of white")
    return torch.from_numpy(array).permute(2, 0, 1).to(image)


Operators = Operator | Sequence[Operator] | Mapping[str, Operator]


def as_operators(operators: Operators) -> dict[str, Operator]:
    """One operator or several, in any form, by name.

    Raises
    ------
    ValueError
        None at all, or two of the same name.
    """
    if isinstance(operators, Operator):
        return {operators.name: operators}
    given = list(operators.values() if isinstance(operators, Mapping) else operators)
    found = {operator.name: operator for operator in given}
    if not given or len(found) < len(given):
        raise ValueError(f"expected operators with different names, got {[o.name for o in given] or 'none'}")
    return found
