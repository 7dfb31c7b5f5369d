"""What a finished training leaves: the network, and a record of what made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..models.parameterized import ParameterizedNetwork
from ..models.pretrained import save_network
from ..records import device_name, provenance, write_json
from .config import TrainConfig
from .loop import TrainResult


def described(initial: ParameterizedNetwork) -> dict:
    """The network that a training began with: its name, and what it had seen itself."""
    seen = {key: initial.card[key] for key in ("scale", "steps", "samples") if key in initial.card}
    return {"name": initial.card.get("name") or initial.operator, **seen}


def save_run(
    folder: Path,
    result: TrainResult,
    config: TrainConfig,
    *,
    files: Sequence[dict],
    images: int,
    name: str = "",
    rain: str | None = None,
    initial: ParameterizedNetwork | None = None,
    **facts: object,
) -> Path:
    """Write ``run.json`` and, with the same card but for the files, ``network.safetensors``.

    Parameters
    ----------
    folder : path
    result, config
        See `train`.
    files : sequence of dict
        Names and hashes of the training images.
    images : int
        How many of them could be used.
    name : str
        Default: the operators'.
    rain : str, optional
        Where the rain came from.
    initial : network, optional
        What the training began with.
    **facts
        What else the card says.

    Returns
    -------
    Path
        The network's.
    """
    operator = "+".join(result.network.operators)
    card = provenance(
        name=name or operator,
        **facts,
        operator=operator,
        scale=config.scale,
        config=asdict(config),
        steps=result.steps,
        samples=result.samples,
        wall_time_s=round(result.seconds),
        finished=result.finished,
        device=device_name(result.device),
        precision=result.precision,
        training_images=images,
        **({} if rain is None else {"rain": rain}),
        **({} if initial is None else {"initial": described(initial)}),
    )
    write_json(folder / "run.json", {**card, "files": files})
    return save_network(folder / "network.safetensors", result.network, card=card)
