"""Denoising of colour pictures: independent noise on red, green and blue."""

from __future__ import annotations

from dataclasses import replace

from . import denoise

OPERATOR = replace(denoise.OPERATOR, name="denoise_color", title="Colour denoising", settings={"on": "rgb"})
