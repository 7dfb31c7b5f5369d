"""The pieces of a board."""

import numpy as np
import pytest

from dpo_lib import Parameter

ipywidgets = pytest.importorskip("ipywidgets")

from dpo_lib.widgets.parts import parameter_slider  # noqa: E402


@pytest.mark.parametrize(
    ("parameter", "kind", "label"),
    [
        (Parameter("lambda", 0.002, 0.2, sampling="log", default=0.02), ipywidgets.FloatLogSlider, "lambda"),
        (Parameter("sigma_s", 1, 10, default=5.5, unit="px"), ipywidgets.FloatSlider, "sigma_s [px]"),
        (Parameter("quality", 10, 20, sampling="integer", default=12), ipywidgets.IntSlider, "quality"),
    ],
)
def test_slider_fits_the_parameter(parameter, kind, label):
    slider = parameter_slider(parameter)
    assert isinstance(slider, kind) and slider.description == label and slider.value == parameter.default
    ends = (10**slider.min, 10**slider.max) if kind is ipywidgets.FloatLogSlider else (slider.min, slider.max)
    assert np.allclose(ends, (parameter.low, parameter.high))
