"""What is measured of a finished network, and what the paper measures without training: times (Table 5), and
statistics of generated kernels (Table 11).
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..analysis.kernels import compare_kernels
from ..data.test_sets import ImageSet, image_set, rain_test_set
from ..evaluation import evaluate, summarise
from ..files import sha256_of
from ..models.baselines import build_model
from ..models.decoupled import DecoupledNetwork
from ..models.pretrained import load_network
from ..parameters import Parameter
from ..records import device_name, provenance, write_json, write_rows
from ..timing import time_ms
from ..training.config import TrainConfig
from ..training.trainers import planned_samples
from .catalogue import KERNELS_AT, PHOTOGRAPHS, Experiment, Measure
from .paper import TABLE5, TABLE11
from .store import Settings, load_run, networks_now

TEST_IMAGES = {"smoke": 1}  # per set and scale, unless asked for otherwise
SIZES = {"VGA": (480, 640), "720p": (720, 1280), "1080p": (1080, 1920)}


class OutOfTimeError(Exception):
    """The minutes are over."""


def measure(experiment: Experiment, settings: Settings, deadline: float | None) -> dict:
    """Measure a finished network; gives the record."""
    network, facts = load_run(experiment.id, settings)
    if facts["samples"] < planned_samples(settings.config(experiment)):
        path = settings.network(experiment.id).parent
        raise ValueError(f"{path} holds a run of only {facts['samples']} samples: move it away to train anew")
    network, digest = network.to(settings.device), sha256_of(settings.network(experiment.id))
    memory = _Memory(settings.network(experiment.id).with_name("measured.json"), {  # all tests of a network
        "network": digest, "tests": settings.tests, "rain": settings.rain, "limit": settings.test_images,
    })  # fmt: skip
    tables, used = [], {}
    for test in experiment.tests:
        used[test.images] = images = _test_set(test, settings)
        answers = _Answers(network, told=test.told, deadline=deadline)
        for value in test.values:
            tables.append(memory(
                f"{test} {value}", functools.partial(_rows, experiment, test, value, answers, images, settings)
            ))  # fmt: skip
    write_rows(settings.run_folder(experiment.id) / "rows.csv", [row for rows in tables for row in rows])
    return {
        **facts,
        **provenance(id=experiment.id, seed=settings.seed, trained={key: facts[key] for key in ("date", "commit")}),
        "same_as": experiment.same_as,
        "networks": networks_now(experiment, settings),
        "network_parameters": sum(p.numel() for p in network.parameters()),
        "measured_on": {
            name: {"name": images.name, "images": len(images.images), "files": images.files}
            for name, images in used.items()
        },
        "rows": [_summary(rows) for rows in tables],
    }


def _rows(experiment: Experiment, test: Measure, value, answers, images: ImageSet, settings: Settings):
    """A row per image for one operator and value."""
    rows = evaluate(
        answers, experiment.test_operator(test.operator), images.images, values=(value,), device=settings.device,
        seed=settings.seed, check_range=experiment.trained_range is None,
        targets=settings.out / "runs" / "targets", progress=settings.progress,
    )  # fmt: skip
    return [{**row, "value": value, "told": test.told, "test_set": images.name} for row in rows]


def _summary(rows: list[dict]) -> dict:
    """A record's row: the mean over the images."""
    mean = summarise(rows)[-1]
    return {key: rows[0][key] for key in ("operator", "value", "told", "test_set")} | {
        key: round(number, 4) for key, number in mean.items() if key != "value"
    }


def _test_set(test: Measure, settings: Settings) -> ImageSet:
    limit = settings.test_images or TEST_IMAGES.get(settings.scale)
    if test.images == "rain" and settings.rain:
        return rain_test_set(settings.rain, limit=limit)
    name = PHOTOGRAPHS if test.images == "rain" else test.images  # synthetic rain falls on any photograph
    return image_set(name, settings.tests, limit=limit)


class _Memory:
    """Rows that were measured before the time was up: measured once, read the next time."""

    def __init__(self, path: Path, facts: dict):
        self.path, self.content = path, {"facts": facts, "rows": {}}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["facts"] == facts:
                self.content["rows"] = dict(found["rows"])

    def __call__(self, key: str, measure: Callable[[], list[dict]]) -> list[dict]:
        if key not in self.content["rows"]:
            self.content["rows"][key] = measure()
            write_json(self.path, self.content)
        return self.content["rows"][key]


class _Answers:
    """A network as `evaluate` calls it: told another operator's name if so wanted, and stopped when time is up."""

    def __init__(self, network, *, told: str, deadline: float | None):
        self.network, self.told, self.deadline = network, told, deadline
        self.operators = network.operators

    def __call__(self, image, value, *, operator: str | None = None, check_range: bool = True):
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise OutOfTimeError("trained, not measured to the end")
        if not self.told:
            return self.network(image, value, operator=operator, check_range=check_range)
        gamma_code = self.network.gamma_code
        code = gamma_code(value, operator=operator, batch=len(image), check_range=check_range)
        wrong = gamma_code.table[gamma_code.index(self.told)].expand(len(image), -1)
        return self.network.answer(image, torch.cat([wrong, code[:, wrong.shape[1] :]], dim=1))


def measure_without_training(experiment: Experiment, settings: Settings) -> dict:
    """The record of times or of kernel statistics."""
    config = settings.config(experiment)
    if experiment.measures == "times":
        rows = times(config, device=settings.device, shrink=8 if settings.scale == "smoke" else 1)
    else:
        networks = [load_network(settings.network(id_)) for id_ in experiment.needs]
        rows = kernels(*networks, value=KERNELS_AT)
    return provenance(
        id=experiment.id,
        scale=settings.scale,
        seed=settings.seed,
        config=asdict(config),
        samples=0,
        finished=True,
        device=device_name(settings.device),
        files=[],
        networks=networks_now(experiment, settings),
        rows=rows,
    )


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
    form = replace(config.network, generated="norm(last)")
    channels, ours = (
        build_model({"l0": (parameter,)}, form, model=model).eval().requires_grad_(False)
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
                "channels": config.network.width,
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
