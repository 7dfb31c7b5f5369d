"""Designs of network and training at equal processor time: one change at a time, measured on whole pictures.

    python benchmarks/design.py --images DIR --test-images DIR --every 20 --targets runs/targets --seconds 240
    python benchmarks/design.py ... --operator l0 llf --variant pyramid paper32 "pyramid adamw" gate --seed 0 1 2

The variants of one operator and seed learn in turns, one step of whichever has used the least processor time (one
thread), so that what else the machine does meets all of them; each one's learning rate falls with its time. Each gets
a row in ``results/design.csv``. What has a row there is left out, so that the same command continues; a race that was
ended before its time begins anew.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tqdm import tqdm

from dpo_lib import OPERATORS, SCALES, evaluate, summarise
from dpo_lib.commands.parser import at_least_one
from dpo_lib.data.sources import load_folder, load_images
from dpo_lib.images import to_numpy, to_tensor
from dpo_lib.operators import Operator
from dpo_lib.randomness import seeded
from dpo_lib.records import provenance, read_rows, read_table, write_json, write_rows
from dpo_lib.text import format_table
from dpo_lib.training import Phase, TrainConfig
from dpo_lib.training.bank import Change
from dpo_lib.training.learner import Learner
from dpo_lib.training.loop import Banks

ROOT = Path(__file__).resolve().parent.parent
FIRST_PLAN = 1000  # steps that a run plans with before it knows how long one takes
ENOUGH = 10  # steps, to know it

SHARED = {"entries_per_image": 3, "value_levels": 64}  # all learn from the same targets
SHORT = {"phases": (Phase(1.0, 1.0, 192, 2),), "learning_rate": 1e-3, "muon_learning_rate": 1e-2, **SHARED}
BASE = replace(SCALES["laptop"].with_network(widths=(24, 48, 72, 96), border="edge", margin=0), **SHORT)
PAPER32 = replace(SCALES["cpu"], phases=(Phase(1.0, 1.0, 160, 2),), learning_rate=2e-3, **SHARED)


def changed(**changes):
    """The base with other settings of the network."""
    return BASE.with_network(**changes)


VARIANTS = {
    "paper32": PAPER32,
    "paper32 muon": replace(PAPER32, optimizer="muon", learning_rate=1e-3, muon_learning_rate=1e-2),
    "paper32 muon crop 192": replace(PAPER32, optimizer="muon", **SHORT),
    "pyramid": BASE,
    "pyramid adamw": replace(BASE, optimizer="adamw", learning_rate=2e-3),
    "pyramid instance": changed(normalisation="instance"),
    "five levels": changed(widths=(24, 48, 72, 96, 96)),
    "six levels": changed(widths=(24, 48, 72, 96, 96, 96)),
    "wide": changed(widths=(32, 64, 96, 128)),
    "wide coarse": changed(widths=(24, 48, 96, 128, 128)),
    "one block": changed(blocks=1),
    "one block, five levels": changed(blocks=1, widths=(24, 48, 72, 96, 96)),
    "one block, wide coarse": changed(blocks=1, widths=(24, 48, 96, 128)),
    "one block, narrow": changed(blocks=1, widths=(16, 40, 72, 96)),
    "one block, narrower": changed(blocks=1, widths=(16, 32, 64, 96)),
    "one block, muon 2e-2": replace(changed(blocks=1), muon_learning_rate=2e-2, learning_rate=2e-3),
    "one block, crop 128": replace(changed(blocks=1), phases=(Phase(1.0, 1.0, 128, 2),)),
    "one block, no average": replace(changed(blocks=1), ema=0.0),
    "narrower, no average": replace(changed(blocks=1, widths=(16, 32, 64, 96)), ema=0.0),
    "three blocks": changed(blocks=3),
    "gate": changed(output="gate"),
    "direct": changed(output="direct"),
    "tail": changed(tail=64),
    "zeros": changed(padding="zeros"),
    "kernels only": changed(generated="conv(all)"),
    "scales only": changed(generated="norm(all)"),
    "eight kernels": changed(trunk=(64, 8)),
    "linear code": changed(rescaling="linear"),
    "crop 128": replace(BASE, phases=(Phase(1.0, 1.0, 128, 2),)),
    "crop 256": replace(BASE, phases=(Phase(1.0, 1.0, 256, 2),)),
    "crop 320": replace(BASE, phases=(Phase(1.0, 1.0, 320, 2),)),
    "batch 4": replace(BASE, phases=(Phase(1.0, 1.0, 192, 4),)),
    "a value each": replace(BASE, same_value=1),
    "any value": replace(BASE, same_value=1, value_levels=0),
    "wrap": changed(border="", margin=None),
    "l2": replace(BASE, loss="l2"),
    "muon 5e-3": replace(BASE, muon_learning_rate=5e-3, learning_rate=5e-4),
    "muon 2e-2": replace(BASE, muon_learning_rate=2e-2, learning_rate=2e-3),
    "one target": replace(BASE, entries_per_image=1),
    "recoloured": replace(BASE, recoloured=0.5),
    "no average": replace(BASE, ema=0.0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's own text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", required=True, help="folders of training images")
    parser.add_argument("--test-images", required=True, help="folder of test images")
    parser.add_argument("--every", type=at_least_one, default=1, help="take every n-th test image in string order")
    parser.add_argument("--saturation", type=float, default=1, help="what the test images' saturation is multiplied by")
    parser.add_argument("--targets", help="folder that keeps the operators' answers")
    parser.add_argument("--operator", nargs="+", default=["l0"], choices=OPERATORS)
    parser.add_argument("--variant", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=240, help="processor seconds of each run")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "design.csv")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    images = [image for folder in given.images for image in load_folder(folder)]
    tests = load_images(given.test_images, every=given.every)
    change = Change((False, False, False), saturation=given.saturation)
    tests = {name: to_numpy(change(to_tensor(image))) for name, image in tests.items()}
    done = read_rows(given.out) if given.out.exists() else []
    for seed in given.seed:
        for operator in given.operator:
            key = {"operator": operator, "seed": seed, "seconds": given.seconds}
            there = {row["variant"] for row in done if all(row[name] == value for name, value in key.items())}
            variants = [variant for variant in given.variant if variant not in there]
            for row in race(key, variants, images, tests, targets=given.targets):
                rows = read_table(given.out) if given.out.exists() else []  # other processes add rows meanwhile
                write_rows(given.out, [*rows, row])
                print(row, flush=True)
    facts = {
        "command": "benchmarks/design.py",
        "saturation": given.saturation,
        "training_images": len(images),
        "tests": sorted(tests),
    }
    rows = read_rows(given.out)
    facts["variants"] = {name: asdict(VARIANTS[name]) for name in dict.fromkeys(row["variant"] for row in rows)}
    write_json(given.out.with_suffix(".json"), provenance(**facts))
    print(format_table(table(rows)))
    return 0


def table(rows: Sequence[dict]) -> list[dict]:
    """A row per operator, variant and time: the mean over seeds, its spread, and what it is above "pyramid"."""
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        found.setdefault((row["operator"], row["variant"], row["seconds"]), []).append(row)
    mean = {key: statistics.mean(row["psnr_db"] for row in alike) for key, alike in found.items()}
    lines = []
    for key, alike in found.items():
        results = [row["psnr_db"] for row in alike]
        base = mean.get((key[0], "pyramid", key[2]))
        lines.append(
            {
                **dict(zip(("operator", "variant", "seconds"), key, strict=True)),
                "seeds": len(alike),
                "samples": round(statistics.mean(row["samples"] for row in alike)),
                "psnr_db": mean[key],
                "spread_db": max(results) - min(results),
                "against_pyramid_db": "" if base is None else mean[key] - base,
            }
        )
    return lines


class Racer:
    """A training that ends when its processor seconds are used up."""

    def __init__(self, variant: str, config: TrainConfig, operator: Operator, images: list, targets: str | None):
        self.variant, self.config, self.samples, self.used, self.count = variant, config, 0, 0.0, 0
        self.learner = Learner({operator.name: operator}, config, torch.device("cpu"), None)
        self.banks = Banks(self.learner, images, targets=targets)
        self.banks.at(0)

    def step(self, seconds: float) -> None:
        """One step, with the learning rate of its place in the time."""
        plan = self.count * seconds / self.used if self.count >= ENOUGH else FIRST_PLAN
        self.learner.config = replace(self.config, steps=max(self.count + 1, round(plan)))
        start = time.process_time()
        batch = self.banks.at(0).batch(self.banks.phase.batch_size, seeded(self.config.seed, 7, self.count))
        self.learner.step(batch, self.count)
        self.used += time.process_time() - start
        self.count, self.samples = self.count + 1, self.samples + len(batch.input)


def race(key: dict, variants: Sequence[str], images: list, tests: dict, *, targets: str | None) -> Iterator[dict]:
    """Train variants in turns for their seconds each, then measure them."""
    operator, seconds = OPERATORS[key["operator"]], key["seconds"]
    racers = [
        Racer(variant, replace(VARIANTS[variant], seed=key["seed"]), operator, images, targets) for variant in variants
    ]
    bar = tqdm(total=round(seconds * len(racers)), desc=operator.name, unit="s")
    while racers and (last := min(racers, key=lambda racer: racer.used)).used < seconds:
        last.step(seconds)
        bar.update(int(sum(racer.used for racer in racers)) - bar.n)
    bar.close()
    for racer in racers:
        summary = summarise(evaluate(racer.learner.average.eval(), operator, tests, targets=targets))
        yield {
            "operator": key["operator"],
            "variant": racer.variant,
            "seed": key["seed"],
            "seconds": seconds,
            "steps": racer.count,
            "samples": racer.samples,
            "precision": str(racer.learner.dtype).removeprefix("torch."),
            "psnr_db": summary[-1]["psnr_db"],
            "input_psnr_db": summary[-1]["input_psnr_db"],
            "psnr_by_value": " ".join(f"{row['psnr_db']:.2f}" for row in summary[:-1]),
        }


if __name__ == "__main__":
    raise SystemExit(main())
