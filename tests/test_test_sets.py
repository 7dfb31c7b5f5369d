"""Test images by name."""

import pytest
from tiny_runs import pictures

from dpo_lib.data.test_sets import image_set
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
