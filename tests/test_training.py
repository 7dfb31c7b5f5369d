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
from dpo_lib.commands.train import main
from dpo_lib.images import save_image, shrink_image, to_tensor
from dpo_lib.models import DecoupledNetwork
from dpo_lib.models.transfer import all_weights, base_at_mid_range, copy_weights
from dpo_lib.operators import OPERATORS, Operator
from dpo_lib.randomness import seeded
from dpo_lib.training import Phase, build_network, loss_of, resolve_precision
from dpo_lib.training.bank import TargetBank

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


HALF = Operator(name="half", title="Half", function=lambda image: image / 2)
NOISE = Operator(
    name="noise",
    title="Noise",
    kind="restoration",
    function=lambda image, sigma, shift, generator: (
        image + sigma.view(-1, 1, 1, 1) * torch.randn(image.shape, generator=generator) + shift.view(-1, 1, 1, 1)
    ),
    parameters=(Parameter("sigma", 0.01, 0.1, sampling="log"), Parameter("shift", -0.1, 0.1)),
)
THREE = [GAIN, HALF, NOISE]
JOINT = replace(TINY, operator_code="number", generated="conv(2)+norm(all)", hidden=4, replace_every=1)


@pytest.mark.parametrize("when", [4, 6, 9])
@pytest.mark.parametrize("change", [{}, {"model": "input_channels", "operator_code": "embedding"}])
def test_a_killed_joint_run_ends_the_same(tmp_path, when, change):
    config = replace(JOINT, **change)
    whole = train(THREE, pictures(), config, progress=False).network
    assert list(whole.operators) == ["gain", "half", "noise"] and whole.operator == "gain+half+noise"
    draw, draws = TargetBank.batch, 0

    def dying(self, *arguments):
        nonlocal draws
        draws += 1
        if draws > when:
            raise Killed
        return draw(self, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(TargetBank, "batch", dying)
        train(THREE, pictures(), config, out=tmp_path, checkpoint_every=0, progress=False)
    resumed = train({o.name: o for o in THREE}, pictures(), config, out=tmp_path, progress=False)
    assert resumed.finished and same(whole, resumed.network)
    with pytest.raises(ValueError, match="other settings"):
        train([HALF, GAIN, NOISE], pictures(), config, out=tmp_path, progress=False)


def test_a_joint_net_learns_both_and_hears_which():
    inverse = Operator(name="inverse", title="Inverse", function=lambda image: 1 - image)
    config = replace(TINY, steps=150, learning_rate=1e-2, ema=0.9, phases=(Phase(1, 1, 48, 4),), entries_per_image=4)
    net = train([GAIN, inverse], pictures(), config, progress=False).network
    image = to_tensor(pictures(4)[3])
    answers = {"gain": net(image, 0.3, operator="gain"), "inverse": net(image, operator="inverse")}
    targets = {"gain": GAIN(image, 0.3), "inverse": inverse(image)}
    for name, other in (("gain", "inverse"), ("inverse", "gain")):
        error, wrong = (float((answers[n] - targets[name]).square().mean()) for n in (name, other))
        assert error < 0.2 * wrong and error < 0.3 * float((image - targets[name]).square().mean())


def test_joint_bank_gives_each_operator_its_part_of_every_image():
    bank = TargetBank(THREE, pictures(4), entries_per_image=3, crop=20, progress=False)
    bank.fill()
    names = [entry.operator for entry in bank.entries]
    assert sorted(names) == sorted(["gain", "half", "noise"] * 4)
    single = TargetBank(THREE, pictures(4), entries_per_image=1, crop=20, progress=False)
    single.fill()
    seen = [set() for _ in range(4)]
    for _ in range(3):  # an entry's next version is the next operator's
        for index, entry in enumerate(single.entries):
            seen[index].add(entry.operator)
            assert len(entry.value) == {"gain": 1, "half": 0, "noise": 2}[entry.operator]
        single.advance(single.replaced + 4)
    assert all(len(one) == 3 for one in seen)
    batch = bank.batch(40, seeded(3))
    assert batch.value.shape == (40, 2) and set(batch.operators) == {"gain", "half", "noise"}
    for name, row, shown, target in zip(batch.operators, batch.value, batch.input, batch.target, strict=True):
        columns = {"gain": 1, "half": 0, "noise": 2}[name]
        assert bool((row[:columns] != 0).all()) and not bool(row[columns:].any())
        if name != "noise":
            factor = 0.5 if name == "half" else float(row[0])
            assert (shown * factor - target).abs().max() < 5e-3
        else:
            assert 0.3 * row[0] < (shown - target).std() < 1.7 * row[0]


def test_a_small_bank_shows_every_image_in_turn():
    bank = TargetBank(THREE, pictures(4), entries_per_image=3, size=3, crop=20, progress=False)
    bank.fill()
    shown, operators = [], []
    for round_ in range(16):
        bank.advance(3 * round_)
        places = [bank._place(index, round_) % 4 for index in range(3)]
        shown += places
        operators += [entry.operator for entry in bank.entries]
        for place, entry in zip(places, bank.entries, strict=True):
            picture = torch.from_numpy(pictures(4)[place]).sum()  # whichever way it was turned
            assert entry.operator == "noise" or int(entry.input.sum(dtype=torch.int64)) == int(picture)
    pairs = {(image, operator): 0 for image in range(4) for operator in ("gain", "half", "noise")}
    for pair in zip(shown, operators, strict=True):
        pairs[pair] += 1
    assert set(pairs.values()) == {4}  # 48 versions, 12 pairs
    later = TargetBank(THREE, pictures(4), size=3, crop=20, progress=False)
    later.fill(bank.replaced)
    assert all(torch.equal(a.target, b.target) for a, b in zip(bank.entries, later.entries, strict=True))


def test_beginning_with_another_networks_weights(tmp_path, capsys):
    first = train(GAIN, pictures(), replace(TINY, steps=3), progress=False).network
    other = replace(GAIN, name="other")
    begun = train(other, pictures(), replace(TINY, steps=1, learning_rate=1e-12), initial=first, progress=False).network
    assert begun.operator == "other"
    for a, b in zip(first.state_dict().values(), begun.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    with pytest.raises(ValueError, match="another form"):
        train(GAIN, pictures(), replace(TINY, width=8), initial=first, progress=False)
    image = to_tensor(pictures()[0]).float()
    joint = build_network(THREE, TINY)
    copy_weights(joint, first)  # every operator of a joint network begins with the same answers
    for name, value in (("gain", 0.3), ("half", None), ("noise", [0.05, 0.05])):
        code = joint.gamma_code(value, operator=name)[0, len(THREE)]
        alone = first(image, 0.55 + 0.35 * float(code))
        assert torch.allclose(joint(image, value, operator=name), alone, atol=1e-5)
    save_image(tmp_path / "images" / "one.png", pictures(1, 160, 160)[0])
    words = ["--operator", "wls", "--images", str(tmp_path / "images"), "--scale", "smoke", "--steps", "1", "--out"]
    assert main([*words, str(tmp_path / "out"), "--width", "32", "--initial", "l0"]) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["initial"]["name"] == "l0"
    assert main([*words, str(tmp_path / "other"), "--initial", "l0"]) == 2  # another width
    assert "another form" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "none"), "--initial", "nobody"]) == 2
    assert "no pretrained network" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [
    {"model": "film"}, {"generated": "norm(last)"}, {"generated": "conv(9).in"}, {"generated": "conv(9).out"},
    {"hidden": 5}, {"trunk": (6, 2)}, {"model": "base_only"},
])  # fmt: skip
def test_beginning_in_the_middle_of_another_networks_range(changes):
    """Every form begins with the same function for every value and operator: the given network's at code zero."""
    first = train(GAIN, pictures(), replace(TINY, steps=3), progress=False).network
    with torch.no_grad():  # far from the untrained state, in which the last layers are zero
        for weight in first.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    image = to_tensor(pictures()[0]).float()
    wanted = first(image, 0.55)  # the middle of 0.2 to 0.9
    base = base_at_mid_range(first).eval()
    assert torch.allclose(base(image, 0.2), wanted, atol=1e-5)
    for initial in (first, base):
        net = build_network(THREE, replace(TINY, **changes)).eval()
        copy_weights(net, initial)
        for name, value in (("gain", 0.9), ("half", None), ("noise", [0.05, 0.05])):
            assert torch.allclose(net(image, value, operator=name), wanted, atol=1e-5)


