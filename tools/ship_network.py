"""Put a trained network into the package: weights, model card, and the tables that were measured with it.

    python tools/ship_network.py runs/l0 --test-images DIR --every 2 --training-set "NAME" --terms "TERMS"
    python tools/ship_network.py runs/joint10 --tests DIR --rain DIR --limit 20 --training-set "NAME" --terms "TERMS"
    python tools/ship_network.py runs/cpu/table3/joint10 --measured --training-set "NAME" --terms "TERMS"

Writes ``dpo_lib/weights/NAME.safetensors`` and ``NAME.md``; ``results/shipped/NAME.csv`` (test folder) and
``NAME_embedded.csv`` (the photographs inside scikit-image's wheel), each with a JSON that says what made it; and the
run itself, with hashes of its training files, as ``results/shipped/runs/NAME.json`` and ``.csv``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from dpo_lib import evaluate, load_network, save_network, summarise
from dpo_lib.commands.parser import at_least_one
from dpo_lib.data.sources import embedded_images, image_files, named_images
from dpo_lib.data.test_sets import EMBEDDED_NAME, ImageSet, usual_sets
from dpo_lib.files import write_atomically
from dpo_lib.models.base_network import MINIMUM_SIZE
from dpo_lib.operators.operator import Operator
from dpo_lib.operators.own import operators_of
from dpo_lib.records import provenance, read_json, read_rows, write_json, write_rows
from dpo_lib.text import format_table

ROOT = Path(__file__).resolve().parent.parent
HALF_COSTS_AT_MOST_DB = 0.02

CARD = """# {name}

{title} for every {parameters}. Load it with `dpo_lib.load_pretrained("{name}")`.

| | |
|---|---|
| network | {network}, {weights:,} stored numbers in {bits}-bit floats |
| learned on | {pictures} |
| borders | {borders} |
| trained at | {scale} scale: {steps:,} of {planned:,} steps, {samples:,} samples |
| began with | {initial} |
| wall time | {hours:.2g} hours on {device}, {precision}, seed {seed} |
| training images | {training_set} |
| their names and hashes | `results/shipped/runs/{name}.json`, {training_images} files |
| terms of the training images | {terms} |
| date, commit | {date}, {commit} |
| software | {versions} |

Measured on {test_count} images of {test_set} (`results/shipped/{name}.csv`); `input_` is the unprocessed picture:

```
{table}
```
{below}{seen}
Every number comes from {source}. The photographs inside scikit-image's wheel and the test images were
not trained on. Beyond the parameter range above, and on pictures unlike photographs, nothing was measured.
"""


class Measured(NamedTuple):
    """Rows, what made them, what the test images are called, and how many they are."""

    rows: list[dict]
    facts: dict
    test_set: str
    images: int


def what_is_not_better(table: list[dict]) -> str:
    """A line for the card: the rows in which the network is no better than doing nothing."""
    key = next(iter(table[0]))
    names = [str(row[key]) for row in table[:-1] if row["psnr_db"] <= row["input_psnr_db"]]
    return f"\nNot above the unprocessed picture: {', '.join(names)}.\n" if names else ""


def pictures_of(operators: Iterable[Operator]) -> str:
    """What the operators' pairs are, for the card."""
    kinds: dict[str, list[str]] = {}
    for operator in operators:
        kinds.setdefault(operator.settings["on"] if operator.is_gray else "colour", []).append(operator.name)
    said = ", ".join(f"{kind} ({', '.join(of)})" if len(kinds) > 1 else kind for kind, of in kinds.items())
    return said + "; a colour picture is answered channel by channel" * (set(kinds) != {"colour"})


def borders(network) -> str:
    """What lies beyond the border, and how far that leads on flat pictures, where nothing else can be wrong."""
    worst = 0.0
    for operator in operators_of(network).values():
        for value in operator.parameters[0].test_values if operator.parameters else (None,):
            flat = torch.full((1, 3, 64, 96), 0.5)
            target = operator(flat, value) if operator.kind == "filter" else flat
            worst = max(worst, float((network(flat, value, operator=operator.name) - target).abs().max()))
    beyond = "the last pixels are repeated" if network.config.padding == "replicate" else "zeros are padded"
    if network.config.border not in ("", "edge"):
        goes_on = {"symmetric": "the picture is mirrored", "wrap": "the picture begins again"}[network.config.border]
        margin = network.base_network.margin
        beyond = goes_on + (f", in a margin of {margin} pixels" if margin else "")
    return f"{beyond}; a flat gray picture comes back off by up to {worst:.2g} of white"


