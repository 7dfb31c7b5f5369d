"""What the paper measures without training: times (Table 5), and statistics of generated kernels (Table 11)."""

from __future__ import annotations

import functools

import torch

from .kernels import compare_kernels
from .models.baselines import build_model
from .models.decoupled import DecoupledNetwork
from .paper import TABLE5, TABLE11
from .parameters import Parameter
from .timing import time_ms
from .training.config import TrainConfig

SIZES = {"VGA": (480, 640), "720p": (720, 1280), "1080p": (1080, 1920)}


def times(config: TrainConfig, *, device: str = "cpu", shrink: int = 1) -> list[dict]:
    """Times of the input-channel network, of ours, and of one more parameter value with cheap tuning.

    Parameters
    ----------
    config : TrainConfig
        For the width; the networks need no training.
    device : str
        With a GPU, cheap tuning is timed on the CPU as well.
    shrink : int
        Divide the sizes' sides by this.

    Returns
    -------
    list of dict
        ``size``, ``height``, ``width``, ``channels``, ``network``, ``device``, ``time_ms``, ``paper_ms`` (None where
        the paper's device or size is another one).
    """
    chosen, cpu = torch.device(device), torch.device("cpu")
    parameter = Parameter("lambda", 0.002, 0.2, sampling="log")
    settings = {**config.network_settings, "generated": "norm(last)"}
    channels, ours = (
        build_model({"l0": (parameter,)}, **{**settings, "model": model}).eval().requires_grad_(False)
        for model in ("input_channels", "decoupled")
    )
    rows = []
    for size, (height, width) in SIZES.items():
        height, width = height // shrink, width // shrink
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(config.seed))
        for network, where in [("input channels", chosen), ("whole network", chosen), *_tuning(chosen, cpu)]:
            net = (channels if network == "input channels" else ours).to(where)
            shown = image.to(where)
            call = net.tuner(shown) if network == "tuning" else functools.partial(net, shown)
            key = "tuning, CPU" if network == "tuning" and where == cpu else network
            known = shrink == 1 and (where != cpu or key == "tuning, CPU")
            rows.append({
                "size": size,
                "height": height,
                "width": width,
                "channels": config.width,
                "network": network,
                "device": where.type,
                "time_ms": round(time_ms(functools.partial(call, 0.02), device=where), 3),
                "paper_ms": TABLE5[size][key] if known else None,
            })  # fmt: skip
    return rows


def _tuning(chosen: torch.device, cpu: torch.device) -> list[tuple[str, torch.device]]:
    return [("tuning", where) for where in dict.fromkeys((chosen, cpu))]


def kernels(numerous: DecoupledNetwork, single: DecoupledNetwork, same_start: DecoupledNetwork, *, value: float):
    """Are the kernels that a network for all values and one for a single value use for that value alike?

    Parameters
    ----------
    numerous, single : DecoupledNetwork
    same_start : DecoupledNetwork
        Another network for the single value, whose training began with the weights that `numerous` began with.
    value : float

    Returns
    -------
    list of dict
        A row per layer: ``layer``, ``correlation``, ``correlation_same_start``, ``variance_numerous``,
        ``variance_single``, and the paper's largest correlation and ranges of variance, which it gives over all layers.
    """
    facts = {
        "paper_largest_correlation": TABLE11["largest_correlation"],
        "paper_variance_numerous": "{} to {}".format(*TABLE11["variance_numerous"]),
        "paper_variance_single": "{} to {}".format(*TABLE11["variance_single"]),
    }
    rows = zip(compare_kernels(numerous, single, value), compare_kernels(numerous, same_start, value), strict=True)
    return [
        {
            "layer": row["layer"],
            "correlation": round(row["correlation"], 4),
            "correlation_same_start": round(same["correlation"], 4),
            "variance_numerous": row["variance_a"],
            "variance_single": row["variance_b"],
            **facts,
        }
        for row, same in rows
    ]