def test_a_network_with_input_channels_begins_with_the_others_kernels():
    first = train(GAIN, pictures(), replace(TINY, steps=3), progress=False).network
    net = build_network(THREE, replace(TINY, model="input_channels"))
    own = net.weight_learning_network.fixed["conv1"].clone()
    copy_weights(net, first)
    given = all_weights(first)
    assert torch.equal(net.weight_learning_network.fixed["conv1"][:, :4], given["conv1"])
    assert torch.equal(net.weight_learning_network.fixed["conv1"][:, 4:], own[:, 4:])
    assert torch.equal(net.weight_learning_network.fixed["conv7"], given["conv7"])
    with pytest.raises(ValueError, match="another form"):
        copy_weights(build_network(THREE, TINY), net)
    with pytest.raises(ValueError, match="expected a decoupled network"):
        base_at_mid_range(net)


def test_one_operator_in_any_form_is_the_same_run():
    forms = (GAIN, [GAIN], {"gain": GAIN})
    first, *others = (train(form, pictures(), replace(TINY, steps=3), progress=False).network for form in forms)
    assert all(same(first, other) for other in others) and first.operator == "gain"


def test_bad_joint_runs():
    with pytest.raises(ValueError, match="different names"):
        train([GAIN, GAIN], pictures(), TINY, progress=False)
    with pytest.raises(ValueError, match="different names, got none"):
        train([], pictures(), TINY, progress=False)
    with pytest.raises(ValueError, match="a single operator only, got 2"):
        train([GAIN, HALF], pictures(), replace(TINY, values=(0.5,)), progress=False)
    with pytest.raises(ValueError, match="3 operators need at least as many entries, got 2"):
        train(THREE, pictures(2), replace(TINY, entries_per_image=1), progress=False)


