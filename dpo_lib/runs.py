"""One experiment from nothing to its record: train, measure, write; each step is taken up where it was left."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from . import measurements
from .data.rain import fixed_rain, rain_of_pairs
from .data.sources import file_list, image_files, load_folder
from .data.test_sets import ImageSet, image_set, rain_test_set
from .evaluation import evaluate, summarise
from .experiments import KERNELS_AT, ON, PHOTOGRAPHS, Experiment, Measure
from .files import sha256_of, writable_folder
from .models.pretrained import load_any, load_network, save_network
from .models.transfer import base_at_mid_range
from .operators.cached import kept_targets
from .records import device_name, provenance, write_json, write_rows
from .run_files import FINISHED, LARGER, Settings, comparable, load_run, networks_now, planned_samples, state_of
from .training.loop import train

STOPPED, BUSY = "stopped", "busy"
TEST_IMAGES = {"smoke": 1}  # per set and scale, unless asked for otherwise


class OutOfTimeError(Exception):
    """The minutes are over."""


class TrainingImages:
    """The training images, read at the first use and once for all experiments of a process."""

    def __init__(self, folders: tuple[str, ...]):
        self.folders = folders

    @functools.cached_property
    def paths(self) -> list[Path]:
        """All files."""
        if not self.folders:
            raise ValueError("training needs images: name their folders with --images")
        return [file for folder in self.folders for file in image_files(folder)]

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        """The images."""
        return load_folder(self.paths)

    @functools.cached_property
    def files(self) -> list[dict]:
        """Names and hashes."""
        return file_list(self.paths)


def run(
    experiment: Experiment, settings: Settings, images: TrainingImages, *, deadline: float | None = None
) -> tuple[str, str]:
    """Train if necessary, measure, and write the record.

    Parameters
    ----------
    experiment : Experiment
        What it needs must be finished.
    settings : Settings
    images : TrainingImages
    deadline : float, optional
        Of `time.monotonic`: when to stop.

    Returns
    -------
    state, detail : str
        "finished", "stopped" (out of time; call again to go on), "busy" (another process is at it) or "larger" (the
        record is of a run of more samples, which is kept).

    Raises
    ------
    ValueError, OSError
        Bad images, folders, or settings.
    """
    with _alone(writable_folder(settings.run_folder(experiment.id))) as alone:
        if not alone:
            return BUSY, "another process is at it"
        state, detail = state_of(experiment, settings)
        if state == LARGER:
            return LARGER, detail
        try:
            if experiment.measures:
                facts = _measure_without_training(experiment, settings)
            else:
                if experiment.trains:
                    _train(experiment, settings, images, deadline)
                facts = _measure(experiment, settings, deadline)
        except OutOfTimeError as error:
            return STOPPED, str(error)
        write_json(settings.record(experiment.id), facts)
    rows = facts["rows"]
    mean = "" if experiment.measures else f", {np.mean([row['psnr_db'] for row in rows]):.2f} dB on average"
    return FINISHED, f"{len(rows)} rows{mean}"


def _train(experiment: Experiment, settings: Settings, images: TrainingImages, deadline: float | None) -> None:
    """Train to the end, or raise `OutOfTimeError`; leaves ``network.safetensors`` and ``run.json``."""
    path, config = settings.network(experiment.id), settings.config(experiment)
    if path.exists():
        try:
            _, facts = load_run(experiment.id, settings)
        except ValueError as error:
            _set_aside(path, str(error))
        else:
            begun, wanted = (found and found["name"] for found in (facts.get("initial"), _initial(settings)[1]))
            if comparable(facts["config"]) != comparable(json.loads(json.dumps(asdict(config)))) or begun != wanted:
                raise ValueError(f"{path.parent} holds a run with other settings: move it away to train anew")
            return
    for checkpoint in path.parent.rglob("checkpoint.pt"):
        if not _readable(checkpoint):
            _set_aside(checkpoint, "not readable")
    rain = rain_of_pairs(settings.rain) if settings.rain and "derain" in experiment.operators else None
    operators = experiment.training_operators(rain)
    # every operator of a joint network needs an entry in the bank
    entries = max(config.entries_per_image, -(-len(operators) // len(images.arrays)))
    config = replace(config, entries_per_image=entries)
    initial, begun = _initial(settings)
    if torch.device(settings.device).type == "cpu":  # on a GPU they are computed many at a time
        operators = [kept_targets(operator, settings.out / "runs" / "training_targets") for operator in operators]
    minutes = None if deadline is None else max((deadline - time.monotonic()) / 60, 1e-9)
    result = train(
        operators, images.arrays, config, out=path.parent, device=settings.device, minutes=minutes,
        progress=settings.progress, initial=initial,
    )  # fmt: skip
    if not result.finished:
        raise OutOfTimeError(f"step {result.steps} of {config.steps}")
    card = provenance(
        name=experiment.id.replace("/", "-"),
        id=experiment.id,
        operator="+".join(experiment.operators),
        scale=settings.scale,
        config=asdict(config),
        steps=result.steps,
        samples=result.samples,
        wall_time_s=round(result.seconds),
        finished=True,
        device=device_name(settings.device),
        precision=result.precision,
        training_images=len(images.arrays),
        rain="streaks of the training pairs" if rain else "synthetic",
        **({} if begun is None else {"initial": begun}),
    )
    write_json(path.parent / "run.json", {**card, "files": images.files})
    save_network(path, result.network, card=card)


def _initial(settings: Settings):
    """The network to begin with, and what it had seen itself; None without."""
    if settings.initial is None:
        return None, None
    network = load_any(settings.initial)
    seen = {key: network.card[key] for key in ("scale", "steps", "samples") if key in network.card}
    return base_at_mid_range(network), {"name": network.card.get("name") or Path(settings.initial).stem, **seen}


def _measure(experiment: Experiment, settings: Settings, deadline: float | None) -> dict:
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
    keywords = {
        "values": (value,), "device": settings.device, "seed": settings.seed, "on": ON.get(test.operator, "rgb"),
        "check_range": experiment.trained_range is None, "targets": settings.out / "runs" / "targets",
    }  # fmt: skip
    if images.rainy is None:
        rows = evaluate(
            answers, experiment.test_operator(test.operator), images.images, progress=settings.progress, **keywords
        )
    else:
        rows = [
            row
            for name, clean in images.images.items()
            for row in evaluate(answers, fixed_rain(images.rainy[name]), {name: clean}, **keywords)
        ]
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


def _measure_without_training(experiment: Experiment, settings: Settings) -> dict:
    """The record of times or of kernel statistics."""
    config = settings.config(experiment)
    if experiment.measures == "times":
        rows = measurements.times(config, device=settings.device, shrink=8 if settings.scale == "smoke" else 1)
    else:
        networks = [load_network(settings.network(id_)) for id_ in experiment.needs]
        rows = measurements.kernels(*networks, value=KERNELS_AT)
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


def _readable(checkpoint: Path) -> bool:
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception:
        return False
    return True


def _set_aside(path: Path, why: str) -> None:
    """Rename a damaged file, so that the work is done again, and say so."""
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    print(f"{path} is damaged, moved to {aside.name}, done again ({why})", flush=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process is at work in a folder; holds it meanwhile, where the system can."""
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
