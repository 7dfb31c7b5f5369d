"""Seconds per image of every operator, beside a peer that is measured in the same run.

    python benchmarks/operators.py
    python benchmarks/operators.py --operators l0 wmf --repeats 9 --no-slow
    python benchmarks/operators.py --device cuda --out results/operators_cuda.csv

Operator and peer take turns on the same images, so that what else the machine does meets both; ratios are of medians,
below 1 where ours is faster. OpenCV's filters are rough peers: the same algorithm, not the same borders or channels.
The direct solver is given the matrices and right sides ready made. On a GPU, batches of 32 are timed, without peers.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from dpo_lib.data import embedded_images, load_folder
from dpo_lib.images import to_tensor, to_uint8
from dpo_lib.operators import OPERATORS, Operator
from dpo_lib.records import provenance, write_rows
from dpo_lib.text import format_table
from dpo_lib.timing import once_ms

GPU_BATCH = 32
INSTALL = {"cv2": "opencv-contrib-python-headless", "scipy": "scipy"}


@dataclass(frozen=True)
class Peer:
    """Somebody else's program for an operator.

    Parameters
    ----------
    title : str
    prepare : callable
        ``prepare(image, value)``, image (H, W, 3) float32 in [0, 1]: what need not be timed; gives a callable without
        arguments, the timed part.
    needs : str
        The module it comes from.
    settings : dict
        The operator's settings that make it comparable.
    slow : bool
        Measure it once, at the default value only.
    """

    title: str
    prepare: Callable[[np.ndarray, float], Callable[[], object]]
    needs: str = "cv2.ximgproc"
    settings: dict = field(default_factory=dict)
    slow: bool = False

    def missing(self) -> str | None:
        """The package to install, or None where everything is there."""
        try:
            importlib.import_module(self.needs)
        except ImportError:
            return INSTALL[self.needs.partition(".")[0]]
        return None


def _l0_smooth(image: np.ndarray, value: float) -> Callable:
    from cv2 import ximgproc

    own = image.copy()  # it works in place
    return lambda: ximgproc.l0Smooth(own, None, value, 2.0)


def _rolling_guidance(image: np.ndarray, value: float) -> Callable:
    from cv2 import ximgproc

    channels = _channels(image)
    settings = {"d": -1, "sigmaColor": 0.05, "sigmaSpace": value, "numOfIter": 4}
    return lambda: np.dstack([ximgproc.rollingGuidanceFilter(channel, **settings) for channel in channels])


def _median(image: np.ndarray, value: float) -> Callable:
    import cv2

    own = to_uint8(image)
    return lambda: cv2.medianBlur(own, 2 * _whole(value) + 1) / np.float32(255)


def _weighted_median(image: np.ndarray, value: float) -> Callable:
    from cv2 import ximgproc

    channels = _channels(to_uint8(image))
    settings = {"r": _whole(value), "sigma": 25.5}
    return lambda: (
        np.dstack([ximgproc.weightedMedianFilter(joint=c, src=c, **settings) for c in channels]) / np.float32(255)
    )


def _direct(*, systems: int, columns: int) -> Callable[[np.ndarray, float], Callable]:
    """Direct solution of as many five-point systems of the image's size, each with so many right sides."""

    def prepare(image: np.ndarray, value: float) -> Callable:
        from scipy import sparse
        from scipy.sparse.linalg import spsolve

        height, width, _ = image.shape
        gray = np.log(image.astype(np.float64).mean(-1) + 1e-4)
        laplacian = 0
        for axis in (0, 1):
            n = gray.shape[axis]
            step = sparse.diags([-np.ones(n - 1), np.ones(n - 1)], [0, 1], shape=(n - 1, n))
            difference = sparse.kron(step, sparse.eye(width)) if axis == 0 else sparse.kron(sparse.eye(height), step)
            weights = value / (np.abs(np.diff(gray, axis=axis)).ravel() ** 1.2 + 1e-4)
            laplacian = laplacian + difference.T @ sparse.diags(weights) @ difference
        matrix = (sparse.eye(height * width) + laplacian).tocsc()
        right = image.reshape(-1, 3).astype(np.float64)[:, :columns]
        return lambda: [spsolve(matrix, right[:, 0] if columns == 1 else right) for _ in range(systems)]

    return prepare


def _channels(image: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(image[..., k]) for k in range(3)]


def _whole(radius: float) -> int:
    return math.floor(radius + 0.5)


PEERS: dict[str, tuple[Peer, ...]] = {
    "l0": (Peer("l0Smooth", _l0_smooth),),
    "wls": (Peer("3 spsolve", _direct(systems=3, columns=1), needs="scipy", slow=True),),
    "rtv": (Peer("4 spsolve", _direct(systems=4, columns=3), needs="scipy", slow=True),),
    "rgf": (Peer("rollingGuidanceFilter", _rolling_guidance),),
    "wmf": (
        Peer("medianBlur", _median, needs="cv2"),
        Peer("weightedMedianFilter", _weighted_median, settings={"sigma": 25.5 / 255}),
    ),
}


