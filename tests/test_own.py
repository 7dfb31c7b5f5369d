"""Operators of your own: found by module and name, trained from the shell, measured, shown, shipped."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from benchmark_scripts import TOOLS, load_script
from tiny_runs import pictures

from dpo_lib import OPERATORS, Parameter, load_image, psnr, save_image
from dpo_lib.__main__ import main
from dpo_lib.images import to_tensor
from dpo_lib.models.pretrained import load_any
from dpo_lib.operators.own import find_operator
from dpo_lib.records import read_rows
from dpo_lib.widgets import explore

LIGHTS = """
def gain(image, gain):
    return image * gain

def gamma(image, gain, exponent):
    return gain * image ** exponent

def half(image):
    return image / 2
"""

OWN = """
from dpo_lib import Operator, Parameter

def fade(image, amount=0.5):
    return image * amount

OPERATOR = Operator.from_function(fade, name="fade", parameters=[Parameter("amount", 0.1, 0.9)])
number = 3
"""


def test_operators_of_your_own_are_found_in_their_modules(tmp_path, monkeypatch):
    (tmp_path / "own_filters.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    found = find_operator("own_filters:OPERATOR")
    image = np.full((9, 12, 3), 0.5)
    assert found.name == "fade" and (found(image, 0.4) == 0.2).all()
    plain = find_operator("own_filters:fade", found.parameters, called="other")
    assert plain.name == "other" and (plain(image, 0.4) == 0.2).all()
    assert find_operator("l0") is OPERATORS["l0"] and sys.path == before
    for wrong, message in (
        ("own_filters:gone", "there is no operator 'own_filters:gone'"),
        ("nowhere:fade", "No module named 'nowhere'"),
        ("own_filters:number", "must be an Operator or a function on images, got int"),
        ("l00", r"there is no operator 'l00' \(did you mean l0\?\): choose from l0, .*, or name your own"),
    ):
        with pytest.raises(ValueError, match=message):
            find_operator(wrong)


def test_a_function_takes_its_parameters_in_the_order_of_its_call(tmp_path, monkeypatch):
    (tmp_path / "own_orders.py").write_text("def f(image, gain, lam=1, *, flip=False):\n    return image * gain**lam\n")
    monkeypatch.chdir(tmp_path)
    gain, exponent = Parameter("gain", 0.1, 0.9), Parameter("lambda", 1, 3)
    image = np.full((9, 12, 3), 0.5)
    assert (find_operator("own_orders:f", [gain, exponent])(image, [0.5, 2.0]) == 0.125).all()  # Python says lam
    for wrong, message in (
        ([Parameter("lam", 1, 3), gain], r"called as \(image, lam, gain\), but takes .*: lam has another place there"),
        ([], r"called as \(image\), but missing a required argument: 'gain': name its parameters"),
        ([gain, exponent, Parameter("flip", 0, 1)], "too many positional arguments"),
    ):
        with pytest.raises(ValueError, match=message):
            find_operator("own_orders:f", wrong)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a module of two functions, photographs, and a network trained by the program `dpo`."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_lights.py").write_text(LIGHTS)
    for number, picture in enumerate(pictures(2, 66, 80)):
        save_image(folder / "images" / f"{number}.png", picture)
    words = "train --operator own_lights:gamma --parameter gain 0.2 0.9 log --parameter exponent 1 3 --jobs 2"
    words += " --scale smoke --steps 2 --width 4 --phases 1,1,32,2 --device cpu --images images --out runs/gamma"
    program = "import sys; sys.path.remove(''); import dpo_lib.__main__ as program; sys.exit(program.main())"
    done = subprocess.run([sys.executable, "-c", program, *words.split()], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_function_from_the_shell_to_every_use(trained, monkeypatch, capsys):
    """What `dpo train` leaves is measured, applied, shown and exported without the function being named again."""
    monkeypatch.chdir(trained)
    assert {path.parent.name for path in trained.glob("runs/targets/*/*.png")} == {"gamma"}
    net = load_any("runs/gamma")
    assert net.card["sources"] == {"gamma": "own_lights:gamma"} and net.card["operator"] == "gamma"
    assert [(p.name, p.low, p.high, p.sampling) for p in net.operators["gamma"]] == [
        ("gain", 0.2, 0.9, "log"), ("exponent", 1, 3, "uniform")
    ]  # fmt: skip
    for words in ("evaluate --model runs/gamma --images images --values 0.5 --out rows.csv",
                  "apply --model runs/gamma --value 0.5,2 images --out out --overwrite",
                  "apply --operator own_lights:half images --out half --overwrite"):  # fmt: skip
        assert main(words.split()) == 0, capsys.readouterr().err
    rows = read_rows("rows.csv")
    assert [row["operator"] for row in rows] == ["gamma"] * 2
    image = load_image("images/0.png")
    assert rows[0]["input_psnr_db"] == pytest.approx(psnr(image, 0.5 * image**2), abs=0.05)
    assert "gamma at gain 0.5, exponent 2" in capsys.readouterr().out
    found = load_image("out/0.png")
    assert np.abs(found - net(image, [0.5, 2.0]).clip(0, 1)).max() < 0.51 / 255
    board = explore(net, image)
    assert [slider.description for slider in board.sliders] == ["gain", "exponent"]
    exported = torch.export.export(net.at([0.5, 2.0]), (to_tensor(image).float(),)).module()
    assert torch.allclose(exported(to_tensor(image).float()), net(to_tensor(image).float(), [0.5, 2.0]), atol=1e-6)


def test_a_network_whose_operator_is_gone_says_where_it_should_be(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # the network without its module
    monkeypatch.delitem(sys.modules, "own_lights", raising=False)
    run, images = str(trained / "runs" / "gamma"), str(trained / "images")
    message = ("there is no operator 'own_lights:gamma' (No module named 'own_lights'): "
               "expected module:function, the module in this folder or on PYTHONPATH")  # fmt: skip
    assert main(["evaluate", "--model", run, "--images", images, "--out", "rows.csv"]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    with pytest.raises(ValueError, match=re.escape(message)):
        explore(load_any(run), pictures(1)[0])
    assert main(["apply", "--model", run, images, "--out", "out"]) == 0  # the answer needs the weights alone


def test_a_network_of_your_own_gets_a_card(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained)
    tool = load_script("ship_network", TOOLS)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "embedded_images", lambda: {"coffee": pictures(1, 40, 50)[0]})
    assert tool.main(["runs/gamma", "--training-set", "two", "--terms", "free", "--test-images", "images"]) == 0
    card = (tmp_path / "dpo_lib" / "weights" / "gamma.md").read_text()
    assert "gamma for every gain in [0.2, 0.9], exponent in [1, 3]" in card and "Measured on 2 images of images" in card


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("own_lights:gain --parameter gain 0.2", "--parameter takes NAME LOW HIGH [SAMPLING], as strength 0.1 10 log"),
        ("own_lights:gain --parameter gain a b", "--parameter takes NAME LOW HIGH [SAMPLING]"),
        ("own_lights:gain --parameter gain 0 1 log", "gain is sampled in log scale and needs low > 0, got 0.0"),
        ("own_lights:gain --parameter gain 0 1 sqrt", "sampling must be one of log, uniform, integer, got 'sqrt'"),
        ("own_lights:gain", "missing a required argument: 'gain'"),
        ("l0 --parameter lambda 0.1 1", "--parameter belongs to one --operator module:function"),
        ("own_lights:gain l0 --parameter gain 0.1 1", "--parameter belongs to one --operator module:function"),
    ],
)
def test_what_is_refused(trained, monkeypatch, capsys, words, said):
    monkeypatch.chdir(trained)
    assert main(["train", "--images", "images", "--out", "other", "--operator", *words.split()]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (trained / "other").exists()
