"""``python -m dpo_lib train``: a network from a folder of images."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from ..data.rain import rain_of_pairs
from ..data.sources import image_files, named_images
from ..files import writable_folder
from ..models.network_config import MODELS, NetworkConfig
from ..models.pretrained import load_any
from ..operators.operator import Operator
from ..operators.own import find_operator
from ..parameters import Parameter
from ..progress import log
from ..records import device_name
from ..training.card import save_run
from ..training.config import SCALES, Phase, TrainConfig
from ..training.trainers import train
from .parser import Parser, add_quiet, at_least_one, command, positive

TRAINING_HELP = {
    "steps": "optimiser steps",
    "entries_per_image": "targets per image",
    "bank_size": "at most so many targets",
    "value_levels": "train on so many equal steps of the range (0: any value)",
    "same_value": "images of a batch with one value",
    "same_crop": "images of a batch that are one crop, for different operators",
    "recoloured": "share of the photographs whose channels are permuted and saturation is changed",
    "loss": "log_l2 or l2",
    "optimizer": "muon or adamw",
    "learning_rate": "AdamW's peak",
    "muon_learning_rate": "Muon's peak",
    "ema": "decay of the running average of the weights",
    "precision": "auto, float32 or bfloat16",
    "seed": "of the first weights and the draws",
    "targets_seed": "of the targets' values",
}
NETWORK_HELP = {
    "model": f"one of {', '.join(MODELS)}",
    "base": "pyramid or dilated (the paper's)",
    "width": "channels of the dilated base network",
    "depthwise": "its blocks with depth-wise convolutions",
    "widths": "channels of the pyramid's levels",
    "blocks": "residual blocks per level and direction",
    "tail": "channels of one more convolution before the last",
    "last_kernel": "kernel size of the pyramid's last convolution, 1 or 3",
    "output": "residual, direct, gain or gate",
    "equalised": "the network sees the rank of each pixel's luminance in its picture",
    "padding": "replicate or zeros",
    "border": "what pictures are beyond their borders: edge, symmetric or wrap (default: as the operator has it)",
    "margin": "pixels of that which are laid around (default: 64 for wrap, 16 for symmetric filters)",
    "rescaling": "of the parameter: log (where it is sampled so) or linear",
    "operator_code": "how a joint network is told the operator: number, one_hot or embedding",
    "generated": "which tensors depend on the parameters: conv(all), norm(last), conv(19).in ...",
    "hidden": "hidden units of each head of the weight learning network",
    "trunk": "widths of the layers that all heads share",
}


@command()
def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib train``: train on a folder of images; call again with the same words to go on.

    Exit codes: 0, there is a network (of fewer steps, if the time limit was reached); 2, bad input; 3, the time limit
    came before the first step.
    """
    given = _parser().parse_args(arguments)
    own = [_parameter(words) for words in given.parameter]
    operators, config = _operators_named(given.operator, own, given.rain), config_of(given)
    device_name(given.device)  # an unknown device is said before anything is done
    out = writable_folder(given.out, apart_from=given.images)
    images, files = named_images([file for folder in given.images for file in image_files(folder)])
    initial = None if given.initial is None else load_any(given.initial)
    targets = given.targets or out.parent / "targets"
    settings: dict[str, Any] = {"device": given.device, "minutes": given.minutes, "jobs": given.jobs}
    result = train(operators, list(images.values()), config, out=out, initial=initial, targets=targets, **settings)
    if not result.leads:
        return 0
    if not result.steps:
        print("no step was done in this time, the same command continues", file=sys.stderr)
        return 3
    rain = None if given.rain is None else "of pairs"
    facts: dict[str, Any] = {"name": given.name or "", "rain": rain, "initial": initial}
    sources = {operator.name: word for operator, word in zip(operators, given.operator, strict=True) if ":" in word}
    facts |= {"sources": sources} if sources else {}
    path = save_run(out, result, config, files=files, images=len(images), **facts)
    log.info("%d of %d steps; wrote %s", result.steps, config.steps, path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m dpo_lib train", description=main.__doc__)
    add = parser.add_argument
    add("--operator", required=True, nargs="+", help="one, or several for a joint network; module:name for your own")
    add(
        "--parameter", nargs="+", action="append", default=[], metavar="WORD",
        help="of your own function: NAME LOW HIGH [log, uniform or integer], such as strength 0.1 10 log; "
        "once for each, in the order of the call",
    )  # fmt: skip
    add("--name", help="name of the network, for its model card (default: the operators' names)")
    add("--images", required=True, nargs="+", help="folder(s) of training images")
    add("--out", required=True, help="folder for the network, checkpoint, log and record")
    add("--scale", default="laptop", choices=SCALES, help="budget (default: laptop)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--minutes", type=positive, help="stop cleanly after so long; call again to go on")
    add("--values", type=float, nargs="+", help="train on these parameter values only")
    add(
        "--phases", nargs="+", metavar="SHARE,SHRINK,CROP,BATCH",
        help="image sizes and batches in order, such as 0.65,0.5,160,4 0.35,1,224,2; shares add up to 1",
    )  # fmt: skip
    add("--rain", metavar="DIR", help="folder of rain pairs with pairs.csv, for deraining (default: synthetic rain)")
    add("--initial", help="begin with these weights: the name of a pretrained network, or a .safetensors file")
    add("--targets", metavar="DIR", help="folder that keeps the operators' answers (default: targets, beside --out)")
    about = "processes that compute those answers (default: all cores)"
    add("--jobs", type=at_least_one, default=os.cpu_count(), help=about)
    add_settings(parser.add_argument_group("changes to the scale's settings"), TrainConfig, TRAINING_HELP)
    add_settings(parser.add_argument_group("changes to the network"), NetworkConfig, NETWORK_HELP)
    add_quiet(parser)
    return parser


def add_settings(parser: argparse._ActionsContainer, config: type, helps: Mapping[str, str]) -> None:
    """An option for each field of a configuration that `helps` names, of its default's type."""
    defaults = {field.name: field.default for field in fields(config)}
    for name, text in helps.items():
        default, option = defaults[name], "--" + name.replace("_", "-")
        if isinstance(default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif isinstance(default, tuple):
            parser.add_argument(option, type=type(default[0]) if default else int, nargs="+", help=text)
        else:
            parser.add_argument(option, type=int if default is None else type(default), help=text)


def config_of(given: argparse.Namespace) -> TrainConfig:
    """The scale's settings with the command line's changes."""

    def changes(config: type) -> dict:
        names = {field.name for field in fields(config)} - {"scale", "network", "phases"}
        return {name: value for name, value in vars(given).items() if name in names and value is not None}

    settings = _tuples(changes(TrainConfig))
    if given.phases:
        settings["phases"] = tuple(map(Phase.from_text, given.phases))
    config = replace(SCALES[given.scale], **settings)
    return config.with_network(**_tuples(changes(NetworkConfig)))


def _tuples(changes: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}


def _parameter(words: Sequence[str]) -> Parameter:
    """What --parameter says: strength 0.1 10 log."""
    name, *ends, sampling = words if len(words) == 4 else [*words, "uniform"]
    try:
        low, high = map(float, ends)
    except ValueError:
        given = " ".join(words)
        raise ValueError(f"--parameter takes NAME LOW HIGH [SAMPLING], as strength 0.1 10 log, got {given}") from None
    return Parameter(name, low, high, sampling=sampling)


def _operators_named(names: Sequence[str], own: Sequence[Parameter], rain: str | None = None) -> list[Operator]:
    given = {} if rain is None else {"derain": rain_of_pairs(rain)}
    found = [given[name] if name in given else find_operator(name, own) for name in names]
    if own and (len(found) > 1 or found[0].parameters != tuple(own)):
        raise ValueError("--parameter belongs to one --operator module:function, a function on images of your own")
    return found
