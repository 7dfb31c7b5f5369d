"""The operators: one file each, one table of all. A new operator is one new file and one line here."""

from . import (
    deblock,
    denoise,
    denoise_color,
    derain,
    l0,
    llf,
    llf_remap,
    pencil,
    rgf,
    rtv,
    shock,
    stylization,
    super_resolution,
    wls,
    wls_enhance,
    wmf,
)
from .operator import Operator, Parameter

# filters with a parameter, effects without one, restoration tasks: the order of the paper's tables
OPERATORS: dict[str, Operator] = {
    "l0": l0.OPERATOR,
    "wls": wls.OPERATOR,
    "rtv": rtv.OPERATOR,
    "rgf": rgf.OPERATOR,
    "wmf": wmf.OPERATOR,
    "llf": llf.OPERATOR,
    "shock": shock.OPERATOR,
    "llf_remap": llf_remap.OPERATOR,
    "wls_enhance": wls_enhance.OPERATOR,
    "stylization": stylization.OPERATOR,
    "pencil": pencil.OPERATOR,
    "super_resolution": super_resolution.OPERATOR,
    "denoise": denoise.OPERATOR,
    "denoise_color": denoise_color.OPERATOR,
    "deblock": deblock.OPERATOR,
    "derain": derain.OPERATOR,
}

__all__ = ["OPERATORS", "Operator", "Parameter"]
