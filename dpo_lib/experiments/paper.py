"""The numbers that the paper prints, by table, for showing them beside ours.

Fan, Chen, Yuan, Hua, Yu, Chen, "A general decoupled learning framework for parameterized image operators", TPAMI 2021,
doi:10.1109/TPAMI.2019.2925793. Peak signal-to-noise ratios in dB; `collect.NOTE` says how they compare with ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ..operators import OPERATORS

AVERAGE = "average"
TABLE3_OPERATORS = ("l0", "wls", "rtv", "rgf", "wmf", "llf", "super_resolution", "denoise", "deblock", "derain")

# the parameter values that the paper tests at; for the filters the first and the last are the ends of the range
VALUES: dict[str, tuple[float | None, ...]] = {
    name: OPERATORS[name].parameters[0].test_values if OPERATORS[name].parameters else (None,)
    for name in TABLE3_OPERATORS
}

# operator, network -> PSNR at each value, in Table 1 their average, and the average SSIM
TABLE1 = {
    ("l0", "single"): (40.69, 38.96, 36.07, 33.08, 31.75, 36.11, 0.981),
    ("l0", "numerous"): (39.46, 38.72, 35.71, 31.92, 30.43, 35.25, 0.979),
    ("wls", "single"): (44.00, 43.14, 41.93, 39.42, 39.13, 41.52, 0.990),
    ("wls", "numerous"): (42.12, 42.64, 41.63, 39.64, 38.51, 40.91, 0.990),
    ("rtv", "single"): (41.11, 40.91, 40.50, 41.07, 40.73, 40.86, 0.990),
    ("rtv", "numerous"): (40.66, 41.10, 41.07, 40.77, 39.18, 40.55, 0.990),
    ("rgf", "single"): (41.77, 38.36, 38.11, 37.65, 37.52, 38.68, 0.986),
    ("rgf", "numerous"): (37.03, 38.27, 38.35, 37.99, 37.08, 37.74, 0.984),
    ("wmf", "single"): (39.06, 39.78, 39.94, 40.06, 39.49, 39.66, 0.985),
    ("wmf", "numerous"): (36.79, 38.76, 38.53, 39.20, 38.72, 38.40, 0.980),
    ("llf", "single"): (38.00, 34.64, 32.34, 30.11, 29.53, 32.93, 0.983),
    ("llf", "numerous"): (37.83, 35.71, 32.29, 29.91, 28.95, 32.94, 0.983),
}
TABLE2 = {
    ("super_resolution", "single"): (31.78, 28.78, 27.31, 0.806),
    ("super_resolution", "numerous"): (31.62, 28.76, 27.31, 0.804),
    ("denoise", "single"): (31.17, 28.94, 26.22, 0.808),
    ("denoise", "numerous"): (31.07, 28.98, 26.14, 0.807),
    ("deblock", "single"): (29.26, 31.49, 0.849),
    ("deblock", "numerous"): (29.17, 31.43, 0.849),
}

# network -> average over the values, for each operator, then over the operators, and the average SSIM
TABLE3 = {
    "1 operator": (35.25, 40.91, 40.55, 37.74, 38.40, 32.94, 29.23, 28.73, 30.30, 29.86, 34.40, 0.926),
    "6 or 4 operators": (33.27, 37.39, 37.00, 35.41, 36.06, 30.08, 28.89, 28.67, 30.10, 30.32, 32.72, 0.918),
    "10 operators": (32.67, 36.59, 36.03, 34.64, 35.08, 29.77, 28.53, 28.36, 29.69, 30.45, 32.18, 0.913),
    "10 operators, input channels": (31.01, 34.85, 34.2, 33.10, 33.61, 28.58, 28.21, 28.05, 29.48, 29.12, 31.02, 0.899),
}
TABLE3["10 operators, number"] = TABLE3["10 operators"]  # the paper's operator code is a number

# number of generated parameters -> RTV's average over the five lambdas
TABLE4 = {"1 parameter": 40.55, "2 parameters": 40.43, "3 parameters": 40.53, "4 parameters": 40.50}

# size -> what is timed -> ms; the paper says nothing about synchronisation, and these numbers leave no room for it
TABLE5 = {
    "VGA": {"input channels": 4.87, "whole network": 6.20, "tuning": 0.59, "tuning, CPU": 0.65},
    "720p": {"input channels": 5.02, "whole network": 6.45, "tuning": 0.72, "tuning, CPU": 0.85},
    "1080p": {"input channels": 5.88, "whole network": 6.90, "tuning": 0.79, "tuning, CPU": 0.98},
}

# one network for ten operators at their default values, average PSNR and SSIM
TABLE6_OPERATORS = ("l0", "wls", "rtv", "rgf", "wmf", "llf", "llf_remap", "wls_enhance", "stylization", "pencil")
TABLE6 = (31.81, 36.59, 34.28, 33.29, 34.00, 29.74, 32.41, 34.40, 26.66, 25.61, 31.87, 0.943)
TABLE6_OTHERS = {"BGU": (24.62, 0.816), "HDRNet": (26.92, 0.833)}

# Tables 7 to 10: operator, method -> PSNR at each value, and for some SSIM
RESTORATION = {
    ("deblock", "single layer"): (29.31, 31.60),
    ("deblock", "JPEG"): (27.77, 30.07),
    ("deblock", "DnCNN"): (29.19, 31.59),
    ("deblock", "MemNet"): (29.45, 31.83),
    ("super_resolution", "single layer"): (31.67, 28.76, 27.29),
    ("super_resolution", "bicubic"): (29.56, 27.21, 25.96),
    ("super_resolution", "DnCNN"): (31.90, 28.85, 27.29),
    ("denoise", "single layer"): (31.48, 29.11, 26.22),
    ("denoise", "BM3D"): (31.07, 28.57, 25.62),
    ("derain", "single layer"): (30.08,),
    ("derain", "DerainNet"): (28.94,),
    ("derain", "DnCNN"): (30.90,),
}
RESTORATION_SSIM = {
    ("deblock", "single layer"): (0.8170, 0.8816),
    ("super_resolution", "single layer"): (0.8934, 0.7969, 0.7257),
}

# WLS at lambda 10, kernels of the numerous against those of the single network, all layers
TABLE11 = {"largest_correlation": 0.184, "variance_numerous": (4, 28), "variance_single": (140, 792)}

# what is generated -> average PSNR and SSIM over ten operators
TABLE12 = {
    "norm(1)": (31.21, 0.945),
    "norm(7)": (31.14, 0.943),
    "norm(14)": (30.90, 0.939),
    "norm(19)": (28.67, 0.889),
    "conv(19)": (30.85, 0.932),
    "conv(19).in": (30.03, 0.916),
    "conv(19).out": (24.96, 0.778),
    "norm(all)": (31.62, 0.947),
    "conv(all)": (31.63, 0.947),
}

# network -> average over WLS's five values
TABLE13 = {"single": 41.52, "base only": 40.54, "numerous": 40.91, "hidden, ReLU": 39.56, "hidden, linear": 39.67}

# L0 at values that the first network has not seen
TABLE14_VALUES = (0.0025, 0.0033, 0.12, 0.16)
TABLE14 = {"five values": (39.33, 38.95, 31.40, 30.69), "at the value": (40.19, 39.77, 31.78, 31.13)}

# L0 with a network for L0 and WLS that is told the right or the wrong operator
WRONG_CODE = {"told l0": 34.0, "told wls": 26.0}


def _numbers() -> Iterator[tuple[tuple, float | None, float | None]]:
    """Every cell as (table, network, operator, value), PSNR, SSIM."""
    for table, rows in (("table1", TABLE1), ("table2", TABLE2)):
        for (operator, network), (*row, ssim) in rows.items():
            for value, number in itertools.zip_longest((*VALUES[operator], AVERAGE), row):
                yield (table, network, operator, value), number, ssim if value == AVERAGE else None
    table6 = {"single layer": TABLE6}
    for table, operators, rows in (("table3", TABLE3_OPERATORS, TABLE3), ("table6", TABLE6_OPERATORS, table6)):
        for network, (*row, ssim) in rows.items():
            for operator, number in zip((*operators, AVERAGE), row, strict=True):
                yield (table, network, operator, AVERAGE), number, ssim if operator == AVERAGE else None
    for table, methods in (("table6", TABLE6_OTHERS), ("table12", TABLE12)):
        for method, (number, ssim) in methods.items():
            yield (table, method, AVERAGE, AVERAGE), number, ssim
    for (operator, method), row in RESTORATION.items():
        ssims = RESTORATION_SSIM.get((operator, method), ())
        for value, number, ssim in itertools.zip_longest(VALUES[operator], row, ssims):
            yield ("table7_10", method, operator, value), number, ssim
    averages = (("table4", "rtv", TABLE4), ("table13", "wls", TABLE13), ("wrong_code", "l0", WRONG_CODE))
    for table, operator, networks in averages:
        for network, number in networks.items():
            yield (table, network, operator, AVERAGE), number, None
    for network, row in TABLE14.items():
        for value, number in zip(TABLE14_VALUES, row, strict=True):
            yield ("table14", network, "l0", value), number, None


NUMBERS = {key: (psnr_db, ssim) for key, psnr_db, ssim in _numbers()}


def number(table: str, network: str, operator: str, value: float | str | None) -> tuple[float | None, float | None]:
    """PSNR in dB and SSIM that the paper has in a cell, None where it has none.

    Parameters
    ----------
    table : str
        "table1" ... "table14", "table7_10" for the four of restoration, "wrong_code".
    network : str
        The row's name, such as "single", "numerous" or "norm(1)".
    operator : str
        Or "average", over all operators.
    value : float or None
        The parameter's value, None without a parameter; or "average".

    Examples
    --------
    >>> number("table1", "numerous", "l0", 0.02), number("table1", "numerous", "l0", "average")
    ((35.71, None), (35.25, 0.979))
    """
    return NUMBERS.get((table, network, operator, value), (None, None))
