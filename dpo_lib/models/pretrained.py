"""Trained networks on disk: one safetensors file each, with everything needed to build the network again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import torch

from ..checks import FLOATS
from ..files import write_atomically
from ..parameters import Parameter
from .baselines import InputChannelNetwork, build_model
from .decoupled import DecoupledNetwork
from .network_config import NetworkConfig
from .parameterized import ParameterizedNetwork

FORMAT = "dpo_lib 1"
FORMS = (DecoupledNetwork, InputChannelNetwork)
GRAY_BEFORE = {"denoise", "deblock", "super_resolution"}  # learned on gray pictures, in files that do not say so yet


def save_network(
    path: str | os.PathLike, network: ParameterizedNetwork, *, card: dict | None = None, half: bool = False
) -> Path:
    """Write a network's weights, its form and its model card to one safetensors file, whole or not at all.

    Parameters
    ----------
    path : str or path
    network : DecoupledNetwork or InputChannelNetwork
    card : dict
        How it was trained: anything that JSON can hold; comes back as ``network.card``.
    half : bool
        Store 16-bit numbers.

    Raises
    ------
    TypeError
        A network of another form.
    ValueError
        Weights that are no finite floats, or none in 16 bits.
    OSError
        It cannot be written there; an older file is still whole.
    """
    if type(network) not in FORMS:
        forms = ", ".join(form.__name__ for form in FORMS)
        raise TypeError(f"expected a network of one of the forms {forms}, got {type(network).__name__}")
    form = {
        "format": FORMAT,
        "operators": {name: [asdict(p) for p in parameters] for name, parameters in network.operators.items()},
        "network": asdict(network.config),
        "gray": network.gray,
    }
    _check_tensors(network.state_dict(), "the network")
    tensors = {
        name: tensor.detach().cpu().to(torch.float16 if half else torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
    }
    _check_tensors(tensors, f"the network in {16 if half else 32} bits")
    return write_tensors(path, tensors, {"form": json.dumps(form), "card": json.dumps(card or {})})


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Path:
    """Write a safetensors file with a checksum; the same content always gives the same bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path, metadata = Path(path), {**metadata, "sha256": checksum(tensors, metadata["form"])}
    with write_atomically(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written ({error}): choose another place") from error
        content = temporary.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header["__metadata__"] = dict(sorted(metadata.items()))  # safetensors writes it in any order
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        temporary.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    return path


def checksum(tensors: Mapping[str, torch.Tensor], form: str) -> str:
    """SHA-256 of what a network answers by: its form, and its tensors' names, dtypes, shapes and bytes (on the CPU)."""
    digest = hashlib.sha256(form.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_tensors(tensors: Mapping[str, torch.Tensor], owner: object) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS or not bool(tensor.isfinite().all()):
            wrong = "NaN or infinity" if tensor.dtype in FLOATS else f"numbers of the kind {tensor.dtype}"
            raise ValueError(f"{owner} holds {wrong} in {name!r}, expected finite floats: train it again")


def load_network(path: str | os.PathLike, *, device: str | torch.device = "cpu") -> ParameterizedNetwork:
    """Read a network that `save_network` wrote, ready for use (float32, evaluation mode).

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        The file is damaged, or not one of ours; says what is wrong with it. Files of earlier versions have no checksum
        and are read without this check.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file at {path}: train one with python -m dpo_lib train")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        form, card = (json.loads(metadata.get(key, "{}")) for key in ("form", "card"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}): fetch or train it again") from error
    if not isinstance(form, dict) or form.get("format") != FORMAT:
        found = form.get("format") if isinstance(form, dict) else form
        raise ValueError(f"{path} holds no network of this library (format {found!r}, not {FORMAT!r})")
    try:
        operators = {
            name: [Parameter(**{**p, "test_values": tuple(p["test_values"])}) for p in parameters]
            for name, parameters in form["operators"].items()
        }
        stored = {"model": form.get("kind", "decoupled"), **form["network"]}  # "kind": files of the first version
        with torch.inference_mode(False):
            network = build_model(operators, NetworkConfig.from_file(stored)).float()
        network.gray = tuple(form.get("gray", [name for name in operators if name in GRAY_BEFORE]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} holds a network of an unknown form: {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(
            f"{path} does not fit the network it describes: {len(wrong)} tensor(s) missing, unknown or of another "
            f"shape, first {wrong[0]!r}: fetch or train it again"
        )
    if metadata.get("sha256", known := checksum(tensors, metadata["form"])) != known:
        raise ValueError(f"{path} is damaged (its content is not that of its checksum): fetch or train it again")
    _check_tensors(tensors, path)
    network.load_state_dict(tensors)
    network.card = card if isinstance(card, dict) else {}
    return network.eval().requires_grad_(False).to(device)


def pretrained_names() -> list[str]:
    """Names that `load_pretrained` knows."""
    folder = resources.files("dpo_lib") / "weights"
    if not folder.is_dir():
        return []
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".safetensors"))


def load_pretrained(name: str = "l0", *, device: str | torch.device = "cpu") -> ParameterizedNetwork:
    """A network that comes with the library.

    Parameters
    ----------
    name : str
        One of `pretrained_names`.
    device : str or torch.device

    Raises
    ------
    ValueError
        Unknown name, or a damaged file.

    Examples
    --------
    >>> load_pretrained("l0").operator
    'l0'
    """
    known = pretrained_names()
    if name not in known:
        raise ValueError(f"there is no pretrained network {name!r}: choose from {', '.join(known) or 'none'}")
    return load_network(str(resources.files("dpo_lib") / "weights" / f"{name}.safetensors"), device=device)


def load_any(name: str, *, device: str | torch.device = "cpu") -> ParameterizedNetwork:
    """`load_network` for a ``.safetensors`` file or a training's folder, `load_pretrained` for any other name."""
    path = Path(name) / "network.safetensors" if os.path.isdir(name) and name not in pretrained_names() else name
    return (load_network if str(path).endswith(".safetensors") else load_pretrained)(str(path), device=device)
