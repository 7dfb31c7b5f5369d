"""Image sources: scikit-image's wheel and folders with good and bad files."""

import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from dpo_lib.data.sources import embedded_images, image_files, load_folder, load_images, named_images


@pytest.fixture
def folder(tmp_path):
    """Good images of every kind, and files that are none."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (20, 30, 3), np.uint8)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    Image.fromarray(rgb).save(tmp_path / "b.png")
    Image.fromarray(rgb[:, :, 0]).save(tmp_path / "B_gray.BMP")
    Image.fromarray(np.dstack([rgb, np.full_like(rgb[:, :, :1], 255)])).save(tmp_path / "a_alpha.tiff")
    Image.fromarray(rgb).save(tmp_path / "deep" / "c.JPG", format="JPEG")
    Image.fromarray(rgb).save(tmp_path / "deep" / "er" / "10.tif")
    Image.fromarray(rgb).save(tmp_path / "deep" / "er" / "9.jpeg")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    return tmp_path


def test_embedded_images_are_rgb_photographs():
    images = embedded_images()
    assert list(images) == ["astronaut", "chelsea", "coffee", "motorcycle", "rocket"]
    for image in images.values():
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and min(image.shape[:2]) >= 300
        assert image.std(axis=2).mean() > 2  # coloured


def test_embedded_images_equal_what_scikit_image_loads():
    from skimage.data import chelsea, coffee

    images = embedded_images("coffee", "chelsea")
    assert list(images) == ["coffee", "chelsea"]
    np.testing.assert_array_equal(images["chelsea"], chelsea())
    np.testing.assert_array_equal(images["coffee"], coffee())


def test_embedded_images_refuse_an_unknown_name():
    with pytest.raises(ValueError, match=r"embedded images are astronaut, .*, got 'lena'"):
        embedded_images("lena")


def test_image_files_are_recursive_and_in_string_order(folder):
    names = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    assert names == ["B_gray.BMP", "a_alpha.tiff", "b.png", "deep/c.JPG", "deep/er/10.tif", "deep/er/9.jpeg"]


def test_image_files_take_every_format_and_skip_what_is_no_file(folder, tmp_path_factory):
    picture = Image.new("RGB", (17, 11))
    for name in ("a.webp", "b.PPM", "c d ü.Png", os.fsdecode(b"e\xe9.png")):
        picture.save(folder / name, format="PNG")
    Image.new("L", (17, 11)).save(folder / "gray.pgm")
    (folder / ".hidden").mkdir()
    (folder / "folder.png").mkdir()
    picture.save(folder / ".hidden" / "a.png")
    picture.save(folder / "folder.png" / "inside.png")
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "deep" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "nowhere.png").symlink_to("nothing.png")
    (folder / "null.png").symlink_to("/dev/null")
    os.mkfifo(folder / "pipe.png")
    outside = tmp_path_factory.mktemp("outside") / "other.png"
    picture.save(outside)
    (folder / "linked.png").symlink_to(outside)
    names = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    assert names == sorted(
        ["B_gray.BMP", "a.webp", "a_alpha.tiff", "b.PPM", "b.png", "c d ü.Png", "deep/c.JPG", "deep/er/10.tif"]
        + ["deep/er/9.jpeg", "e\udce9.png", "folder.png/inside.png", "gray.pgm", "linked.png"]
    )
    assert len(load_folder(folder)) == 13
    images, rows = named_images(folder)
    assert "e\\udce9.png" in json.dumps(list(images)).replace("\\\\", "\\")
    assert all(name.encode() for name in images)  # names that can be written into any table
    assert list(images) == [row["file"] for row in rows]
    linked = folder.parent / "linked folder"
    linked.symlink_to(folder, target_is_directory=True)
    assert len(image_files(linked)) == 13


def test_names_that_are_no_utf_8_are_shown_escaped(folder):
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"skipped .*caf\\udce9\.png: is not readable") as notes:
        load_folder(folder)
    assert str(notes[0].message).encode()


def test_a_listed_pipe_or_device_is_reported_not_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    with pytest.warns(UserWarning) as notes:
        images = load_folder([folder / "pipe.png", "/dev/zero", folder / "b.png"])
    assert len(images) == 1 and len(notes) == 2
    assert all("is a device or pipe, expected an image file" in str(note.message) for note in notes)


def test_image_files_say_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist: check the path"):
        image_files(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no image in .*: expected files ending in \.jpg"):
        image_files(tmp_path)
    (tmp_path / "file.png").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        image_files(tmp_path / "file.png")


def test_load_folder_gives_8_bit_rgb_of_every_kind(folder):
    images = load_folder(folder)
    assert [image.shape for image in images] == [(20, 30, 3)] * 6
    assert {image.dtype for image in images} == {np.dtype(np.uint8)}
    gray, alpha, rgb = images[:3]
    assert (gray == gray[:, :, :1]).all()
    np.testing.assert_array_equal(alpha, rgb)
    np.testing.assert_array_equal(gray[:, :, 0], rgb[:, :, 0])
    assert all(image.flags.writeable for image in images)


def test_load_folder_limit_and_file_lists(folder):
    assert len(load_folder(folder, limit=2)) == 2
    files = image_files(folder)
    np.testing.assert_array_equal(load_folder([files[2]])[0], load_folder(folder)[2])
    np.testing.assert_array_equal(load_folder([str(files[2])])[0], load_folder(folder)[2])
    for load in (lambda limit: load_folder(folder, limit=limit), lambda limit: load_images("", limit)):
        for limit in (0, -1):
            with pytest.raises(ValueError, match="limit must be at least 1"):
                load(limit)


def test_load_folder_reports_bad_files_by_name_and_goes_on(folder):
    (folder / "broken.jpg").write_bytes(b"not a JPEG")
    whole = (folder / "b.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (30, 7)).save(folder / "small.png")
    Image.fromarray(np.full((20, 30), 2, np.float32)).save(folder / "float.tiff")
    with pytest.warns(UserWarning) as caught:
        images = load_folder(folder, minimum_size=8)
    assert len(images) == 6
    messages = sorted(str(warning.message) for warning in caught)
    assert len(messages) == 4
    for message, expected in zip(
        messages,
        ["broken.jpg: is not readable", "cut.png: is not readable", "float.tiff: holds floats", "small.png: 30x7"],
        strict=True,
    ):
        assert expected in message


def test_load_folder_without_a_usable_image(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"broken\.jpg"), pytest.raises(ValueError, match="none of the 1 files in"):
        load_folder(tmp_path)


def test_16_bit_gray_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 12 * 20).reshape(12, 20)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "deep.png")
    (image,) = load_folder(tmp_path)
    np.testing.assert_allclose(image[:, :, 1], ramp / 257, atol=1)


def test_a_camera_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_folder(tmp_path)[0].shape == (30, 20, 3)
    [row] = named_images(tmp_path)[1]
    assert (row["width"], row["height"]) == (20, 30)


def test_named_images_hashes_and_sizes(folder):
    images, rows = named_images(folder)
    assert list(images)[:3] == [row["file"] for row in rows][:3] == ["B_gray.BMP", "a_alpha.tiff", "b.png"]
    assert rows[2] == {
        "file": "b.png",
        "sha256": hashlib.sha256((folder / "b.png").read_bytes()).hexdigest(),
        "width": 30,
        "height": 20,
    }
    assert list(named_images([folder / "deep" / "c.JPG", folder / "b.png"])[0]) == ["deep/c.JPG", "b.png"]
    assert list(named_images([folder / "b.png"])[0]) == ["b.png"]
    assert list(named_images([folder / "deep" / "c.JPG"], root=folder)[0]) == ["deep/c.JPG"]


def test_images_of_one_stem_stay_apart(tmp_path):
    for number, name in enumerate(("a/001.png", "b/001.png", "001.png", "001.bmp")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (17, 18), (number, 0, 0)).save(tmp_path / name)
    images = load_images(tmp_path)
    assert {name: image[0, 0, 0] for name, image in images.items()} == {
        "001.bmp": 3, "001.png": 2, "a/001.png": 0, "b/001.png": 1,
    }  # fmt: skip
    assert list(load_images(tmp_path, every=2)) == ["001.bmp", "a/001.png"]
    with pytest.raises(ValueError, match="every must be at least 1 .*, got 0"):
        load_images(tmp_path, every=0)
    two, rows = named_images([*image_files(tmp_path / "a"), *image_files(tmp_path / "b")])  # of two folders
    assert list(two) == [row["file"] for row in rows] == ["a/001.png", "b/001.png"]


def test_broken_and_small_files_are_left_out_of_named_images(folder):
    (folder / "a_broken.png").write_bytes(b"no image")
    Image.new("RGB", (30, 7)).save(folder / "small.png")
    with pytest.warns(UserWarning) as notes:
        images, rows = named_images(folder, minimum_size=8)
    assert len(notes) == 2 and len(images) == len(rows) == 6
    with pytest.warns(UserWarning, match=r"a_broken\.png"):
        assert list(named_images(folder, limit=3)[0]) == ["B_gray.BMP", "a_alpha.tiff", "b.png"]