def half_is_enough(network, photo: dict) -> bool:
    """Whether 16 bits are enough: they are if they cost less than 0.02 dB on average."""
    first = next(iter(operators_of(network).values()))
    with tempfile.TemporaryDirectory() as folder:
        half = load_network(save_network(Path(folder) / "half.safetensors", network, half=True))
        full_db, half_db = (summarise(evaluate(n, first, photo))[-1]["psnr_db"] for n in (network, half))
    print(f"32 bits: {full_db:.3f} dB, 16 bits: {half_db:.3f} dB")
    return full_db - half_db < HALF_COSTS_AT_MOST_DB


def test_sets(network, given) -> dict[str, ImageSet]:
    """The test images of each operator: the one set that was named, or the usual one of each task."""
    if given.test_images:
        files = [file for folder in given.test_images for file in image_files(folder)[:: given.every]]
        name = given.test_set or " and ".join(folder.name for folder in given.test_images)
        name += f" (one file in {given.every}, in string order)" if given.every > 1 else ""
        root = given.test_images[0] if len(given.test_images) == 1 else None
        images = ImageSet(name, *named_images(files, root=root, minimum_size=MINIMUM_SIZE))
        return dict.fromkeys(network.operators, images)
    return usual_sets(network.operators, given.tests, rain=given.rain, limit=given.limit)


def measured_before(run: dict) -> Measured:
    """Take over the rows that dpo_lib experiments measured."""
    path = ROOT / "results" / run["scale"] / "runs" / f"{run['id']}.json"
    record, rows = read_json(path), read_rows(path.with_suffix(".csv"))
    used = record["measured_on"].values()
    facts = provenance(
        command=f"python -m dpo_lib experiments run {run['id']}", test_set=", ".join(images["name"] for images in used),
        files=[file for images in used for file in images["files"]],
        model={key: value for key, value in run.items() if key != "files"}, seed=record["seed"], device="cpu",
    )  # fmt: skip
    counts = ", ".join(f"{images['images']} of {images['name']}" for images in used)
    return Measured(rows, facts, f"{counts}, in 32-bit floats", sum(images["images"] for images in used))


def measure(network, sets: dict[str, ImageSet], test_set: str = "", *, targets=None, at_defaults=False) -> Measured:
    """Evaluate a network on the test images of each of its operators; `test_set` is what to call them."""
    used, rows = {images.name: images for images in sets.values()}, []
    test_set, operators = test_set or ", ".join(used), operators_of(network)
    for name, images in sets.items():
        values = (None,) if at_defaults else None
        rows += evaluate(network, operators[name], images.images, values=values, targets=targets, progress=True)
    files = [file for images in used.values() for file in images.files]
    made = {"command": "tools/ship_network.py", "test_set": test_set} | ({"files": files} if files else {})
    facts = provenance(**made, model=network.card, seed=0, device="cpu")
    return Measured(rows, facts, test_set, sum(len(images.images) for images in used.values()))


def ship(given) -> None:
    """Measure a trained network and put it into the package: nothing is written before all is measured."""
    trained = load_network(given.run / "network.safetensors")
    run = read_json(given.run / "run.json")
    log = (given.run / "log.csv").read_bytes()
    name, embedded = given.name or trained.operator, embedded_images()
    sets = {} if given.measured else test_sets(trained, given)
    tested = measured_before(run) if given.measured else None
    half = half_is_enough(trained, {"coffee": embedded["coffee"]})
    card = {**{key: value for key, value in run.items() if key != "files"}, "training_set": given.training_set}
    card["name"] = name
    with tempfile.TemporaryDirectory() as folder:
        file = save_network(Path(folder) / "network.safetensors", trained, card=card, half=half)
        network = load_network(file)
        how = {"targets": given.targets, "at_defaults": given.at_defaults}
        if tested is None:
            test_set = ", ".join(dict.fromkeys(images.name for images in sets.values()))
            test_set += f" (the first {given.limit} of each)" if given.limit else ""
            tested = measure(network, sets, test_set, **how)
        few = dict(list(embedded.items())[: given.embedded])
        photos = measure(network, dict.fromkeys(network.operators, ImageSet(EMBEDDED_NAME, few, [])), **how)
        table = summarise(tested.rows, by="value" if len({row["operator"] for row in tested.rows}) == 1 else "operator")
        text = card_text(network, run, given, name=name, half=half, tested=tested, table=table)
        results = ROOT / "results" / "shipped"
        write_rows(results / f"{name}.csv", tested.rows, facts=tested.facts)
        write_rows(results / f"{name}_embedded.csv", photos.rows, facts=photos.facts)
        write_json(results / "runs" / f"{name}.json", {**card, "files": run["files"]})
        weights = ROOT / "dpo_lib" / "weights" / f"{name}.safetensors"
        with (
            write_atomically(results / "runs" / f"{name}.csv") as new_log,
            write_atomically(weights.with_suffix(".md")) as new_card,
            write_atomically(weights) as new_weights,
        ):
            new_log.write_bytes(log)
            new_card.write_text(text, encoding="utf-8")
            shutil.copyfile(file, new_weights)
    print(format_table(table))
    print(f"{weights.relative_to(ROOT)}: {weights.stat().st_size / 2**20:.1f} MiB")


