"""The command evaluate: what it refuses and leaves out (what it measures: test_train, test_evaluation)."""

import json

import numpy as np
import pytest
from photographs import photograph

from dpo_lib import DecoupledNetwork, Parameter, save_network
from dpo_lib.commands.evaluate import evaluate, main
from dpo_lib.images import save_image
from dpo_lib.records import read_rows


@pytest.fixture
def images(tmp_path):
    save_image(tmp_path / "images" / "one.png", photograph(24, 30))
    return tmp_path / "images"


def test_the_output_is_checked_first(images, tmp_path, capsys):
    def refused(out, by, *words):
        assert main(["--model", "nobody", "--images", str(images), "--out", str(out), *words]) == 2
        error = capsys.readouterr().err
        assert by in error and error.count("\n") == 1

    refused(images / "rows.csv", "lies in the input folder")
    refused(images / "below" / "rows.csv", "lies in the input folder")
    refused(tmp_path, "is a folder: give the name of a file")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "rows.csv", "is a file")
    refused(tmp_path / "rows.json", "would be replaced by its record: give a name that ends in .csv")
    refused("/dev/null", "a device or pipe, expected the name of a file")
    refused(tmp_path / "rows.csv", "there is no device 'cup'", "--device", "cup")
    refused(tmp_path / "rows.csv", "there is no pretrained network 'nobody'")
    assert sorted(path.name for path in images.iterdir()) == ["one.png"]


@pytest.mark.parametrize("every", ["0", "-1", "1.5", "all"])
def test_every_nth_needs_a_whole_number_from_1(images, tmp_path, capsys, every):
    with pytest.raises(SystemExit) as refused:
        main(["--model", "l0", "--images", str(images), "--out", str(tmp_path / "rows.csv"), "--every", every])
    error = capsys.readouterr().err
    assert refused.value.code == 2 and error.count("\n") == 1
    assert f"--every: expected a whole number from 1, got '{every}'" in error


def test_broken_small_and_removed_images(images, tmp_path, capsys, monkeypatch):
    """Two stems alike; what cannot be used is named and counted; what goes away meanwhile is in the record."""
    save_image(images / "a" / "one.png", photograph(20, 26))
    save_image(images / "tiny.png", photograph(9, 40))
    (images / "broken.jpg").write_bytes(b"no image")

    def measured_and_removed(network, operator, shown, **settings):
        (images / "one.png").unlink(missing_ok=True)
        return evaluate(network, operator, shown, **settings)

    monkeypatch.setattr("dpo_lib.commands.evaluate.evaluate", measured_and_removed)
    words = ["--model", "l0", "--images", str(images), "--values", "0.02", "--out", str(tmp_path / "rows.csv")]
    with pytest.warns(UserWarning) as notes:
        assert main(words) == 1
    assert sorted(str(note.message).split(":")[0].rpartition("/")[2] for note in notes) == ["broken.jpg", "tiny.png"]
    assert "skipped 2 of 4 images" in capsys.readouterr().out
    assert [row["image"] for row in read_rows(tmp_path / "rows.csv")] == ["a/one.png", "one.png"]
    facts = json.loads((tmp_path / "rows.json").read_text())
    assert [file["file"] for file in facts["files"]] == ["a/one.png", "one.png"] and facts["skipped"] == 2


def test_an_operator_of_your_own_is_measured(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_fades.py").write_text("def fade(image, amount):\n    return image * amount\n")
    monkeypatch.chdir(tmp_path)
    network = DecoupledNetwork([Parameter("amount", 0.1, 0.9)], operator="fade", width=4, dilations=(1,)).eval()
    save_network("net.safetensors", network)
    save_image("images/one.png", np.full((24, 30, 3), 0.5))
    words = ["--model", "net.safetensors", "--images", "images", "--out", "rows.csv", "--values", "0.5"]
    assert main(words) == 2 and "there is no operator 'fade'" in capsys.readouterr().err
    assert main([*words, "--operator", "own_fades:fade"]) == 0
    [row] = read_rows("rows.csv")
    assert row["operator"] == "fade" and row["input_psnr_db"] == pytest.approx(12.04, abs=0.05)  # 64 levels of 255
    assert main([*words, "--operator", "own_fades:fade", "l0"]) == 2
    assert "an operator of your own is measured alone" in capsys.readouterr().err
