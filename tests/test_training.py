"""Training: the loss falls, a killed run ends like one that was not, bad settings are refused."""

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from dpo_lib import SCALES, Parameter, TrainConfig, train
from dpo_lib.bank import TargetBank, seeded, shrink_image
from dpo_lib.images import save_image, to_tensor
from dpo_lib.models import DecoupledNetwork
from dpo_lib.operators import OPERATORS, Operator
from dpo_lib.training import Phase, loss_of, main, resolve_precision

TINY = TrainConfig(
    scale="smoke",
    steps=12,
    width=4,
    dilations=(1, 2),
    phases=(Phase(0.5, 0.5, 24, 3), Phase(0.5, 1.0, 32, 2)),
    entries_per_image=2,
    replace_every=2,
    precision="float32",
)


def pictures(n=3, height=66, width=80):
    """Smooth pictures with an edge and some noise, uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / width
    return [
        np.uint8(255 * np.clip(0.5 + 0.3 * np.sin(7 * x[..., None] + k) * (y[..., None] > 0.4)
                               + 0.05 * rng.standard_normal((height, width, 3)), 0, 1))
        for k in range(n)
    ]


GAIN = Operator(
    name="gain",
    title="Gain",
    function=lambda image, gain: image * gain.view(-1, 1, 1, 1),
    parameters=(Parameter("gain", 0.2, 0.9),),
)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_learns_a_simple_operator():
    config = replace(TINY, steps=150, learning_rate=1e-2, ema=0.9, phases=(Phase(1, 1, 48, 4),))
    before = train(GAIN, pictures(), replace(config, steps=1), progress=False).network
    after = train(GAIN, pictures(), config, progress=False).network
    image = to_tensor(pictures(4)[3])
    for value in (0.3, 0.8):
        error = [float((net(image, value) - GAIN(image, value)).square().mean()) for net in (before, after)]
        assert error[1] < 0.2 * error[0]


def test_same_seed_same_weights_other_seed_others():
    first, again = (train(OPERATORS["l0"], pictures(), TINY, progress=False).network for _ in range(2))
    assert same(first, again)
    other = train(OPERATORS["l0"], pictures(), replace(TINY, seed=1), progress=False).network
    assert not same(first, other)


class Killed(Exception):
    pass


@pytest.mark.parametrize("when", [1, 5, 6, 7, 11])
def test_a_run_killed_at_any_step_ends_the_same(tmp_path, monkeypatch, when):
    """Killed before, at and after the change of phase; a checkpoint after every step."""
    whole = train(OPERATORS["l0"], pictures(), TINY, progress=False).network
    draws = 0
    draw = TargetBank.batch

    def dying(self, *arguments):
        nonlocal draws
        draws += 1
        if draws > when:
            raise Killed
        return draw(self, *arguments)

    monkeypatch.setattr(TargetBank, "batch", dying)
    with pytest.raises(Killed):
        train(OPERATORS["l0"], pictures(), TINY, out=tmp_path, checkpoint_every=0, progress=False)
    monkeypatch.setattr(TargetBank, "batch", draw)
    resumed = train(OPERATORS["l0"], pictures(), TINY, out=tmp_path, progress=False)
    assert resumed.finished and resumed.steps == 12 and resumed.samples == 6 * 3 + 6 * 2
    assert same(whole, resumed.network)


def test_a_killed_process_leaves_a_whole_checkpoint(tmp_path):
    """SIGKILL while training from the command line; the same command then goes on to the end."""
    for number, picture in enumerate(pictures(2, 96, 130)):
        save_image(tmp_path / "images" / f"{number}.png", picture)
    program = (
        "import sys, dpo_lib.training as t; from dataclasses import replace; "
        "t.SCALES['smoke'] = replace(t.SCALES['smoke'], width=4, steps=40, phases=(t.Phase(1.0, 0.5, 32, 2),)); "
        "original = t.train; t.train = lambda *a, **k: original(*a, **k, checkpoint_every=0); "
        "sys.exit(t.main(sys.argv[1:]))"
    )
    words = ["--operator", "l0", "--images", str(tmp_path / "images"), "--scale", "smoke", "--device", "cpu"]
    command = [sys.executable, "-c", program, *words, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    log = tmp_path / "run" / "log.csv"
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) > 1:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    whole = subprocess.run([*command[:-1], str(tmp_path / "whole")], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    first, second = ((tmp_path / name / "network.safetensors") for name in ("run", "whole"))
    from dpo_lib import load_network

    assert same(load_network(first), load_network(second))
    rows = log.read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "20", "40"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["files"][0]["sha256"]


def test_minutes_stop_cleanly_and_go_on(tmp_path):
    part = train(GAIN, pictures(), TINY, out=tmp_path, minutes=1e-9, progress=False)
    assert not part.finished and part.steps == 0
    whole = train(GAIN, pictures(), TINY, out=tmp_path, minutes=5, progress=False)
    assert whole.finished and same(whole.network, train(GAIN, pictures(), TINY, progress=False).network)


def test_smoke_scale_is_quick(tmp_path):
    start = time.monotonic()
    result = train(OPERATORS["l0"], [np.tile(p, (3, 3, 1)) for p in pictures()], SCALES["smoke"], progress=False)
    assert result.finished and time.monotonic() - start < 20


def test_single_value_and_no_parameter():
    result = train(OPERATORS["l0"], pictures(), replace(TINY, steps=2, values=(0.02,)), progress=False)
    assert isinstance(result.network, DecoupledNetwork)
    plain = Operator(name="half", title="Half", function=lambda image: image / 2)
    network = train(plain, pictures(), replace(TINY, steps=2), progress=False).network
    assert network(to_tensor(pictures()[0])).shape == (1, 3, 66, 80)


def test_users_own_function_trains():
    from skimage.restoration import denoise_tv_chambolle

    own = Operator.from_function(
        lambda image, weight: denoise_tv_chambolle(image, weight=weight, channel_axis=-1),
        name="tv",
        parameters=[Parameter("weight", 0.02, 0.5, sampling="log")],
    )
    result = train(own, pictures(), replace(TINY, steps=3), progress=False)
    assert result.finished and result.network.operator == "tv"


def test_bank_holds_exact_pairs_and_replaces_the_oldest():
    bank = TargetBank(OPERATORS["l0"], pictures(), entries_per_image=2, shrink=0.5, crop=20, seed=3, progress=False)
    bank.fill()
    for entry in bank.entries:
        image = entry.input[None].float() / 255
        expected = OPERATORS["l0"](image, entry.value[None])
        assert entry.target.dtype == torch.uint8
        assert (entry.target.float() / 255 - expected.clamp(0, 1)[0]).abs().mean() < 5e-3
    kept = list(bank.entries)
    bank.advance(2)
    assert [a is b for a, b in zip(kept, bank.entries, strict=True)] == [False, False, True, True, True, True]
    again = TargetBank(OPERATORS["l0"], pictures(), entries_per_image=2, shrink=0.5, crop=20, seed=3, progress=False)
    again.fill(replaced=2)
    assert all(torch.equal(a.target, b.target) for a, b in zip(bank.entries, again.entries, strict=True))
    inputs, targets, values = bank.batch(5, seeded(1))
    assert inputs.shape == targets.shape == (5, 3, 20, 20) and values.shape == (5, 1)


def test_bank_covers_the_range():
    bank = TargetBank(GAIN, pictures(), entries_per_image=40, crop=20, progress=False)
    bank.fill()
    values = torch.stack([entry.value for entry in bank.entries])
    assert values.min() < 0.25 and values.max() > 0.85 and values.min() >= 0.2 and values.max() <= 0.9
    shapes = {tuple(entry.input.shape) for entry in bank.entries}
    assert shapes == {(3, 66, 80), (3, 80, 66)}  # some are transposed


def test_shrinking_keeps_the_mean():
    image = to_tensor(pictures()[0])
    small = shrink_image(image, 0.5)
    assert small.shape == (1, 3, 33, 40) and abs(float(small.mean() - image.mean())) < 2e-3


def test_losses_by_hand():
    prediction, target = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    prediction[0] += 0.1
    prediction[1] += 0.01
    l2, psnr_db = loss_of(prediction, target, "l2")
    assert float(l2) == pytest.approx((1e-2 + 1e-4) / 2) and float(psnr_db) == pytest.approx(30, abs=1e-3)
    log_l2, _ = loss_of(prediction, target, "log_l2")
    assert float(log_l2) == pytest.approx((math.log(1e-2 + 1e-5) + math.log(1e-4 + 1e-5)) / 2, rel=1e-5)


def test_schedule():
    config = replace(TINY, steps=1000, warmup=0.1, learning_rate=1e-2)
    rates = [config.learning_rate_at(step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == pytest.approx(1e-2) and rates[-1] < 2e-4
    assert np.argmax(rates) in (99, 100)
    assert [config.phase_at(step) for step in (0, 499, 500, 999)] == [0, 0, 1, 1] and config.first_step(1) == 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"loss": "l3"}, "loss must be one of"),
        ({"phases": (Phase(0.5, 1, 32, 2),)}, "add up to 1"),
        ({"learning_rate": -1.0}, "must be positive"),
        ({"ema": 1.0}, r"lie in \[0, 1\)"),
        ({"precision": "float8"}, "precision must be"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_bad_places_and_images(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="cannot be written"):
        train(GAIN, pictures(), TINY, out=tmp_path / "file" / "run", progress=False)
    with pytest.raises(ValueError, match="no image of 3 is at least"):
        train(GAIN, pictures(), replace(TINY, phases=(Phase(1, 0.5, 64, 2),)), progress=False)
    train(GAIN, pictures(), TINY, out=tmp_path / "run", progress=False)
    kept = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="other settings"):
        train(GAIN, pictures(), replace(TINY, seed=9), out=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == kept
    (tmp_path / "run" / "checkpoint.pt").write_bytes(kept[:1000])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        train(GAIN, pictures(), TINY, out=tmp_path / "run", progress=False)


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    words = ["--operator", "l7", "--images", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 2 and "there is no operator 'l7'" in capsys.readouterr().err
    words[1] = "l0"
    assert main(words) == 2 and "no image in" in capsys.readouterr().err


def test_precision_is_decided_by_the_machine():
    cpu = torch.device("cpu")
    assert resolve_precision("float32", cpu, width=32) == torch.float32
    assert resolve_precision("auto", cpu, width=24) == torch.float32
    with pytest.raises(ValueError, match="multiple of 16"):
        resolve_precision("bfloat16", cpu, width=24)
