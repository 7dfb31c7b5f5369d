"""What people hand in: images, values and settings of every kind, mostly wrong; and what may come back."""

import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st

import dpo_lib

PACKAGE = str(Path(dpo_lib.__file__).parent)
COUNTS = Counter()


def answer(call, *arguments, **keywords):
    """What a public function gives; None where it refuses in the library's own words. Any other error passes."""
    COUNTS["calls"] += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = call(*arguments, **keywords)
    except (ValueError, TypeError, OSError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        own = last.filename.startswith(PACKAGE) and (last.line or "").startswith("raise")
        assert own and str(error), f"not the library's own words: {error!r} from {last.filename}:{last.lineno}"
        COUNTS["refusals"] += 1
        return None
    COUNTS["answers"] += 1
    return result


def is_same(one, other, tolerance):
    """Whether two answers, arrays or tensors of any dtype, agree."""
    first, second = (torch.as_tensor(np.asarray(a)) if isinstance(a, np.ndarray) else a for a in (one, other))
    first, second = (a.double() / (255 if a.dtype == torch.uint8 else 1) for a in (first, second))
    return first.shape == second.shape and float((first - second).abs().max()) <= tolerance


NUMBERS = st.one_of(
    st.floats(0, 1),
    st.floats(),
    st.integers(-3, 30),
    st.sampled_from([0, 0.02, 1, 5.0, 25, -1, 1e300, 10**400, float("nan"), float("inf"), True]),
)
THINGS = st.one_of(
    st.none(),
    st.sampled_from(["", "0.02", "l0", b"x", 1 + 2j, (), [], {}, {"a": 1}, {1, 2}, object(), [[1], [1, 2]], "a" * 999]),
    st.sampled_from([np.array("x"), np.zeros((0, 2)), np.array([1, None]), torch.zeros(2, 0), torch.tensor(1j)]),
)
VALUES = st.one_of(NUMBERS, st.lists(NUMBERS, max_size=4), THINGS, st.builds(np.array, st.lists(st.floats(0, 9))))


@st.composite
def images(draw, *, good=False):
    """An image as an array or a tensor; with `good` one that any function takes."""
    height, width = (draw(st.integers(16, 24) if good else st.integers(0, 24)) for _ in range(2))
    seed, kind = draw(st.integers(0, 99)), draw(st.sampled_from(["random", "constant", "black", "white", "steps"]))
    pixels = np.random.default_rng(seed).random((height, width, 3))
    if kind != "random":
        pixels[:] = {"constant": 0.37, "black": 0, "white": 1, "steps": 0}[kind]
    if kind == "steps":
        pixels[:, width // 2 :] = 1
    if good:
        return pixels.astype(np.float32)
    if draw(st.booleans()):  # something is wrong with its values
        factor, offset = draw(st.sampled_from([(255, 0), (1, -0.5), (np.nan, 0), (np.inf, 0), (1e-42, 0), (1, 1e-4)]))
        with np.errstate(invalid="ignore"):
            pixels = pixels * factor + offset
    repeats = draw(st.integers(0, 2))
    form = draw(st.sampled_from(["array", "tensor", "batch", "gray", "alpha", "planes", "flat", "fortran", "back"]))
    pixels = {
        "gray": lambda: pixels[..., 0],
        "alpha": lambda: np.concatenate([pixels, pixels[..., :1]], -1),
        "planes": lambda: pixels.transpose(2, 0, 1),
        "flat": lambda: pixels.ravel(),
        "fortran": lambda: np.asfortranarray(pixels),
        "back": lambda: pixels[::-1, ::-1],
        "batch": lambda: np.repeat(pixels[None], repeats, axis=0),
    }.get(form, lambda: pixels)()
    names = ["float32", "float64", "float16", "uint8", "int64", "bool", "complex64", "longdouble", ">f4", "object"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = pixels.astype(draw(st.sampled_from(names)))
    if form != "tensor" or pixels.dtype.kind not in "fuib" or pixels.dtype.name in ("longdouble", "float128"):
        return draw(st.sampled_from([pixels, pixels, pixels, np.ma.masked_array(pixels), pixels.tolist()]))
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="))))
    tensor = tensor.permute(2, 0, 1)[None]
    change = draw(st.sampled_from(["", "", "bfloat16", "half", "double", "grad", "expanded", "sparse", "meta", "last"]))
    if change in ("bfloat16", "half", "double"):
        return getattr(tensor, change)()
    if change == "grad":
        return tensor.float().requires_grad_()
    return {
        "expanded": lambda: tensor.expand(2, -1, -1, -1),
        "sparse": lambda: tensor.to_sparse(),
        "meta": lambda: tensor.to("meta"),
        "last": lambda: tensor.contiguous(memory_format=torch.channels_last),
    }.get(change, lambda: tensor)()