@dataclass(frozen=True)
class Case:
    """One row of the table: an operator at a value, and perhaps a peer."""

    operator: Operator
    value: float | None
    peer: Peer | None = None

    @property
    def settings(self) -> dict:
        return self.peer.settings if self.peer else {}

    def repeats(self, repeats: int) -> int:
        return 1 if self.peer and self.peer.slow else repeats


def cases(names: Sequence[str], *, slow: bool = True) -> Iterator[Case]:
    """Every operator at its test values; where two peers want different settings, once for each."""
    for name in names:
        operator = OPERATORS[name]
        first = operator.parameters[0] if operator.parameters else None
        for peer in PEERS.get(name, ()) or (None,):
            for value in first.test_values if first else (None,):
                left_out = peer is not None and peer.slow and (not slow or value != first.default)
                yield Case(operator, value, None if left_out else peer)


def measure(
    case: Case, images: Sequence[np.ndarray], *, repeats: int, device: str = "cpu", tick: Callable = lambda: None
) -> dict:
    """Time one case.

    Parameters
    ----------
    case : Case
    images : sequence of ndarray (H, W, 3), float32 in [0, 1]
        The repeats go through them in turn.
    repeats : int
        How often operator and peer are timed, in turns, after one call that does not count.
    device : str
    tick : callable
        Called after each repeat.

    Returns
    -------
    dict
        One row: median and minimum in seconds per image, images per second, the peer's name and times, and the ratio
        of the medians. A restoration operator is timed as it makes its pair: degradation, and target where it has one.
    """
    operator, count = case.operator, 1 if device == "cpu" else GPU_BATCH
    batches = [to_tensor(image).repeat(count, 1, 1, 1).to(device) for image in images]
    absent = case.peer.missing() if case.peer else None
    compared = case.peer is not None and absent is None and device == "cpu"
    own, other = [], []
    operator.make_pair(batches[0], case.value, **case.settings)
    if compared and not case.peer.slow:
        case.peer.prepare(images[0], case.value)()
    for repeat in range(case.repeats(repeats)):
        image, batch = images[repeat % len(images)], batches[repeat % len(images)]
        pair = functools.partial(operator.make_pair, batch, case.value, **case.settings)
        own.append(once_ms(pair, device=device) / 1000 / count)
        if compared:
            other.append(once_ms(case.peer.prepare(image, case.value)) / 1000)
        tick()
    row = {
        "operator": operator.name,
        "settings": " ".join(f"{key}={value:g}" for key, value in case.settings.items()),
        "value": "" if case.value is None else case.value,
        "time_s": statistics.median(own),
        "fastest_s": min(own),
        "images_per_s": 1 / statistics.median(own),
        "peer": "",
        "peer_time_s": "",
        "peer_fastest_s": "",
        "ratio": "",
    }
    if compared:
        row |= {"peer": case.peer.title, "peer_time_s": statistics.median(other), "peer_fastest_s": min(other)}
        row["ratio"] = row["time_s"] / row["peer_time_s"]
    elif absent:
        row["peer"] = f"no {case.peer.needs}"
    return row


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Measure, print the table, and give back its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--images", metavar="DIR", help="folder of photographs (default: one of scikit-image's)")
    parser.add_argument("--operators", nargs="+", choices=list(OPERATORS), default=list(OPERATORS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", default="481x321", metavar="WxH", help="images are scaled and cropped to this size")
    parser.add_argument("--no-slow", action="store_true", help="leave out the direct solver, which takes seconds")
    parser.add_argument("--out", metavar="CSV", help="write the rows here, and what made them to a JSON beside it")
    options = parser.parse_args(arguments)
    width, _, height = options.size.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) > 0 and int(height) > 0):
        parser.error(f"--size must be WIDTHxHEIGHT in pixels, such as 481x321, got {options.size}")
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device, or PyTorch was built without CUDA: use --device cpu")
    photographs = load_folder(options.images) if options.images else list(embedded_images("coffee").values())
    fitted = [ImageOps.fit(Image.fromarray(image), (int(width), int(height))) for image in photographs]
    images = [np.asarray(image, dtype=np.float32) / np.float32(255) for image in fitted]

    todo = list(cases(options.operators, slow=not options.no_slow))
    rows = []
    with tqdm(total=sum(case.repeats(options.repeats) for case in todo), unit="run") as bar:
        for case in todo:
            bar.set_description(case.operator.name)
            rows.append(measure(case, images, repeats=options.repeats, device=options.device, tick=bar.update))
    print(f"{options.size}, {len(images)} image(s), {options.device}, {torch.get_num_threads()} CPU threads")
    print(format_table(rows, significant=3))
    missing = sorted({case.peer.missing() for case in todo if case.peer and case.peer.missing()})
    if missing:
        print(f"no times of peers that are not installed: pip install {' '.join(missing)}")
    if options.out:
        facts = {"size": options.size, "device": options.device, "repeats": options.repeats, "images": len(images)}
        write_rows(options.out, rows, facts=provenance(**facts, threads=torch.get_num_threads()))
    return rows


if __name__ == "__main__":
    main()
