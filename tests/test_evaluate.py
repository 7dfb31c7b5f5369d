"""The command evaluate: what is refused before any work (what it measures: test_train, test_evaluation)."""

import pytest
from photographs import photograph

from dpo_lib.commands.evaluate import main
from dpo_lib.images import save_image


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
    refused(tmp_path / "rows.csv", "there is no device 'cup'", "--device", "cup")
    refused(tmp_path / "rows.csv", "there is no pretrained network 'nobody'")
    assert sorted(path.name for path in images.iterdir()) == ["one.png"]
