"""``python -m dpo_lib train``: a network from a folder of images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..data.rain import rain_of_pairs
from ..data.sources import file_list, image_files, load_folder
from ..files import writable_folder
from ..models.baselines import MODELS
from ..models.parameterized import OPERATOR_CODES, ParameterizedNetwork
from ..models.pretrained import load_any, save_network
from ..operators import OPERATORS
from ..operators.operator import Operator
from ..records import device_name, provenance, write_json
from ..training.config import SCALES, Phase, TrainConfig
from ..training.loop import train


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib train``: train on a folder of images; call again with the same words to go on."""
    given = _parser().parse_args(arguments)
    try:
        operators, config = _operators_named(given.operator, given.rain), _config_of(given)
        out = writable_folder(given.out)
        files = [file for folder in given.images for file in image_files(folder)]
        images = [image for folder in given.images for image in load_folder(folder)]
        initial = None if given.initial is None else load_any(given.initial)
        result = train(operators, images, config, out=out, device=given.device, minutes=given.minutes, initial=initial)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not result.leads:
        return 0
    card = provenance(
        name=given.name or "+".join(given.operator),
        operator="+".join(given.operator),
        scale=config.scale,
        config=asdict(config),
        steps=result.steps,
        samples=result.samples,
        wall_time_s=round(result.seconds),
        finished=result.finished,
        device=device_name(given.device),
        precision=result.precision,
        training_images=len(images),
        **({} if given.rain is None else {"rain": "streaks of the training pairs"}),
        **({} if initial is None else {"initial": _facts_of_initial(given.initial, initial)}),
    )
    save_network(out / "network.safetensors", result.network, card=card)
    write_json(out / "run.json", {**card, "files": file_list(files)})
    print(f"{result.steps} of {config.steps} steps; wrote {out / 'network.safetensors'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dpo_lib train", description=main.__doc__)
    add = parser.add_argument
    add("--operator", required=True, nargs="+", help="one operator, or several for a joint network")
    add("--name", help="name of the network, for its model card (default: the operators' names)")
    add("--images", required=True, nargs="+", help="folder(s) of training images")
    add("--out", required=True, help="folder for the network, checkpoint, log and record")
    add("--scale", default="cpu", choices=SCALES, help="budget (default: cpu)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--minutes", type=float, help="stop cleanly after so long; call again to go on")
    add("--values", type=float, nargs="+", help="train on these parameter values only")
    add("--rain", metavar="DIR", help="folder of rain pairs with pairs.csv, for deraining (default: synthetic rain)")
    add("--initial", help="begin with these weights: the name of a pretrained network, or a .safetensors file")
    changes = parser.add_argument_group("changes to the scale's settings")
    add = changes.add_argument
    add("--steps", type=int, help="optimiser steps")
    add(
        "--phases", type=Phase.from_text, nargs="+", metavar="SHARE,SHRINK,CROP,BATCH",
        help="image sizes and batches in order, such as 0.65,0.5,160,4 0.35,1,224,2; shares add up to 1",
    )  # fmt: skip
    add("--width", type=int, help="channels")
    add("--entries-per-image", type=int, help="targets kept per image at a time")
    add("--bank-size", type=int, help="at most so many targets at a time")
    add("--learning-rate", type=float)
    add("--seed", type=int)
    add("--model", choices=MODELS, help="decoupled, or a baseline")
    add("--operator-code", choices=OPERATOR_CODES, help="how a joint network is told the operator")
    add("--generated", help="which tensors depend on the parameters: conv(all), norm(last), conv(19).in ...")
    add("--depthwise", action="store_true", default=None, help="blocks of pointwise and depth-wise convolutions")
    add("--hidden", type=int, help="hidden units of each head of the weight learning network")
    add("--trunk", type=int, nargs="+", help="widths of the layers that all heads share")
    return parser


def _config_of(given: argparse.Namespace) -> TrainConfig:
    """The scale's settings with the command line's changes."""
    names = TrainConfig.__dataclass_fields__.keys() - {"scale"}
    changes = {name: value for name, value in vars(given).items() if name in names and value is not None}
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    return replace(SCALES[given.scale], **changes)


def _facts_of_initial(name: str, initial: ParameterizedNetwork) -> dict:
    """What a run began with, for its record: the network's name and what it had seen itself."""
    seen = {key: initial.card[key] for key in ("scale", "steps", "samples") if key in initial.card}
    return {"name": initial.card.get("name") or Path(name).name, **seen}


def _operators_named(names: Sequence[str], rain: str | None = None) -> list[Operator]:
    for name in names:
        if name not in OPERATORS:
            raise ValueError(f"there is no operator {name!r}: choose from {', '.join(OPERATORS)}")
    given = {} if rain is None else {"derain": rain_of_pairs(rain)}
    return [given.get(name, OPERATORS[name]) for name in names]
