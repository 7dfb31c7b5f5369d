"""What is no image is refused in the library's own words, at every public door alike."""

import numpy as np
import pytest
import torch

from dpo_lib import OPERATORS, DecoupledNetwork, psnr, save_image, ssim
from dpo_lib.checks import as_plain, shape_hint
from dpo_lib.images import as_batch, to_tensor
from dpo_lib.parameters import Parameter

IMAGE = np.full((18, 23, 3), 0.5)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return DecoupledNetwork([Parameter("lambda", 0, 1)], operator="l0", width=4, generated="norm(last)").eval()


DOORS = {
    "as_batch": lambda image, network, folder: as_batch(image),
    "to_tensor": lambda image, network, folder: to_tensor(image),
    "operator": lambda image, network, folder: OPERATORS["l0"](image, 0.02),
    "network": lambda image, network, folder: network(image, 0.5),
    "tuner": lambda image, network, folder: network.tuner(image)(0.5),
    "psnr": lambda image, network, folder: psnr(image, IMAGE),
    "ssim": lambda image, network, folder: ssim(IMAGE, image),
    "save_image": lambda image, network, folder: save_image(folder / "a.png", image),
}


def hide_some(image):
    masked = np.ma.masked_array(image, mask=False)
    masked[3, 4] = np.ma.masked
    return masked


WRONG = {
    "complex array": (IMAGE + 0j, "floating-point numbers or uint8, got complex128: convert it first$"),
    "complex tensor": (torch.zeros(1, 3, 18, 23, dtype=torch.complex64), "got torch.complex64"),
    "huge integers": (np.full((18, 23, 3), 10**30), "floating-point numbers or uint8, got object"),
    "16 bits": (np.full((18, 23, 3), 255, np.uint16), "got uint16: convert it first, and divide by the value of white"),
    "int tensor": (torch.zeros(1, 3, 18, 23, dtype=torch.int64), "got torch.int64: convert it first, and divide"),
    "long doubles": (IMAGE.astype(np.longdouble), "got (longdouble|float128)"),
    "text": (np.full((18, 23, 3), "0.5"), "got <U3"),
    "dates": (np.zeros((18, 23, 3), "M8[s]"), "got datetime64"),
    "masked": (hide_some(IMAGE), "a plain array, got a masked one: fill its masked pixels first"),
    "sparse": (torch.zeros(1, 3, 18, 23).to_sparse(), "must be a dense tensor, got the layout torch.sparse_coo"),
    "meta": (torch.zeros(1, 3, 18, 23, device="meta"), "must hold values, got a tensor on the meta device"),
    "nested": (torch.nested.nested_tensor([torch.zeros(3, 18, 23)], layout=torch.jagged), "must be a dense tensor"),
    "float8": (torch.zeros(1, 3, 18, 23).to(torch.float8_e4m3fn), "got torch.float8_e4m3fn"),
    "list": (IMAGE.tolist(), "must be a tensor or a NumPy array, got list"),
    "nothing": (None, "must be a tensor or a NumPy array, got NoneType"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", WRONG)
def test_every_door_refuses_what_is_no_image(network, tmp_path, kind, door):
    image, message = WRONG[kind]
    with pytest.raises(TypeError, match=message):
        DOORS[door](image, network, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("door", ["as_batch", "operator", "network", "psnr", "save_image"])
def test_every_door_takes_a_view_of_any_kind(network, tmp_path, door):
    ramp = np.linspace(0, 1, IMAGE.size).reshape(IMAGE.shape)
    for view in (ramp[::-1, ::-1], np.asfortranarray(ramp), ramp.astype(">f8"), ramp.view(np.ma.MaskedArray)):
        plain = np.array(view, dtype=np.float64, order="C")
        answers = [DOORS[door](image, network, tmp_path) for image in (view, plain)]
        if door == "as_batch":
            answers = [batch for batch, _ in answers]
        assert np.array_equal(*answers) and type(answers[0]) is type(answers[1])


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        (np.zeros((5, 7)), ": repeat a gray image three times"),
        (np.zeros((5, 7, 1)), ": repeat a gray image three times"),
        (torch.zeros(2, 1, 5, 7), ": repeat a gray image three times"),
        (np.zeros((2, 5, 7, 4)), ": drop the alpha channel"),
        (torch.zeros(4, 5, 7), ": drop the alpha channel"),
        (torch.zeros(3, 5, 7), ": add a batch axis"),
        (np.zeros((3, 5, 7)), ": move the channels to the end"),
        (torch.zeros(2, 5, 7, 3), ": move the channels forward"),
        (np.zeros((5, 7, 2)), ""),
        (np.zeros(5), ""),
        (torch.zeros(()), ""),
        (np.zeros((2, 2, 5, 7, 4)), ""),
    ],
)
def test_a_hint_comes_only_where_it_fits(image, hint):
    assert shape_hint(image) == hint
    with pytest.raises(ValueError, match=f"{hint or '[)]'}$"):
        as_batch(image)


def test_plain_arrays_and_tensors_come_back_as_they_are():
    for image in (IMAGE, IMAGE.astype(np.float16), np.zeros((2, 3), np.uint8), torch.zeros(2), torch.zeros(2).half()):
        assert as_plain(image) is image
