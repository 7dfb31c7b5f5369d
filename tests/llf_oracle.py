"""The local Laplacian filter by its definition (Paris et al. 2011) in NumPy with dense matrices, for small images."""

import numpy as np


def reduction_matrix(size):
    """One axis of the reduction, tap by tap: (ceil(size / 2), size)."""
    matrix = np.zeros(((size + 1) // 2, size))
    for row in range(len(matrix)):
        for tap, weight in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True):
            matrix[row, min(max(2 * row + tap, 0), size - 1)] += weight / 16
    return matrix


def expansion_matrix(size):
    """One axis of the expansion, tap by tap over the samples with zeros in between: (size, ceil(size / 2))."""
    half = (size + 1) // 2
    matrix = np.zeros((size, half))
    for row in range(size):
        for tap, weight in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True):
            if (row + tap) % 2 == 0:
                matrix[row, min(max((row + tap) // 2, 0), half - 1)] += 2 * weight / 16
    return matrix


def numpy_pyramids(gray, levels):
    """Gaussian and Laplacian pyramid of an array by dense matrices; never below one pixel on the shorter side."""
    gaussian, laplacian = [gray], []
    while len(gaussian) < levels and min(gaussian[-1].shape) > 1:
        fine = gaussian[-1]
        down = [reduction_matrix(size) for size in fine.shape]
        up = [expansion_matrix(size) for size in fine.shape]
        gaussian.append(down[0] @ fine @ down[1].T)
        laplacian.append(fine - up[0] @ gaussian[-1] @ up[1].T)
    return gaussian, [*laplacian, gaussian[-1]]


def exact_local_laplacian(gray, remap, levels):
    """Paris et al. 2011: for each coefficient remap the whole image around that coefficient's own g."""
    gaussian, result = numpy_pyramids(gray, levels)
    for level in range(len(gaussian) - 1):
        for position in np.ndindex(gaussian[level].shape):
            g = gaussian[level][position]
            result[level][position] = numpy_pyramids(remap(gray - g), levels)[1][level][position]
    image = result[-1]
    for detail in result[-2::-1]:
        up = [expansion_matrix(size) for size in detail.shape]
        image = up[0] @ image @ up[1].T + detail
    return image