def begun_with(initial: dict | None, name: str) -> str:
    """What the training of a network began with, in words."""
    if initial is None:
        return "random weights"
    whose = f"an earlier `{name}`" if initial["name"] == name else f"`{initial['name']}`"
    return f"the weights of {whose} ({initial['steps']:,} steps, {initial['samples']:,} samples)"


def card_text(network, run: dict, given, *, name: str, half: bool, tested: Measured, table: list[dict]) -> str:
    """The model card."""
    operators = list(operators_of(network).values())
    ranges = ", ".join(f"{p.name} in [{p.low:g}, {p.high:g}]" for op in operators for p in op.parameters)
    return CARD.format(
        name=name,
        title=" and ".join(op.title for op in operators),
        parameters=ranges or "picture (no parameter)",
        network=network.config.describe(),
        borders=borders(network),
        weights=sum(tensor.numel() for tensor in network.state_dict().values()),
        bits=16 if half else 32,
        pictures=pictures_of(operators),
        hours=run["wall_time_s"] / 3600,
        seed=run["config"]["seed"],
        initial=begun_with(run.get("initial"), name),
        terms=given.terms,
        training_set=given.training_set,
        test_count=tested.images,
        test_set=tested.test_set,
        table=format_table(table),
        below=what_is_not_better(table),
        seen=f"\nOn its contact sheet (`python tools/contact_sheet.py {name}`): {given.seen}\n" if given.seen else "",
        source=f"`python -m dpo_lib experiments run {run['id']}`" if given.measured else "`tools/ship_network.py`",
        versions=", ".join(f"{package} {number}" for package, number in run["versions"].items()),
        planned=run["config"]["steps"],
        **{key: run[key] for key in ("scale", "steps", "samples", "device", "precision", "training_images")},
        **{key: run[key] for key in ("date", "commit")},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's own text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder that dpo_lib train wrote")
    parser.add_argument("--name", help="name for load_pretrained (default: the operator's)")
    tests = parser.add_mutually_exclusive_group(required=True)
    tests.add_argument("--test-images", type=Path, nargs="+", help="one folder for all operators, or several")
    tests.add_argument("--tests", type=Path, help="folder of sets: each operator is measured on its usual one")
    tests.add_argument("--measured", action="store_true", help="keep the rows that dpo_lib experiments measured")
    parser.add_argument("--rain", type=Path, help="folder of rain pairs with pairs.csv")
    parser.add_argument("--limit", type=int, help="only the first so many images of each set")
    parser.add_argument("--every", type=at_least_one, default=1, help="take every n-th test image in string order")
    parser.add_argument("--test-set", help="what to call the test images (default: the folder's name)")
    parser.add_argument("--training-set", required=True, help="what the training images are called")
    parser.add_argument("--terms", required=True, help="terms of the training images")
    parser.add_argument("--seen", help="what is wrong on its contact sheet, a sentence for the card")
    parser.add_argument("--targets", default=ROOT / "runs" / "targets", help="folder that keeps the operators' answers")
    parser.add_argument("--at-defaults", action="store_true", help="measure at the parameters' default values only")
    parser.add_argument("--embedded", type=int, help="only so many of the photographs inside scikit-image's wheel")
    given = parser.parse_args(arguments)
    try:
        ship(given)
    except (ValueError, OSError, KeyError) as error:
        print(f"error: {error!r}" if isinstance(error, KeyError) else f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