def test_settings_reach_the_network():
    config = replace(TINY, generated="norm(last)", hidden=3, relu=False, depthwise=True, operator_code="number")
    network = build_network([GAIN, HALF], config)
    found = {name: network.config[name] for name in ("generated", "hidden", "relu", "depthwise", "operator_code")}
    assert found == {name: getattr(config, name) for name in found}
    assert build_network(GAIN, replace(TINY, trunk=(5, 2))).config["trunk"] == [5, 2]


def test_checkpoints_from_before_there_were_other_models(tmp_path):
    """They name only the settings of their time; all others were what the defaults are."""
    train(GAIN, pictures(), TINY, out=tmp_path, minutes=1e-9, progress=False)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    run = json.loads(saved["identity"])
    later = "model operator_code depthwise generated hidden relu trunk trained parameters"
    run = {name: setting for name, setting in run.items() if name not in later.split()}
    torch.save({**saved, "identity": json.dumps(run)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="other settings"):
        train(GAIN, pictures(), replace(TINY, model="film"), out=tmp_path, progress=False)
    assert train(GAIN, pictures(), TINY, out=tmp_path, progress=False).finished


def test_joint_training_and_evaluation_from_the_command_line(tmp_path, capsys):
    from dpo_lib.commands.evaluate import main as evaluate_main
    from dpo_lib.records import read_rows

    for number, picture in enumerate(pictures(2, 66, 80)):
        save_image(tmp_path / "images" / f"{number}.png", np.tile(picture, (2, 2, 1)))
    images, model = str(tmp_path / "images"), str(tmp_path / "run" / "network.safetensors")
    words = ["--images", images, "--out", str(tmp_path / "run"), "--scale", "smoke", "--steps", "2", "--width", "4"]
    model_words = ["--generated", "norm(last)", "--depthwise", "--operator-code", "number", "--hidden", "2"]
    names = ["--operator", "l0", "shock", "--name", "two filters", "--device", "cpu"]
    assert main([*names, *words, *model_words]) == 0
    card = json.loads((tmp_path / "run" / "run.json").read_text())
    assert card["name"] == "two filters" and card["operator"] == "l0+shock" and card["config"]["depthwise"]
    words = ["--model", model, "--images", images]
    assert evaluate_main([*words, "--out", str(tmp_path / "rows.csv")]) == 0
    rows = read_rows(tmp_path / "rows.csv")
    assert [row["operator"] for row in rows] == ["l0"] * 10 + ["shock"] * 2
    assert "L0 smoothing" in capsys.readouterr().out
    one = [*words, "--operator", "l0", "--values", "0.02", "--out", str(tmp_path / "one.csv")]
    assert evaluate_main(one) == 0 and len(read_rows(tmp_path / "one.csv")) == 2
    capsys.readouterr()
    assert evaluate_main([*words, "--operator", "wmf", "--out", "x"]) == 2
    assert "the network knows l0, shock, got 'wmf'" in capsys.readouterr().err
    assert evaluate_main([*words, "--values", "1", "--out", "x"]) == 2
    assert "--values needs one operator, got 2" in capsys.readouterr().err


def test_a_killed_process_leaves_a_whole_checkpoint(tmp_path):
    """SIGKILL while training from the command line; the same command then goes on to the end."""
    for number, picture in enumerate(pictures(2, 96, 130)):
        save_image(tmp_path / "images" / f"{number}.png", picture)
    program = (
        "import sys, dpo_lib.commands.train as t; from dataclasses import replace; "
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


def test_minutes_hold_while_targets_are_computed(tmp_path):
    def slow(image, gain):
        time.sleep(0.1)
        return image * gain.view(-1, 1, 1, 1)

    start = time.monotonic()
    config = replace(TINY, entries_per_image=100)  # half a minute of targets
    part = train(replace(GAIN, function=slow), pictures(), config, out=tmp_path, minutes=0.02, progress=False)
    assert not part.finished and part.steps == 0 and time.monotonic() - start < 15


def test_smoke_scale_is_quick(tmp_path):
    start = time.monotonic()
    result = train(OPERATORS["l0"], [np.tile(p, (3, 3, 1)) for p in pictures()], SCALES["smoke"], progress=False)
    assert result.finished and time.monotonic() - start < 20


def test_single_value_and_no_parameter():
    result = train(OPERATORS["l0"], pictures(), replace(TINY, steps=2, values=(0.02,)), progress=False)
    assert isinstance(result.network, DecoupledNetwork)
    network = train(HALF, pictures(), replace(TINY, steps=2), progress=False).network
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
    inputs, targets, values, names = bank.batch(5, seeded(1))
    assert inputs.shape == targets.shape == (5, 3, 20, 20) and values.shape == (5, 1) and names == ["l0"] * 5


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
        ({"model": "gan"}, "model must be one of"),
        ({"trained": "some"}, "trained must be one of"),
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


def test_phases_on_the_command_line(tmp_path, capsys):
    save_image(tmp_path / "images" / "one.png", pictures(1, 80, 90)[0])
    words = ["--operator", "denoise", "--images", str(tmp_path / "images"), "--scale", "smoke", "--steps", "2"]
    words += ["--out", str(tmp_path / "out"), "--phases"]
    assert main([*words, "0.5,0.5,24,2", "0.5,1,32,1"]) == 0
    config = json.loads((tmp_path / "out" / "run.json").read_text())["config"]
    assert [list(phase.values()) for phase in config["phases"]] == [[0.5, 0.5, 24, 2], [0.5, 1, 32, 1]]
    for wrong in ("1,1,24", "1,2,24,2", "1,1,x,2"):
        with pytest.raises(SystemExit):
            main([*words, wrong])
        assert "SHARE,SHRINK,CROP,BATCH" in capsys.readouterr().err


def test_precision_is_decided_by_the_machine():
    cpu = torch.device("cpu")
    assert resolve_precision("float32", cpu, width=32) == torch.float32
    assert resolve_precision("auto", cpu, width=24) == torch.float32
    with pytest.raises(ValueError, match="multiple of 16"):
        resolve_precision("bfloat16", cpu, width=24)
