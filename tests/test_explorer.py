"""What a board shows, without its widgets."""

import io

import numpy as np
import pytest
from PIL import Image

from dpo_lib.images import to_uint8

pytest.importorskip("ipywidgets")

from dpo_lib.widgets.board import ZOOMS
from dpo_lib.widgets.explorer import encode, window


def test_encode_keeps_every_pixel_or_is_small():
    image = np.random.default_rng(0).random((40, 51, 3))
    with Image.open(io.BytesIO(encode(image))) as file:
        assert np.array_equal(np.asarray(file), to_uint8(image))
    with Image.open(io.BytesIO(encode(image, lossless=False))) as file:
        assert file.format == "JPEG" and file.size == (51, 40)


def test_the_window_stays_inside_the_picture():
    for shape in ((5, 7), (64, 33), (512, 384)):
        for zoom in ZOOMS:
            for place in (0.0, 0.31, 1.0):
                for side, part in zip(shape, window(shape, zoom=zoom, across=place, down=place), strict=True):
                    assert 0 <= part.start < part.stop <= side and abs((part.stop - part.start) - side / zoom) <= 1
    assert window((5, 7)) == (slice(0, 5), slice(0, 7))
