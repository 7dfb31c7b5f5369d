"""Training: the loss falls, a killed run ends like one that was not, bad settings are refused."""

import csv
import resource
import shutil
import signal
import time
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
from tiny_runs import GAIN, HALF, NOISE, THREE, TINY, pictures, same

from dpo_lib import SCALES, Parameter, train
from dpo_lib.files import locked
from dpo_lib.images import to_tensor
from dpo_lib.models import DecoupledNetwork
from dpo_lib.operators import OPERATORS, Operator
from dpo_lib.training import Phase
from dpo_lib.training.learner import Learner


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


@pytest.mark.parametrize("when", [1, 5, 6, 7, 11])
def test_a_run_killed_at_any_step_ends_the_same(tmp_path, killed, when):
    """Killed before, at and after the change of phase; a checkpoint after every step."""
    whole = train(OPERATORS["l0"], pictures(), TINY, progress=False).network
    with killed(after=when):
        train(OPERATORS["l0"], pictures(), TINY, out=tmp_path, checkpoint_every=0, progress=False)
    resumed = train(OPERATORS["l0"], pictures(), TINY, out=tmp_path, progress=False)
    assert resumed.finished and resumed.steps == 12 and resumed.samples == 6 * 3 + 6 * 2
    assert same(whole, resumed.network)


JOINT = TINY.with_network(operator_code="number", generated="conv(2)+norm(all)", hidden=4)


@pytest.mark.parametrize("when", [4, 6, 9])
@pytest.mark.parametrize("change", [{}, {"model": "input_channels", "operator_code": "embedding"}])
def test_a_killed_joint_run_ends_the_same(tmp_path, killed, when, change):
    config = JOINT.with_network(**change)
    whole = train(THREE, pictures(), config, progress=False).network
    assert list(whole.operators) == ["gain", "half", "noise"] and whole.operator == "gain+half+noise"
    with killed(after=when):
        train(THREE, pictures(), config, out=tmp_path, checkpoint_every=0, progress=False)
    resumed = train({o.name: o for o in THREE}, pictures(), config, out=tmp_path, progress=False)
    assert resumed.finished and same(whole, resumed.network)
    with pytest.raises(ValueError, match="another run"):
        train([HALF, GAIN, NOISE], pictures(), config, out=tmp_path, progress=False)


def test_a_joint_net_learns_both_and_hears_which():
    inverse = Operator(name="inverse", title="Inverse", function=lambda image: 1 - image)
    config = replace(TINY, steps=150, learning_rate=1e-2, ema=0.9, phases=(Phase(1, 1, 48, 4),), entries_per_image=20)
    net = train([GAIN, inverse], pictures(), config, progress=False).network
    image = to_tensor(pictures(4)[3])
    answers = {"gain": net(image, 0.3, operator="gain"), "inverse": net(image, operator="inverse")}
    targets = {"gain": GAIN(image, 0.3), "inverse": inverse(image)}
    for name, other in (("gain", "inverse"), ("inverse", "gain")):
        error, wrong = (float((answers[n] - targets[name]).square().mean()) for n in (name, other))
        assert error < 0.2 * wrong and error < 0.3 * float((image - targets[name]).square().mean())


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


def test_minutes_stop_cleanly_and_go_on(tmp_path):
    part = train(GAIN, pictures(), TINY, out=tmp_path, minutes=1e-9, progress=False)
    assert not part.finished and part.steps == 0
    whole = train(GAIN, pictures(), TINY, out=tmp_path, minutes=5, progress=False)
    assert whole.finished and same(whole.network, train(GAIN, pictures(), TINY, progress=False).network)


def test_minutes_hold_while_targets_are_computed(tmp_path):
    answered = []

    def slow(image, gain):
        answered.append(len(image))
        time.sleep(0.1)
        return image * gain.view(-1, 1, 1, 1)

    config = replace(TINY, entries_per_image=100)
    part = train(replace(GAIN, function=slow), pictures(), config, out=tmp_path, minutes=0.02, progress=False)
    assert not part.finished and part.steps == 0
    assert 0 < sum(answered) < 100 * 3 / 4  # of 300 targets, 1.2 seconds have room for a few


def test_smoke_scale_is_small():
    """A few steps of small batches: the run's cost is in what it counts, not in a clock that other work slows."""
    config = SCALES["smoke"]
    result = train(OPERATORS["l0"], [np.tile(p, (3, 3, 1)) for p in pictures()], config, progress=False)
    assert result.finished and result.steps == config.steps <= 50
    assert result.samples <= 100


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


