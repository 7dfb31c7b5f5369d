"""The operator and the value behind a picture, on pictures whose maker is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_scripts import load_script
from photographs import photograph
from small_networks import LAMBDA, RTV, THREE

from dpo_lib import OPERATORS, load_pretrained
from dpo_lib.analysis import Recovered, recover
from dpo_lib.analysis.recovery import _window
from dpo_lib.images import save_image
from dpo_lib.models import DecoupledNetwork
from dpo_lib.records import read_rows

PAIRS = (("first_by_network", "error_by_network"), ("first", "error"))


def small(operators, seed=0):
    """A small network a little away from its initial state, whose answers stay near [0, 1]."""
    torch.manual_seed(seed)
    net = DecoupledNetwork(operators, width=8, dilations=(1, 3)).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.03 * torch.randn_like(p))
    return net.requires_grad_(False)


@pytest.mark.parametrize("value", [0.002, 0.0137, 0.11, 0.2])
def test_the_network_that_made_a_picture_is_found_with_its_value(value):
    """In the middle between starts, and at both ends of the range."""
    image, net, other = photograph(60, 75), small({"l0": [LAMBDA]}), small({"rtv": RTV}, 5)
    first, second = recover(image, net(image, value), [other, net], side=80, tries=0)
    assert (first.operator, second.operator) == ("l0", "rtv")
    assert first.value[0] == pytest.approx(value, rel=0.01) and first.psnr_db > second.psnr_db + 10


def test_the_first_network_of_an_operator_is_taken():
    image, net, other = photograph(60, 75), small({"l0": [LAMBDA]}), small({"l0": [LAMBDA]}, 5)
    edited = net(image, 0.02)
    [found], [worse] = (recover(image, edited, pair, side=80, tries=0) for pair in ([net, other], [other, net]))
    assert found.psnr_db > worse.psnr_db + 10


def test_two_parameters_none_and_several_operators_in_one_network():
    image, net = photograph(60, 75), small(THREE)
    found = recover(image, net(image, [0.0123, 2.3], operator="rtv"), [net], side=80, tries=0)
    assert found[0].operator == "rtv" and found[0].value == pytest.approx((0.0123, 2.3), rel=0.05)
    found = recover(image, net(image, operator="shock"), [net], side=80, tries=0, progress=True)
    assert (found[0].operator, found[0].value) == ("shock", ()) and found[0].psnr_db > 60
    assert sorted(one.operator for one in found) == ["l0", "rtv", "shock"]


@pytest.mark.parametrize("value", [0.002, 0.031, 0.2])
def test_the_operator_itself_finds_the_exact_value_near_its_networks(value):
    image = photograph(45, 62)
    [found] = recover(image, OPERATORS["l0"](image, value), [load_pretrained("l0")], side=62, tries=20)
    assert found.operator == "l0" and 0.002 <= found.value[0] <= 0.2
    assert found.value[0] == pytest.approx(value, rel=0.02) and found.psnr_db > max(45, found.network_psnr_db)


def test_an_edit_of_a_classic_operator_is_found_by_the_shipped_networks():
    image = np.uint8(255 * photograph(48, 64))
    found = recover(image, OPERATORS["wmf"](image, 4.0), tries=12)
    assert found[0].operator == "wmf" and 3.5 <= found[0].value[0] < 4.5  # the radius is rounded
    assert len(found) == 6 and all(one.psnr_db < found[0].psnr_db for one in found[1:3])


def test_the_window_lies_where_the_pictures_differ():
    image = torch.zeros(1, 3, 100, 140)
    edited = image.clone()
    edited[..., 50:70, 100:120] = 1
    shown, target = _window(image, edited, 40)
    assert shown.shape == target.shape == (1, 3, 40, 40) and target.sum() == edited.sum() and shown.sum() == 0
    edited[..., 70:, 100:120] = 1  # no window holds all: none every 16 pixels holds more than the one found
    sums = [
        edited[..., top : top + 40, left : left + 40].sum() for top in range(0, 61, 16) for left in range(0, 101, 16)
    ]
    assert _window(image, edited, 40)[1].sum() == max(sums)
    assert _window(image, edited, 500)[0].shape == image.shape


def test_pictures_that_do_not_belong_together():
    with pytest.raises(ValueError, match=r"expected two pictures of one size, got \(1, 3, 45, 62\) and \(1, 3, 45, 60"):
        recover(photograph(45, 62), photograph(45, 60), [])
    with pytest.raises(ValueError, match="at least 32 pixels a side"):
        recover(photograph(16, 62), photograph(16, 62), [])


def test_the_benchmarks_rows_say_who_was_first_and_how_far_off(tmp_path, monkeypatch):
    script = load_script("recover")
    save_image(tmp_path / "images" / "one.png", photograph(64, 80))
    rows = [Recovered("l0", (0.021,), 50.0, (0.04,), 29.0), Recovered("wls", (1.0,), 31.0, (1.0,), 30.0)]
    monkeypatch.setattr(script, "recover", lambda *_, **__: rows)
    words = ["--images", str(tmp_path / "images"), "--operators", "l0", "wls", "--parts", "0.5"]
    script.main([*words, "--out", str(tmp_path / "rows.csv")])
    first, second = read_rows(tmp_path / "rows.csv")
    assert (first["value"], first["first_by_network"], first["first"]) == (0.02, "wls", "l0")
    assert (first["error_by_network"], first["error"]) == (pytest.approx(1), pytest.approx(0.05))
    assert second["operator"] == "wls" and second["error"] == 0  # the middle of 0.1 to 10 is 1
    _, _, every = script.summary([first, second])
    assert (every["pictures"], every["first_by_network"], every["first"]) == (2, 1, 1)
    assert every["error"] == pytest.approx(0.025)


def test_the_how_to_has_the_committed_rows():
    root, script = Path(__file__).parents[1], load_script("recover")
    text = (root / "docs" / "howto" / "recover.md").read_text(encoding="utf-8")
    for row in script.summary(read_rows(root / "results" / "recover.csv")):
        shares = [f"{row[key]} | {100 * row[error]:.0f} %" for key, error in PAIRS]
        assert f"| {row['operator']} | {row['pictures']} | {' | '.join(shares)} |" in text
