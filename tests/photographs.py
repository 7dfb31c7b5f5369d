"""Pictures made in code: regions, an edge, texture, a ramp and some noise; odd sizes, never square."""

import numpy as np


def photograph(height=45, width=62, seed=0):
    """Of moderate contrast, so that filters leave [0, 1] nowhere: ndarray (H, W, 3), float64."""
    y, x = np.mgrid[:height, :width] / height
    image = np.stack([0.3 + 0.4 * (x > 0.6), 0.5 + 0.2 * np.sin(9 * y), 0.2 + 0.4 * y], axis=-1)
    return np.clip(image + 0.04 * _noise(image, seed), 0, 1)


def strong_photograph(height=29, width=38, seed=0):
    """Of strong contrast, with values that 8 bits hold: ndarray (H, W, 3), float64."""
    y, x = np.mgrid[:height, :width] / height
    image = np.stack([0.1 + 0.8 * (x > 0.6), 0.5 + 0.4 * np.sin(9 * y), 0.2 + 0.6 * y], axis=-1)
    return np.rint(255 * np.clip(image + 0.06 * _noise(image, seed), 0, 1)) / 255


def _noise(image, seed):
    return np.random.default_rng(seed).standard_normal(image.shape)
