"""Test images by name."""

import pytest
from tiny_runs import pictures

from dpo_lib.data.test_sets import image_set, usual_sets
from dpo_lib.images import save_image


def test_image_sets_by_name(tmp_path):
    for name, n in (("bsds500_test", 3), ("bsd68_color", 1), ("bsds500_val32", 2)):
        for number, picture in enumerate(pictures(n, 18, 23)):
            save_image(tmp_path / name / f"{name}{number}.png", picture)
    photographs = image_set("photographs", tmp_path)
    assert list(photographs.images) == ["bsds500_test0", "bsds500_test2"] and "every 2nd" in photographs.name
    assert [file["file"] for file in photographs.files] == ["bsds500_test0.png", "bsds500_test2.png"]
    assert list(image_set("bsd100", tmp_path).images) == ["bsd68_color0", "bsds500_val320", "bsds500_val321"]
    assert len(image_set("bsd100", tmp_path, limit=2).images) == 2
    assert "scikit-image" in image_set("live1", tmp_path).name  # neither a folder live1 nor images beside the sets
    assert list(image_set("live1", tmp_path / "bsd68_color").images) == ["bsd68_color0"]
    with pytest.raises(FileNotFoundError, match="folder of test images"):
        image_set("live1", tmp_path / "none")


def test_usual_sets_are_loaded_once(tmp_path):
    clean, rainy = pictures(2, 18, 23)
    for folder, name, picture in (("live1", "a", clean), ("rain", "clean", clean), ("rain", "rainy", rainy)):
        save_image(tmp_path / folder / f"{name}.png", picture)
    (tmp_path / "rain" / "pairs.csv").write_text("split,id,clean,light\ntest,0,clean.png,rainy.png\n")
    sets = usual_sets(["l0", "wls", "deblock", "derain"], tmp_path, rain=tmp_path / "rain")
    assert sets["l0"] is sets["wls"] and list(sets["deblock"].images) == ["a"]
    [(shown, target)] = sets["derain"].images.values()
    assert sets["derain"].name == "rain, test pairs" and (shown * 255 + 0.5).astype("uint8").tolist() == rainy.tolist()
    assert (target * 255 + 0.5).astype("uint8").tolist() == clean.tolist()
    assert usual_sets(["derain"], tmp_path)["derain"].name == sets["l0"].name  # synthetic rain falls on photographs
