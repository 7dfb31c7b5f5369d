"""PSNR and SSIM as the paper measures them: on 8-bit images, scikit-image behind both."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch

from .checks import as_plain

CHANNELS = ("rgb", "luminance", "gray")
SSIM_WINDOW = 11
OVERSHOOT = 0.5  # filters and degradations leave the range by a little; another scale of values leaves it by far

# weights of R, G and B, and offset, for values in [0, 1]
BT601 = np.array([0.299, 0.587, 0.114])
STUDIO = np.array([65.481, 128.553, 24.966]) / 255
STUDIO_OFFSET = 16 / 255


def psnr(
    prediction: np.ndarray | torch.Tensor,
    target: np.ndarray | torch.Tensor,
    *,
    on: str = "rgb",
    data_range: float = 1.0,
    round_to_8_bit: bool = True,
) -> float | np.ndarray:
    """Peak signal-to-noise ratio in dB.

    Parameters
    ----------
    prediction, target : tensor (B, 3, H, W) or (3, H, W), or ndarray (B, H, W, 3) or (H, W, 3)
        Values in [0, data_range], or uint8 (then 255 is the peak). The prediction may leave the range, the target by
        half of it at most. One channel in place of three is a gray image.
    on : {"rgb", "luminance", "gray"}
        All three channels (the paper's filters); MATLAB's studio-range Y, 16 to 235 of 255 (super-resolution and
        deblocking, as published); or full-range BT.601 luma (gray denoising).
    data_range : float
        The peak.
    round_to_8_bit : bool
        Clip and round both images, and what is made of them for `on`, to 256 levels first.

    Returns
    -------
    float, or ndarray (B,) for a batch
        Infinite where the images agree.

    Raises
    ------
    TypeError, ValueError
        Not images, different shapes, not finite, a target far out of range, an unknown `on`.

    Notes
    -----
    Gray images need ``on="gray"``: on the narrower studio-range Y the same error gives 1.3 dB more.

    Examples
    --------
    >>> target = np.full((4, 6, 3), 0.5)
    >>> round(psnr(target + 0.1, target, round_to_8_bit=False), 6)
    20.0
    """
    from skimage.metrics import peak_signal_noise_ratio

    def one(a: np.ndarray, b: np.ndarray) -> float:
        with np.errstate(divide="ignore"):
            return float(peak_signal_noise_ratio(b, a, data_range=1.0))

    return _per_image(one, prediction, target, on=on, data_range=data_range, round_to_8_bit=round_to_8_bit)


def ssim(
    prediction: np.ndarray | torch.Tensor,
    target: np.ndarray | torch.Tensor,
    *,
    on: str = "gray",
    data_range: float = 1.0,
    round_to_8_bit: bool = True,
) -> float | np.ndarray:
    """Structural similarity, Gaussian window of 11 pixels with sigma 1.5.

    Parameters
    ----------
    prediction, target, on, data_range, round_to_8_bit
        See `psnr`; both sides at least 11 pixels. ``on="rgb"`` averages the channels' values.

    Returns
    -------
    float, or ndarray (B,) for a batch
        1 where the images agree.

    Raises
    ------
    TypeError, ValueError
        See `psnr`; and images smaller than the window.

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    IEEE TIP 2004, doi:10.1109/TIP.2003.819861.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((16, 20, 3))
    >>> ssim(image, image)
    1.0
    """
    from skimage.metrics import structural_similarity

    def one(a: np.ndarray, b: np.ndarray) -> float:
        if min(a.shape[:2]) < SSIM_WINDOW:
            raise ValueError(f"ssim needs at least {SSIM_WINDOW} pixels a side, got {a.shape[1]}x{a.shape[0]}")
        return float(
            structural_similarity(
                a,
                b,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                channel_axis=2 if a.ndim == 3 else None,
            )
        )

    return _per_image(one, prediction, target, on=on, data_range=data_range, round_to_8_bit=round_to_8_bit)


def _per_image(measure, prediction, target, *, on: str, data_range: float, round_to_8_bit: bool):
    """Check both, bring them to [0, 1] and the wanted channels, measure pair by pair."""
    if not isinstance(on, str) or on not in CHANNELS:
        raise ValueError(f"on must be one of {', '.join(CHANNELS)}, got {on!r}")
    if not isinstance(data_range, Real) or not 0 < data_range < 1e300:
        raise ValueError(f"data_range must be positive and finite, got {data_range!r}")
    first, single = _as_arrays(prediction, data_range, "prediction")
    second, _ = _as_arrays(target, data_range, "target")
    if first.shape != second.shape:
        raise ValueError(
            f"prediction and target must have the same shape, got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    if second.min() < -OVERSHOOT or second.max() > 1 + OVERSHOOT:
        raise ValueError(
            f"target must lie in [0, {data_range:g}], got [{second.min() * data_range:.4g}, "
            f"{second.max() * data_range:.4g}]: pass the largest possible value as data_range"
        )
    pairs = zip(_channels(first, on, round_to_8_bit), _channels(second, on, round_to_8_bit), strict=True)
    values = [measure(a, b) for a, b in pairs]
    return values[0] if single else np.array(values)


def _as_arrays(image, data_range: float, name: str) -> tuple[np.ndarray, bool]:
    """Either form as float64 (B, H, W, 1 or 3) with peak 1, and whether it was a single image."""
    image = as_plain(image, name)
    if isinstance(image, torch.Tensor):
        if image.dim() not in (3, 4) or image.shape[-3] not in (1, 3):
            raise ValueError(f"{name} must be a tensor (B, 3, H, W) or (3, H, W), got shape {tuple(image.shape)}")
        array, is_8_bit = image.detach().cpu().movedim(-3, -1).double().contiguous().numpy(), image.dtype == torch.uint8
    else:
        array = image[..., None] if image.ndim == 2 else image
        if array.ndim not in (3, 4) or array.shape[-1] not in (1, 3):
            raise ValueError(f"{name} must be an array (B, H, W, 3) or (H, W, 3), got shape {image.shape}")
        array, is_8_bit = array.astype(np.float64, order="C"), array.dtype == np.uint8
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite and not empty, got {'no pixel' if array.size == 0 else 'NaN or inf'}")
    array = array / (255 if is_8_bit else data_range)
    return (array[None], True) if array.ndim == 3 else (array, False)


def _round(array: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(array, 0, 1) * 255) / 255


def _channels(images: np.ndarray, on: str, round_to_8_bit: bool) -> np.ndarray:
    """(B, H, W, C) to what is measured: (B, H, W, C) on RGB, else (B, H, W)."""
    images = _round(images) if round_to_8_bit else images
    if on == "rgb":
        return images
    weights, offset = (STUDIO, STUDIO_OFFSET) if on == "luminance" else (BT601, 0.0)
    if images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    mixed = images @ weights + offset
    return _round(mixed) if round_to_8_bit else mixed
