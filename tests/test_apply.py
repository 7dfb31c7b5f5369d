"""The command apply: photographs of every kind, names, and what is refused before any work."""

import struct
import zlib

import numpy as np
import pytest
import torch
from photographs import photograph
from PIL import Image

from dpo_lib import OPERATORS, load_image, load_pretrained, psnr, smooth
from dpo_lib.apply import apply_to_files, image_function, output_paths
from dpo_lib.commands.apply import main
from dpo_lib.images import to_tensor, to_uint8

UMLAUTS = "Größe mit Leerzeichen.png"


def picture(height=26, width=37):
    """A smooth picture with an edge, uint8."""
    y, x = np.mgrid[:height, :width] / width
    values = 0.5 + 0.4 * np.sin(9 * x[..., None] + np.arange(3)) * np.where(y[..., None] > 0.4, 1, -1)
    return np.uint8(255 * values)


def png_of_16_bits(path, image):
    """Pillow writes no RGB of 16 bits: the few bytes of such a PNG, by hand."""
    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.fixture
def folder(tmp_path):
    """One photograph of each kind, and a file that is none."""
    folder, image = tmp_path / "photos", Image.fromarray(picture())
    (folder / "below").mkdir(parents=True)
    png_of_16_bits(folder / "deep.png", picture().astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    image.save(folder / "turned.jpg", exif=exif, quality=95)
    image.quantize(16).save(folder / "below" / "palette.png")
    image.convert("L").save(folder / "below" / "gray.tif")
    image.save(folder / UMLAUTS)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    (folder / "notes.txt").write_text("left alone")
    return folder


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def test_a_folder_of_all_kinds(folder, tmp_path, capsys):
    before, out = contents(folder), tmp_path / "out"
    assert main(["--model", "l0", "--value", "0.02", str(folder), "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert "l0 at lambda 0.02, 6 photograph(s)" in said.out and f"wrote 5 of 6 to {out}, skipped 1" in said.out
    assert f"skipped {folder / 'broken.jpg'}: " in said.err and "6/6" in said.err
    assert files_below(out) == [UMLAUTS, "below/gray.png", "below/palette.png", "deep.png", "turned.png"]
    assert contents(folder) == before
    network = load_pretrained("l0")
    expected = network(picture(), 0.02)
    for name in ("deep.png", UMLAUTS):
        found = np.asarray(Image.open(out / name))
        assert found.dtype == np.uint8 and np.abs(found.astype(int) - expected).max() <= 1, name
    assert Image.open(out / "turned.png").size == (26, 37)
    gray = np.asarray(Image.open(out / "below" / "gray.png")).astype(int)
    assert gray.shape == (26, 37, 3)


def test_a_classic_operator_and_formats(folder, tmp_path, capsys):
    out, photo = tmp_path / "out", folder / UMLAUTS
    assert main(["--operator", "rtv", str(photo), "--out", str(out), "--format", "tif"]) == 0
    assert "rtv at lambda 0.01, 1 photograph(s)" in capsys.readouterr().out
    expected = OPERATORS["rtv"](picture())
    assert np.array_equal(np.asarray(Image.open(out / "Größe mit Leerzeichen.tif")), expected)
    assert main(["--operator", "shock", str(photo), "--out", str(out), "--format", "jpg"]) == 0
    with Image.open(out / "Größe mit Leerzeichen.jpg") as file:
        assert file.format == "JPEG" and file.size == (37, 26)


def test_denoising_answers_for_each_channel(tmp_path):
    """The network was trained on gray images, and does little for three channels that differ."""
    network = load_pretrained("denoise")
    clean = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    clean = torch.nn.functional.interpolate(clean, size=(80, 96), mode="bicubic").clamp(0, 1)
    noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    function, description = image_function(network, [25])
    assert description == "denoise at sigma 25"
    with torch.no_grad():
        error = (function(noisy.clamp(0, 1)) - clean).square().mean()
    assert error < 0.25 * (noisy.clamp(0, 1) - clean).square().mean()


def test_a_joint_network_needs_a_task(folder, tmp_path, capsys):
    words = ["--model", "joint10", str(folder / UMLAUTS), "--out", str(tmp_path / "out")]
    assert main(words) == 2 and "choose one with --task" in capsys.readouterr().err
    assert main([*words, "--task", "denoize"]) == 2 and "got 'denoize'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--task", "rtv", "--value", "0.01"]) == 0
    assert "rtv at lambda 0.01" in capsys.readouterr().out
    expected = load_pretrained("joint10")(picture(), 0.01, operator="rtv")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / UMLAUTS)), expected)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "l0", "--value", "0.5"], "lambda must lie in [0.002, 0.2] for l0, got 0.5"),
        (["--model", "l0", "--value", "0.02,3"], "l0 takes 1 value(s) (lambda), got 2"),
        (["--operator", "shock", "--value", "1"], "shock has no parameter"),
        (["--operator", "rtw"], "there is no operator 'rtw' (did you mean rtv?)"),
        (["--operator", "denoise"], "is the damage that a network undoes: give --model denoise"),
        (["--operator", "rtv", "--task", "rtv"], "--task chooses an operator of a network"),
        (["--model", "nobody"], "there is no pretrained network 'nobody'"),
        (["--model", "nowhere.safetensors"], "no weight file at nowhere.safetensors"),
        (["--model", "l0", "--device", "cuda:99"], "device cuda:99 was asked for, but PyTorch"),
        (["--model", "l0", "--device", "cup"], "there is no device 'cup': choose cpu, cuda, cuda:1"),
    ],
)
def test_refused_before_any_work(words, said, folder, tmp_path, capsys):
    assert main([*words, str(folder), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "l0", "--value", "small"], "expected a number, or several as 0.01,3, got 'small'"),
        (["--model", "l0", "--operator", "rtv"], "not allowed with argument"),
        ([], "one of the arguments --model --operator is required"),
        (["--modle", "l0"], "unknown option --modle (did you mean --model?)"),
        (["--model", "l0", "--format", "jpgg"], "--format knows no value 'jpgg' (did you mean jpg?)"),
    ],
)
def test_what_the_parser_refuses(words, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        main([*words, "photo.png", "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert refused.value.code == 2 and said in error and error.count("\n") == 1


def test_places_that_are_refused(folder, tmp_path, capsys):
    before = contents(folder)

    def refused(*words, by):
        assert main(["--operator", "l0", *map(str, words)]) == 2
        error = capsys.readouterr().err
        assert by in error and error.count("\n") == 1
        assert contents(folder) == before

    refused(folder, "--out", folder / "results", by="lies in the input folder")
    refused(folder / "below", "--out", tmp_path, by="holds the input folder")
    refused(folder, "--out", folder / "notes.txt" / "deeper", by="lies in the input folder")
    (tmp_path / "file").write_text("")
    refused(folder, "--out", tmp_path / "file", by="is a file")
    refused(folder, "--out", tmp_path / "file" / "below", by="cannot be written")
    refused(tmp_path / "nothing.png", "--out", tmp_path / "out", by="there is no photograph or folder")
    refused(folder / "notes.txt", "--out", tmp_path / "out", by="is no photograph")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "--out", tmp_path / "out", by="no image in")
    link = tmp_path / "link"
    link.symlink_to(folder)
    refused(folder, "--out", link / "results", by="lies in the input folder")
    assert not (tmp_path / "out").exists()


def test_names_that_clash_are_named(folder, tmp_path):
    Image.fromarray(picture()).save(folder / "deep.bmp")
    with pytest.raises(ValueError, match=r"deep.bmp and .*deep.png would both become .*deep.png: rename one"):
        output_paths([folder], tmp_path / "out")
    (folder / "deep.bmp").rename(folder / "DEEP.bmp")
    with pytest.raises(ValueError, match="would both become"):
        output_paths([folder], tmp_path / "out")
    (folder / "DEEP.bmp").unlink()
    twice = output_paths([folder, folder / "deep.png"], tmp_path / "out")  # the same photograph, and the same result
    assert len(twice) == 6
    assert (folder / "below" / "gray.tif", tmp_path / "out" / "below" / "gray.png") in twice


def test_photographs_and_former_results_are_kept(folder, tmp_path):
    photo = folder / "deep.png"
    with pytest.raises(ValueError, match="is one of the photographs and would be replaced"):
        output_paths([photo], folder, overwrite=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep.png").hardlink_to(photo)
    with pytest.raises(ValueError, match="is one of the photographs"):
        output_paths([photo], tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "turned.png").write_text("of an earlier run")
    with pytest.raises(ValueError, match="is there already: choose another --out, or allow it with --overwrite"):
        output_paths([folder / "turned.jpg"], tmp_path / "out")
    assert output_paths([folder / "turned.jpg"], tmp_path / "out", overwrite=True)
    assert output_paths([folder / "turned.jpg"], folder)[0][1] == folder / "turned.png"


def test_memory_that_is_short_is_said_of_the_photograph(folder, tmp_path, capsys):
    def hungry(image):
        raise RuntimeError("DefaultCPUAllocator: not enough memory")

    pair = (folder / UMLAUTS, tmp_path / "out.png")
    done = apply_to_files(hungry, [pair])
    assert done.failed == {pair[0]: "memory is too short for 37x26 pixels"} and not done.written
    assert UMLAUTS in capsys.readouterr().err

    def wrong(image):
        raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError, match="fault"):
        apply_to_files(wrong, [pair])


def test_too_small_a_photograph_is_skipped(tmp_path, capsys):
    Image.fromarray(picture(9, 12)).save(tmp_path / "small.png")
    assert main(["--model", "l0", str(tmp_path / "small.png"), "--out", str(tmp_path / "out")]) == 1
    assert "at least 16 pixels a side" in capsys.readouterr().err


def test_a_function_sees_the_photograph_as_a_batch(folder, tmp_path):
    seen = []
    apply_to_files(lambda image: seen.append(image) or image, [(folder / UMLAUTS, tmp_path / "same.png")])
    assert torch.equal(seen[0], to_tensor(picture()).float())
    assert np.array_equal(load_image(tmp_path / "same.png"), load_image(folder / UMLAUTS))


def test_an_array_is_smoothed_as_its_operator_does():
    """As a function of scikit-image: an array in, one like it out, gray or colour, 8 bits or floats."""
    image = to_uint8(photograph(64, 96))
    answer = smooth(image, operator="l0", value=0.02)
    exact = OPERATORS["l0"](image, 0.02)
    assert answer.dtype == np.uint8 and answer.shape == image.shape
    assert psnr(answer, exact) > psnr(image, exact) + 3
    assert np.array_equal(answer, load_pretrained("l0")(image, 0.02)) and np.array_equal(smooth(image), answer)
    gray = np.ascontiguousarray(image[..., 0]) / np.float64(255)
    flat = smooth(gray, "rtv")
    assert flat.dtype == np.float64 and flat.shape == gray.shape
    exact = OPERATORS["rtv"](np.stack([gray] * 3, axis=-1))[..., 0]
    assert np.square(flat - exact).mean() < 0.5 * np.square(gray - exact).mean()
    for operator, value, message in (
        ("l0", 3, "lambda must lie in"),
        ("l1", None, "no pretrained network 'l1'"),
        ("joint10", None, "operator must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            smooth(image, operator, value)


class Smoothed(torch.utils.data.Dataset):
    """Photographs with a network as their transform, each at a value of its own."""

    def __init__(self, images, network):
        self.images, self.network = images, network

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index]).permute(2, 0, 1) / 255
        value = 0.002 * 10 ** (2 * index / max(1, len(self) - 1))
        with torch.no_grad():
            return image, self.network(image[None], value)[0]


def test_a_network_in_a_dataset_whose_loader_has_processes():
    images, network = [np.roll(picture(), k, axis=1) for k in range(3)], load_pretrained("l0")
    loader = torch.utils.data.DataLoader(Smoothed(images, network), batch_size=3, num_workers=1)
    [(shown, answers)] = list(loader)
    assert shown.shape == answers.shape == (3, 3, 26, 37)
    assert torch.allclose(answers, network(shown, [0.002, 0.02, 0.2]), atol=1e-5)


def test_a_network_in_a_loss_moves_the_picture():
    """The gradient goes through the frozen network to the image, as finite differences say; a step lowers the loss."""
    network = load_pretrained("rtv").double()
    image = to_tensor(photograph(26, 37)).double()
    target = network(image, 0.02)
    start = (0.5 * image + 0.25).requires_grad_()

    def loss(x):
        return (network(x, 0.02) - target).square().sum()

    (slope,) = torch.autograd.grad(loss(start), start)
    way = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        change = (loss(start + 1e-6 * way) - loss(start - 1e-6 * way)) / 2e-6
        assert float((slope * way).sum()) == pytest.approx(float(change), rel=1e-6)
        assert loss(start - 0.01 * slope / slope.abs().max()) < loss(start)
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
