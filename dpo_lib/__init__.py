"""Decoupled learning of parameterized image operators: one network for every value of the parameter.

>>> import dpo_lib
>>> from dpo_lib.data import embedded_images
>>> image = embedded_images()["coffee"]
>>> net = dpo_lib.load_pretrained("l0")
>>> net(image, 0.02).shape == image.shape
True
"""

import importlib
import importlib.util
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers see; at run time the names are imported when they are first used
    from .apply import smooth
    from .evaluation import evaluate, summarise
    from .images import load_image, save_image
    from .metrics import psnr, ssim
    from .models import BaseNetwork, DecoupledNetwork, PlainNetwork, SingleLayerTuner, WeightLearningNetwork
    from .models.pretrained import load_network, load_pretrained, pretrained_names, save_network
    from .operators import OPERATORS, Operator, Parameter
    from .training import SCALES, TrainConfig, train

    __version__: str

__all__ = [
    "OPERATORS",
    "SCALES",
    "BaseNetwork",
    "DecoupledNetwork",
    "Operator",
    "Parameter",
    "PlainNetwork",
    "SingleLayerTuner",
    "TrainConfig",
    "WeightLearningNetwork",
    "evaluate",
    "load_image",
    "load_network",
    "load_pretrained",
    "pretrained_names",
    "psnr",
    "save_image",
    "save_network",
    "smooth",
    "ssim",
    "summarise",
    "train",
]

_HOMES = ("images", "metrics", "operators", "models", "models.pretrained", "training", "evaluation", "apply")


def __getattr__(name: str) -> Any:
    """A public name or a module of this package, imported at its first use: `import dpo_lib` alone takes no time."""
    if name == "__version__":
        globals()[name] = _version()
        return globals()[name]
    if name in __all__:
        modules = (importlib.import_module(f".{home}", __name__) for home in _HOMES)
        globals()[name] = next(getattr(module, name) for module in modules if hasattr(module, name))
        return globals()[name]
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    """What the installed package's metadata say; pyproject.toml is the only place where the number is written."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(__name__)
    except PackageNotFoundError:
        return "unknown (not installed)"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *(module.name for module in pkgutil.iter_modules(__path__))})
