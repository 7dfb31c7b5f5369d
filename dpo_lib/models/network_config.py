"""The form of a network: which layers, what is generated, how it is told the parameter."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..images import BORDERS
from .base_network import NORMALISATIONS, OUTPUTS, BaseNetwork
from .layers import DILATIONS, PADDINGS, WIDTHS, dilated_layers, pyramid_layers

BASES = {"dilated": "instance", "pyramid": "kernel"}  # and how each is normalised unless told otherwise
RESCALINGS = ("linear", "log")
OPERATOR_CODES = ("number", "one_hot", "embedding")
MODELS = ("decoupled", "input_channels", "film", "base_only", "interpolation", "adafm")
TUPLES = ("dilations", "widths", "trunk")
LAYERS, LEVELS = 64, 8  # at most
LAST_KERNELS = (1, 3)


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that the form of a network depends on, besides its operators. Checks itself.

    Parameters
    ----------
    model : {"decoupled", "input_channels", "film", "base_only", "interpolation", "adafm"}
        The paper's, or a baseline, see `models.baselines.build_model`.
    base : {"dilated", "pyramid"}
        The paper's layers (`dilated_layers`), or those made for little compute (`pyramid_layers`).
    width, dilations, depthwise
        Of the dilated base network.
    widths, blocks, tail, last_kernel
        Of the pyramid.
    normalisation, output
        See `BaseNetwork`. Default normalisation: "instance" for the dilated base network, "kernel" for the pyramid.
    padding : {"replicate", "zeros"}
        What the convolutions see beyond the border (paper: zeros).
    border, margin
        What a picture is taken to be beyond its borders, and how many pixels (up to 4096) of that are laid around it
        first, see `BaseNetwork`. Default: "edge" and none, but training may choose, see
        `training.learner.build_network`.
    equalised : bool
        The network sees the rank of each pixel's luminance in its picture, see `BaseNetwork`.
    rescaling, operator_code
        See `GammaCode` (paper: "linear", "number").
    generated, hidden, relu, trunk
        See `WeightLearningNetwork`.

    Raises
    ------
    ValueError
        A value that is none of these; all problems in one message.
    """

    model: str = "decoupled"
    base: str = "dilated"
    width: int = 64
    dilations: tuple[int, ...] = DILATIONS
    depthwise: bool = False
    widths: tuple[int, ...] = WIDTHS
    blocks: int = 2
    tail: int = 0
    last_kernel: int = 3
    normalisation: str = ""
    output: str = "residual"
    padding: str = "replicate"
    border: str = ""
    margin: int | None = None
    equalised: bool = False
    rescaling: str = "log"
    operator_code: str = "one_hot"
    generated: str = "conv(all)"
    hidden: int = 0
    relu: bool = True
    trunk: tuple[int, ...] = ()

    def __post_init__(self):
        choices = {
            "model": MODELS, "base": tuple(BASES), "output": tuple(OUTPUTS), "padding": PADDINGS,
            "rescaling": RESCALINGS, "operator_code": OPERATOR_CODES,
        }  # fmt: skip
        problems = [
            f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
            for name, known in choices.items()
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in known
        ]
        for name in TUPLES:
            given = getattr(self, name)
            object.__setattr__(self, name, tuple(given) if isinstance(given, list) else given)
        if not isinstance(self.normalisation, str) or self.normalisation not in ("", *NORMALISATIONS):
            problems.append(f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {self.normalisation!r}")
        if type(self.last_kernel) is not int or self.last_kernel not in LAST_KERNELS:
            problems.append(f"last_kernel must be 1 or 3, got {self.last_kernel!r}")
        if not problems and self.base == "dilated" and self.normalisation == "kernel":
            problems.append("the dilated base network has instance normalisation only")
        trunk = (1,) if isinstance(self.trunk, tuple) and not self.trunk else self.trunk
        counts = {  # and the largest that makes sense: more would take minutes to build, or all memory
            "width": ((self.width,), 4096), "dilations": (self.dilations, 256), "widths": (self.widths, 4096),
            "blocks": ((self.blocks,), LAYERS), "trunk": (trunk, 4096),
        }  # fmt: skip
        problems += [
            f"{name} must be positive whole numbers up to {most}, at most {LAYERS} of them, got {getattr(self, name)!r}"
            for name, (numbers, most) in counts.items()
            if not isinstance(numbers, tuple)
            or not 1 <= len(numbers) <= LAYERS
            or not all(type(n) is int and 1 <= n <= most for n in numbers)
        ]
        if isinstance(self.widths, tuple) and len(self.widths) > LEVELS:
            problems.append(f"widths must be those of at most {LEVELS} levels, got {len(self.widths)}")
        if not isinstance(self.border, str) or self.border not in ("", *BORDERS):
            problems.append(f"border must be one of {', '.join(BORDERS)}, got {self.border!r}")
        sizes = {"tail": self.tail, "hidden": self.hidden, "margin": 0 if self.margin is None else self.margin}
        problems += [
            f"{name} must lie in [0, 4096], got {size!r}"
            for name, size in sizes.items()
            if type(size) is not int or not 0 <= size <= 4096
        ]
        kinds = {"depthwise": bool, "relu": bool, "equalised": bool, "generated": str}
        problems += [
            f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}"
            for name, kind in kinds.items()
            if type(getattr(self, name)) is not kind
        ]
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def normalised_by(self) -> str:
        """The normalisation that is meant: the base network's own where none is named."""
        return self.normalisation or BASES[self.base]

    def base_network(self, codes: int = 0) -> BaseNetwork:
        """The untrained base network, with `codes` extra input channels."""
        channels = {"inputs": 3 + self.equalised, "outputs": OUTPUTS[self.output]}
        settings: dict[str, Any] = {"codes": codes, "padding": self.padding, **channels}
        if self.base == "pyramid":
            layers = pyramid_layers(
                widths=self.widths, blocks=self.blocks, tail=self.tail, last_kernel=self.last_kernel, **settings
            )
        else:
            layers = dilated_layers(width=self.width, dilations=self.dilations, depthwise=self.depthwise, **settings)
        form: dict[str, Any] = {"normalisation": self.normalised_by, "output": self.output}
        form |= {"border": self.border or "edge", "margin": self.margin or 0}
        return BaseNetwork(layers, codes=codes, equalised=self.equalised, **form)

    @property
    def last_is_zero(self) -> bool:
        """Whether the last convolution starts at zero, so that the untrained network gives back the image."""
        return self.output != "direct"

    def describe(self) -> str:
        """The base network in words.

        >>> NetworkConfig(width=32).describe()
        'dilated base network, 32 channels, instance normalisation, residual output'
        """
        channels = ", ".join(map(str, self.widths)) if self.base == "pyramid" else str(self.width)
        blocks = ", depth-wise blocks" if self.base == "dilated" and self.depthwise else ""
        form = f"{self.base} base network, {channels} channels{blocks}"
        sees = ", sees luminance ranks" if self.equalised else ""
        return f"{form}, {self.normalised_by} normalisation, {self.output} output{sees}"

    @classmethod
    def from_file(cls, stored: dict) -> NetworkConfig:
        """What a weight file says: also files from before base networks were a choice.

        Raises
        ------
        ValueError
            A setting that this version does not know.
        """
        stored = dict(stored)
        if "base" not in stored and "dilations" in stored:
            stored = {"padding": "zeros", "base": "dilated", **stored}
            stored["output"] = "residual" if stored.pop("residual_output", True) else "direct"
        if "wrap" in stored:  # until borders other than periodic ones could be chosen
            margin = stored.pop("wrap") or 0
            stored |= {"border": "wrap" if margin else "edge", "margin": margin}
        unknown = stored.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown setting(s) of a network: {', '.join(sorted(unknown))}: update dpo_lib")
        return cls(**stored)
