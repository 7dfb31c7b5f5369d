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
    assert list(photographs.images) == ["bsds500_test0.png", "bsds500_test2.png"] and "every 2nd" in photographs.name
    assert [file["file"] for file in photographs.files] == ["bsds500_test0.png", "bsds500_test2.png"]
    assert list(image_set("bsd100", tmp_path).images) == [
        "bsd68_color/bsd68_color0.png", "bsds500_val32/bsds500_val320.png", "bsds500_val32/bsds500_val321.png",
    ]  # fmt: skip
    assert list(image_set("bsd100", tmp_path, limit=1).images) == ["bsd68_color/bsd68_color0.png"]
    assert len(image_set("bsd100", tmp_path, limit=2).images) == 2
    assert list(image_set("live1", tmp_path / "bsd68_color").images) == ["bsd68_color0.png"]
    with pytest.raises(FileNotFoundError, match="folder of test images"):
        image_set("live1", tmp_path / "none")


def test_usual_sets_are_loaded_once(tmp_path):
    clean, rainy = pictures(2, 18, 23)
    for folder, name, picture in (("live1", "a", clean), ("rain", "clean", clean), ("rain", "rainy", rainy)):
        save_image(tmp_path / folder / f"{name}.png", picture)
    (tmp_path / "rain" / "pairs.csv").write_text("split,id,clean,light\ntest,0,clean.png,rainy.png\n")
    save_image(tmp_path / "bsds500_test" / "photograph.png", clean)
    sets = usual_sets(["l0", "wls", "deblock", "derain"], tmp_path, rain=tmp_path / "rain")
    assert sets["l0"] is sets["wls"] and list(sets["deblock"].images) == ["a.png"]
    [(name, (shown, target))] = sets["derain"].images.items()
    assert name == "rainy.png" and [row["file"] for row in sets["derain"].files] == ["rainy.png", "clean.png"]
    assert sets["derain"].name == "rain, test pairs" and (shown * 255 + 0.5).astype("uint8").tolist() == rainy.tolist()
    assert (target * 255 + 0.5).astype("uint8").tolist() == clean.tolist()
    assert usual_sets(["derain"], tmp_path)["derain"].name == sets["l0"].name  # synthetic rain falls on photographs


@pytest.mark.parametrize("name", ["live1", "photographs", "bsd100"])
def test_a_set_that_is_not_there_is_not_replaced(tmp_path, name):
    save_image(tmp_path / "bsd68_color" / "one.png", pictures(1, 18, 23)[0])  # half of bsd100
    with pytest.raises(FileNotFoundError, match=f"the test set {name} is not in .*: expected (live1|bsds500_)"):
        image_set(name, tmp_path)
    assert "scikit-image" in image_set(name).name  # no folder was named


def test_images_of_one_stem_stay_apart_and_broken_ones_are_left_out(tmp_path):
    first, second = pictures(2, 18, 23)
    save_image(tmp_path / "live1" / "a" / "001.png", first)
    save_image(tmp_path / "live1" / "b" / "001.png", second)
    save_image(tmp_path / "live1" / "b" / "small.png", first[:9])
    (tmp_path / "live1" / "broken.png").write_bytes(b"no image")
    with pytest.warns(UserWarning) as notes:
        found = image_set("live1", tmp_path)
    assert len(notes) == 2 and [row["file"] for row in found.files] == ["a/001.png", "b/001.png"]
    assert (found.images["a/001.png"] == first).all() and (found.images["b/001.png"] == second).all()