@pytest.mark.parametrize(
    "wrong",
    [None, [[0.5]], np.zeros((40, 50)), np.zeros((1, 40, 50, 3)), np.full((40, 50, 3), 200.0), np.zeros((3, 40, 50))],
)
def test_what_is_no_training_image_is_named_by_its_number(wrong):
    with pytest.raises((TypeError, ValueError), match="training image 3: "):
        train(GAIN, [*pictures(), wrong], TINY, progress=False)


def test_bad_places_and_images(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="cannot be written"):
        train(GAIN, pictures(), TINY, out=tmp_path / "file" / "run", progress=False)
    with pytest.raises(ValueError, match="no image of 3 is at least"):
        train(GAIN, pictures(), replace(TINY, phases=(Phase(1, 0.5, 64, 2),)), progress=False)
    train(GAIN, pictures(), TINY, out=tmp_path / "run", progress=False)
    kept = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="another run"):
        train(GAIN, pictures(), replace(TINY, seed=9), out=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == kept
    (tmp_path / "run" / "checkpoint.pt").write_bytes(kept[:1000])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        train(GAIN, pictures(), TINY, out=tmp_path / "run", progress=False)


def log_of(folder):
    """The rows of a log without the times, which no two runs share."""
    with open(folder / "log.csv", newline="") as file:
        return [row[:-1] for row in csv.reader(file)]


def test_the_log_of_a_killed_run_is_that_of_one_that_was_not(tmp_path, killed, monkeypatch):
    monkeypatch.setattr("dpo_lib.training.loop.LOG_EVERY", 5)
    train(GAIN, pictures(), TINY, out=tmp_path / "whole", progress=False)
    for when in (5, 2):  # with a new log row, and in the middle of what the next one averages
        with killed(after=when):
            train(GAIN, pictures(), TINY, out=tmp_path / "killed", checkpoint_every=0, progress=False)
    train(GAIN, pictures(), TINY, out=tmp_path / "killed", progress=False)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole") and len(log_of(tmp_path / "whole")) == 4


@pytest.fixture
def ctrl_c(monkeypatch):
    """Ctrl-C in the middle of the seventh step."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored
    step = Learner.step

    def interrupted(self, batch, number):
        if number == 6:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, number)

    monkeypatch.setattr(Learner, "step", interrupted)
    yield
    signal.signal(signal.SIGINT, former)


def test_ctrl_c_ends_the_step_and_keeps_it(tmp_path, ctrl_c, monkeypatch):
    with pytest.raises(KeyboardInterrupt, match="step 7 of 12 is kept in .*checkpoint.pt"):
        train(GAIN, pictures(), TINY, out=tmp_path, progress=False)
    monkeypatch.undo()
    begun = train(GAIN, pictures(), TINY, out=tmp_path, minutes=1e-9, progress=False)
    assert begun.steps == 7
    resumed = train(GAIN, pictures(), TINY, out=tmp_path, progress=False)
    assert same(resumed.network, train(GAIN, pictures(), TINY, progress=False).network)


def test_two_trainings_in_one_folder(tmp_path):
    with locked(tmp_path, "training.lock"), pytest.raises(BlockingIOError, match="another process is at work in"):
        train(GAIN, pictures(), TINY, out=tmp_path, progress=False)
    assert not (tmp_path / "log.csv").exists()


def test_a_full_disk_is_said_before_any_work(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 2**20, 2**20 + 1))
    with pytest.raises(OSError, match=r"MB are needed and 1.0 MB left: choose another disk"):
        train(GAIN, pictures(), TINY.with_network(width=64), out=tmp_path, progress=False)
    assert not (tmp_path / "log.csv").exists()


def test_a_disk_that_becomes_full_is_named_and_leaves_the_last_checkpoint(tmp_path, killed):
    with killed(after=4):
        train(GAIN, pictures(), TINY, out=tmp_path, checkpoint_every=0, progress=False)
    kept, limits = (tmp_path / "checkpoint.pt").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, limits[1]))  # no file may become larger
    try:
        with pytest.raises(OSError, match="while this was written: .*checkpoint.pt"):
            train(GAIN, pictures(), TINY, out=tmp_path, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    assert not list(tmp_path.glob(".checkpoint*"))
