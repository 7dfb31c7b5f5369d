"""Where a training step's time goes, and what generated convolutions cost in a batch and one by one.

    python benchmarks/training.py
    python benchmarks/training.py --width 64 --crop 256 --batch 24 --device cuda --precision bfloat16
    python benchmarks/training.py --layout both --compile

The parts of a step are timed one after the other in every step. The loop is the same network in plain eager mode,
image by image, each with its own generated weights: same loss, same gradients. Ratios are of medians in one run.
By itself a network runs a batch as one grouped convolution per layer on a GPU, and image by image on a CPU; --together
asks for the first on any device.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace

import torch

from dpo_lib.operators import Operator, Parameter
from dpo_lib.operators.operator import as_operators
from dpo_lib.randomness import seeded
from dpo_lib.records import device_name, provenance, write_rows
from dpo_lib.text import format_table
from dpo_lib.timing import CLOCKS, multiply_adds, times_in_turns
from dpo_lib.training.bank import Batch, TargetBank
from dpo_lib.training.config import SCALES, TrainConfig
from dpo_lib.training.learner import Learner, loss_of

LAYOUTS = {"channels_last": True, "contiguous": False}
TIMES_FORWARD = 3  # a step multiplies three times as much as its forward pass: answer, gradient of input, of weights

# cheap: the targets are not what is measured
GAIN = Operator(
    name="gain",
    title="Gain",
    function=lambda image, gain: image * gain.view(-1, 1, 1, 1),
    parameters=(Parameter("gain", 0.2, 0.9),),
)


class Step:
    """One training step in its parts, each callable on its own after the ones before it."""

    def __init__(self, config: TrainConfig, *, crop: int, batch: int, device: str):
        self.learner = Learner(as_operators(GAIN), config, torch.device(device), None)
        self.network = self.learner.network
        last = self.network.weight_learning_network.heads[self.network.base_network.convolutions[-1].name]
        torch.nn.init.normal_(last.bias, std=0.01)  # it starts at zero, which would hide a difference
        images = [torch.rand(crop + 16, crop + 24, 3, generator=seeded(k)).numpy() for k in range(8)]
        self.bank = TargetBank(GAIN, images, crop=crop, device=device, progress=False)
        self.bank.fill()
        self.size, self.batch, self.loss = batch, None, None

    def draw(self) -> None:
        """A batch from the bank."""
        self.batch = self.bank.batch(self.size, seeded(1))

    @torch.no_grad()
    def generate(self) -> None:
        """The weights of the batch alone (they are generated once more in `forward`)."""
        self.network.generate(self.network.gamma_code(self.batch.value, batch=self.size))

    def forward(self) -> None:
        """Answers and loss."""
        self.loss = loss_of(self.learner.predict(self.batch), self.batch.target, "log_l2")[0]

    def loop(self) -> None:
        """The same loss from one image after the other."""
        ones = [Batch(*(part[k : k + 1] for part in self.batch)) for k in range(self.size)]
        answers = torch.cat([self.learner.predict(one) for one in ones])
        self.loss = loss_of(answers, self.batch.target, "log_l2")[0]

    def backward(self) -> None:
        """Gradients."""
        self.loss.backward()

    def update(self) -> None:
        """The optimiser and the average of the weights."""
        self.learner.update(100)


def measure(
    config: TrainConfig, *, crop: int, batch: int, device: str, layout: str, compiled: bool, together=None, **timing
) -> dict:
    """One row: milliseconds of the parts, of the step in a batch and in a loop, GFLOP/s."""
    step = Step(config, crop=crop, batch=batch, device=device)
    step.draw()
    step.network.base_network.channels_last = LAYOUTS[layout]
    step.network.base_network.together = together
    forward = multiply_adds(step.forward)
    batched = step.loss.detach()
    step.loop()
    difference = float((batched - step.loss.detach()).abs())
    loops = {"loop": step.loop, "loop_backward": step.backward, "loop_update": step.update}
    if compiled:  # only the batched form: the loop stays plain
        loops = {}
        step.network.base_network.compile()
    parts = {"batch": step.draw, "generate": step.generate, "forward": step.forward, "backward": step.backward}
    found = times_in_turns(parts | {"update": step.update} | loops, device=device, **timing)
    middle = {name: statistics.median(times) for name, times in found.items()}
    whole = sum(middle[name] for name in ("batch", "forward", "backward", "update"))
    looped = sum(middle[name] for name in ("batch", *loops)) if loops else float("nan")
    gflop = TIMES_FORWARD * 2 * forward / 1e9
    return {
        "precision": str(step.learner.dtype).removeprefix("torch."),
        "layout": layout,
        "together": device != "cpu" if together is None else together,
        "compiled": compiled,
        **{f"{name}_ms": middle[name] for name in ("batch", "generate", "forward", "backward", "update")},
        "step_ms": whole,
        "loop_step_ms": looped,
        "times_faster": looped / whole,
        "step_gflop": gflop,
        "gflop_s": gflop / whole * 1000,
        "samples_s": batch / whole * 1000,
        "loss_difference": difference,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the rows if asked."""
    parser = argparse.ArgumentParser(description="Time a training step by its parts, batched and in a loop.")
    parser.add_argument("--width", type=int, default=SCALES["cpu"].network.width, help="channels")
    parser.add_argument("--crop", type=int, default=SCALES["cpu"].phases[0].crop, help="pixels a side")
    parser.add_argument("--batch", type=int, default=SCALES["cpu"].phases[0].batch_size)
    parser.add_argument("--precision", nargs="+", default=["float32"], choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--layout", default="channels_last", choices=[*LAYOUTS, "both"])
    parser.add_argument("--together", action="store_true", default=None, help="one grouped convolution, on a CPU too")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, where it works")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="processor threads (default: PyTorch's choice)")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="wall, or this program's processor time")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for each row")
    parser.add_argument("--least", type=int, default=3, help="steps even if that takes longer")
    parser.add_argument("--quick", action="store_true", help="a tiny network and crops, to see that it runs")
    parser.add_argument("--out", help="CSV file for the rows; a JSON with the settings goes beside it")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    timing = {"seconds": 0.05 if given.quick else given.seconds, "least": given.least, "clock": given.clock}
    sizes = {"crop": given.crop, "batch": given.batch}
    config = SCALES["cpu"].with_network(width=given.width)
    if given.quick:
        config, sizes = config.with_network(width=4, dilations=(1,)), {"crop": 24, "batch": 2}
    rows = []
    for precision in given.precision:
        for layout in LAYOUTS if given.layout == "both" else [given.layout]:
            for compiled in (False, True) if given.compile else (False,):
                settings = {**sizes, **timing, "layout": layout, "compiled": compiled, "device": given.device}
                settings["together"] = given.together
                try:
                    rows.append(measure(replace(config, precision=precision), **settings))
                except Exception as error:  # no compiler, or an arithmetic that this processor does not have
                    print(f"left out: {precision}, {layout}, compiled {compiled}: {str(error).splitlines()[0]}")
    if not rows:
        return 1
    size = f"width {config.network.width}, crop {sizes['crop']}, batch {sizes['batch']}"
    print(f"{device_name(given.device)}, {size}\n{format_table(rows, significant=3)}")
    if given.out:
        write_rows(given.out, rows, facts=provenance(device=device_name(given.device), size=size, clock=given.clock))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
