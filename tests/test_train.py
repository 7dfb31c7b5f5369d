"""The commands train and evaluate."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import GAIN, THREE, TINY, pictures, same

from dpo_lib import train
from dpo_lib.commands.train import main
from dpo_lib.images import save_image, to_tensor
from dpo_lib.models.transfer import copy_weights
from dpo_lib.training import build_network
from dpo_lib.training.learner import Learner


def test_beginning_with_another_networks_weights(tmp_path, capsys):
    first = train(GAIN, pictures(), replace(TINY, steps=3), progress=False).network
    other = replace(GAIN, name="other")
    begun = train(other, pictures(), replace(TINY, steps=1, learning_rate=1e-12), initial=first, progress=False).network
    assert begun.operator == "other"
    for a, b in zip(first.state_dict().values(), begun.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    with pytest.raises(ValueError, match="another form"):
        train(GAIN, pictures(), TINY.with_network(width=8), initial=first, progress=False)
    image = to_tensor(pictures()[0]).float()
    joint = build_network(THREE, TINY)
    copy_weights(joint, first)  # every operator of a joint network begins with the same answers
    for name, value in (("gain", 0.3), ("half", None), ("noise", [0.05, 0.05])):
        code = joint.gamma_code(value, operator=name)[0, len(THREE)]
        alone = first(image, 0.55 + 0.35 * float(code))
        assert torch.allclose(joint(image, value, operator=name), alone, atol=1e-5)
    save_image(tmp_path / "images" / "one.png", pictures(1, 160, 160)[0])
    words = ["--operator", "wls", "--images", str(tmp_path / "images"), "--scale", "smoke", "--steps", "1", "--out"]
    assert main([*words, str(tmp_path / "out"), "--width", "32", "--initial", "l0_paper"]) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["initial"]["name"] == "l0_paper"
    assert main([*words, str(tmp_path / "other"), "--initial", "l0_paper"]) == 2  # another width
    assert "another form" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "none"), "--initial", "nobody"]) == 2
    assert "no pretrained network" in capsys.readouterr().err


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
    assert card["name"] == "two filters" and card["operator"] == "l0+shock" and card["config"]["network"]["depthwise"]
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
        "t.SCALES['smoke'] = replace(t.SCALES['smoke'], steps=40, phases=(t.Phase(1.0, 0.5, 32, 2),)); "
        "t.SCALES['smoke'] = t.SCALES['smoke'].with_network(width=4); "
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_leave_a_checkpoint_and_say_how_to_go_on(tmp_path, monkeypatch, capsys, number, code):
    save_image(tmp_path / "images" / "one.png", pictures(1, 160, 160)[0])
    words = ["--operator", "denoise", "--images", str(tmp_path / "images"), "--scale", "smoke", "--steps", "3"]
    words += ["--width", "4", "--device", "cpu", "--out", str(tmp_path / "out")]
    step, former = Learner.step, signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(self, batch, count):
        signal.raise_signal(number)
        return step(self, batch, count)

    monkeypatch.setattr(Learner, "step", interrupted)
    try:
        assert main(words) == code
    finally:
        signal.signal(signal.SIGINT, former)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("interrupted: step 1 of 3 is kept in") and said.endswith("the same command continues")
    assert not (tmp_path / "out" / "network.safetensors").exists()
    monkeypatch.undo()
    assert main(words) == 0 and "3 of 3 steps" in capsys.readouterr().out


def test_time_for_no_step_writes_no_network(tmp_path, capsys):
    save_image(tmp_path / "images" / "one.png", pictures(1, 160, 160)[0])
    words = ["--operator", "denoise", "--images", str(tmp_path / "images"), "--scale", "smoke", "--device", "cpu"]
    words += ["--out", str(tmp_path / "out"), "--minutes"]
    with pytest.raises(SystemExit) as refused:
        main([*words, "0"])
    assert refused.value.code == 2 and "--minutes: expected a number above 0, got '0'" in capsys.readouterr().err
    assert main([*words, "1e-9"]) == 3 and "no step was done in this time" in capsys.readouterr().err
    assert not (tmp_path / "out" / "network.safetensors").exists()


def test_a_loss_that_diverges_and_networks_without_measure_are_one_line(tmp_path, capsys):
    save_image(tmp_path / "images" / "one.png", pictures(1, 160, 160)[0])
    words = ["--operator", "denoise", "--images", str(tmp_path / "images"), "--scale", "smoke", "--steps", "9"]
    words += ["--device", "cpu", "--width", "4", "--out", str(tmp_path / "out")]
    assert main([*words, "--learning-rate", "1e30"]) == 2
    assert "error: the loss became" in capsys.readouterr().err
    for wide in (["--width", "100000"], ["--width", "4096", "--hidden", "4096"]):
        assert main([*words[:-4], "--out", str(tmp_path / "other"), *wide]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_an_image_removed_while_training_is_in_the_record(tmp_path, monkeypatch):
    image = tmp_path / "images" / "one.png"
    save_image(image, pictures(1, 160, 160)[0])
    words = ["--operator", "denoise", "--images", str(tmp_path / "images"), "--scale", "smoke", "--steps", "1"]

    def trained_and_removed(*given, **settings):
        image.unlink()
        return train(*given, **settings)

    monkeypatch.setattr("dpo_lib.commands.train.train", trained_and_removed)
    assert main([*words, "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    [file] = json.loads((tmp_path / "out" / "run.json").read_text())["files"]
    assert file["file"] == "one.png" and len(file["sha256"]) == 64


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    words = ["--operator", "l7", "--images", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 2 and "there is no operator 'l7'" in capsys.readouterr().err
    words[1], words[3] = "l0", str(tmp_path / "images")
    (tmp_path / "images").mkdir()
    assert main(words) == 2 and "no image in" in capsys.readouterr().err
    save_image(tmp_path / "images" / "one.png", pictures(1)[0])
    for out, said in ((tmp_path / "images" / "run", "lies in the input folder"), (tmp_path, "holds the input folder")):
        words[5] = str(out)
        assert main(words) == 2 and said in capsys.readouterr().err
    words[5] = str(tmp_path / "images" / "one.png")
    assert main(words) == 2 and "one.png lies in the input folder" in capsys.readouterr().err
    words[5] = str(tmp_path / "other")
    assert main([*words, "--device", "cup"]) == 2 and "there is no device 'cup'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        main([*words, "--step", "3", "--wdith", "4"])
    assert refused.value.code == 2 and "unknown option --wdith (did you mean --width?)" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_phases_on_the_command_line(tmp_path, capsys):
    save_image(tmp_path / "images" / "one.png", pictures(1, 80, 90)[0])
    words = ["--operator", "denoise", "--images", str(tmp_path / "images"), "--scale", "smoke", "--steps", "2"]
    words += ["--out", str(tmp_path / "out"), "--phases"]
    assert main([*words, "0.5,0.5,24,2", "0.5,1,32,1"]) == 0
    config = json.loads((tmp_path / "out" / "run.json").read_text())["config"]
    assert [list(phase.values()) for phase in config["phases"]] == [[0.5, 0.5, 24, 2], [0.5, 1, 32, 1]]
    for wrong in ("1,1,24", "1,2,24,2", "1,1,x,2"):
        assert main([*words, wrong]) == 2
        assert "SHARE,SHRINK,CROP,BATCH" in capsys.readouterr().err
