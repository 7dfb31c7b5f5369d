"""What the paper states of networks besides their accuracy: times (Table 5), and statistics of kernels (Table 11)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from ..analysis.kernels import compare_kernels
from ..models.baselines import build_model
from ..models.decoupled import DecoupledNetwork
from ..operators import OPERATORS
from ..timing import multiply_adds, time_ms
from ..training.config import TrainConfig
from .paper import TABLE5, TABLE11

KERNELS_AT = 10  # WLS's lambda at which Table 11 compares kernels
SIZES = {"VGA": (480, 640), "720p": (720, 1280), "1080p": (1080, 1920)}


@torch.no_grad()
def times(networks: Sequence[DecoupledNetwork], config: TrainConfig, device: str = "cpu") -> list[dict]:
    """Times of the input-channel network, of ours, and of one more parameter value with cheap tuning.

    Times do not depend on training: `networks` is empty. Sizes are an eighth at the "smoke" scale. With a GPU, cheap
    tuning is timed on the CPU as well. ``paper_ms`` is None where the paper's device or size is another one.
    """
    channels, ours = (
        build_model({"l0": OPERATORS["l0"].parameters}, config.network, model=model, generated="norm(last)").eval()
        for model in ("input_channels", "decoupled")
    )
    form = config.network
    widths = "-".join(map(str, form.widths)) if form.base == "pyramid" else form.width
    chosen, shrink = torch.device(device), 8 if config.scale == "smoke" else 1
    cases = [("input channels", channels, chosen), ("whole network", ours, chosen), ("tuning", ours, chosen)]
    cases += [("tuning", ours, torch.device("cpu"))] if chosen.type != "cpu" else []
    rows = []
    for size, sides in SIZES.items():
        height, width = (side // shrink for side in sides)
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(config.seed))
        for name, network, where in cases:
            network, shown = network.to(where), image.to(where)
            call = network.tuner(shown) if name == "tuning" else functools.partial(network, shown)
            call = functools.partial(call, 0.02)
            theirs = TABLE5[size].get(f"{name}, CPU" if where.type == "cpu" else name)
            rows.append({
                "size": size,
                "height": height,
                "width": width,
                "channels": widths,
                "network": name,
                "device": where.type,
                "gigamultiplications": round(multiply_adds(call) / 1e9, 4),
                "time_ms": round(time_ms(call, device=where), 3),
                "paper_ms": theirs if shrink == 1 else None,
            })  # fmt: skip
    return rows


def kernels(networks: Sequence[DecoupledNetwork], config: TrainConfig, device: str = "cpu") -> list[dict]:
    """Are the kernels that a network for all values and one for a single value use for that value alike?

    `networks` are that for all values, one for the single value, and another one for it, whose training began with the
    weights that the first began with. The paper's largest correlation and ranges of variance are over all layers.
    """
    numerous, *others = networks
    facts = {
        "paper_largest_correlation": TABLE11["largest_correlation"],
        **{f"paper_{name}": "{} to {}".format(*TABLE11[name]) for name in ("variance_numerous", "variance_single")},
    }
    compared = (compare_kernels(numerous, other, KERNELS_AT) for other in others)
    return [
        {
            "layer": row["layer"],
            "correlation": round(row["correlation"], 4),
            "correlation_same_start": round(same["correlation"], 4),
            "variance_numerous": row["variance_a"],
            "variance_single": row["variance_b"],
            **facts,
        }
        for row, same in zip(*compared, strict=True)
    ]
