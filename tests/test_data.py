"""Image sources: scikit-image's wheel, folders with good and bad files, and a data set behind a local server."""

import hashlib
import http.server
import io
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from dpo_lib import data
from dpo_lib.data import embedded_images, fetch_dataset, file_list, image_files, load_folder


@pytest.fixture
def folder(tmp_path):
    """Good images of every kind, and files that are none."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (20, 30, 3), np.uint8)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    Image.fromarray(rgb).save(tmp_path / "b.png")
    Image.fromarray(rgb[:, :, 0]).save(tmp_path / "B_gray.BMP")
    Image.fromarray(np.dstack([rgb, rgb[:, :, :1]])).save(tmp_path / "a_alpha.tiff")
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
    np.testing.assert_array_equal(alpha, rgb)  # alpha dropped, not blended
    np.testing.assert_array_equal(gray[:, :, 0], rgb[:, :, 0])
    assert all(image.flags.writeable for image in images)


def test_load_folder_limit_and_file_lists(folder):
    assert len(load_folder(folder, limit=2)) == 2
    files = image_files(folder)
    np.testing.assert_array_equal(load_folder([files[2]])[0], load_folder(folder)[2])
    np.testing.assert_array_equal(load_folder([str(files[2])])[0], load_folder(folder)[2])
    with pytest.raises(ValueError, match="limit must be at least 1"):
        load_folder(folder, limit=0)


def test_load_folder_reports_bad_files_by_name_and_goes_on(folder):
    (folder / "broken.jpg").write_bytes(b"not a JPEG")
    whole = (folder / "b.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (30, 7)).save(folder / "small.png")
    Image.fromarray(np.ones((20, 30), np.float32)).save(folder / "float.tiff")
    with pytest.warns(UserWarning) as caught:
        images = load_folder(folder, minimum_size=8)
    assert len(images) == 6
    messages = sorted(str(warning.message) for warning in caught)
    assert len(messages) == 4
    for message, expected in zip(
        messages,
        ["broken.jpg: not readable", "cut.png: not readable", "float.tiff: not readable", "small.png: 30x7, smaller"],
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
    assert (file_list(tmp_path)[0]["width"], file_list(tmp_path)[0]["height"]) == (20, 30)


def test_file_list_names_hashes_and_sizes(folder):
    (folder / "broken.png").write_bytes(b"no image")
    rows = file_list(folder)
    assert [row["file"] for row in rows][:3] == ["B_gray.BMP", "a_alpha.tiff", "b.png"]
    row = rows[2]
    assert row == {
        "file": "b.png",
        "sha256": hashlib.sha256((folder / "b.png").read_bytes()).hexdigest(),
        "width": 30,
        "height": 20,
    }
    assert [row["width"] for row in rows if row["file"] == "broken.png"] == [None]
    chosen = file_list([folder / "deep" / "c.JPG", folder / "b.png"])
    assert [row["file"] for row in chosen] == ["deep/c.JPG", "b.png"]
    assert [row["file"] for row in file_list([folder / "b.png"])] == ["b.png"]


# --- a data set behind a local server -------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file; knows the Range header unless told not to; can break off in the middle."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if self.path != f"/mirror/{data.DATASETS['voc2012'].archive}":
            self.send_error(404)
            return
        start = 0
        if server.ranges and (header := self.headers.get("Range")):
            start = int(header.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.break_after])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """The published archive's layout in small: three photographs, and files that are none."""
    buffer = io.BytesIO()
    inside = data.DATASETS["voc2012"].images
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name, content):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for number in range(3):
            picture = io.BytesIO()
            Image.new("RGB", (24 + number, 18), (10 * number, 20, 30)).save(picture, format="JPEG")
            add(f"{inside}/2007_00000{number}.jpg", picture.getvalue())
        add("VOCdevkit/VOC2012/SegmentationClass/2007_000000.png", b"labels")
        add("../escaped.jpg", b"outside")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.asked, server.ranges, server.break_after = buffer.getvalue(), [], True, None
    server.url = f"http://127.0.0.1:{server.server_port}/mirror"
    server.md5 = hashlib.md5(server.content).hexdigest()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(server, folder, **changes):
    settings = {"base_url": server.url, "md5": server.md5, "progress": False, **changes}
    return fetch_dataset("voc2012", folder=folder, **settings)


def test_fetch_dataset_unpacks_the_photographs_only(server, tmp_path):
    images = fetch(server, tmp_path / "cache")
    assert images == tmp_path / "cache" / "voc2012"
    assert [path.name for path in image_files(images)] == ["2007_000000.jpg", "2007_000001.jpg", "2007_000002.jpg"]
    assert [image.shape for image in load_folder(images)] == [(18, 24, 3), (18, 25, 3), (18, 26, 3)]
    assert not list(tmp_path.rglob("escaped.jpg"))
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["VOCtrainval_11-May-2012.tar", "voc2012"]
    fetch(server, tmp_path / "cache")
    assert len(server.asked) == 1  # the second call finds everything there


def test_fetch_dataset_goes_on_after_a_broken_connection(server, tmp_path):
    server.break_after = 5000
    with pytest.raises(OSError, match=r"download of http.* failed .*call again to go on"):
        fetch(server, tmp_path)
    part = tmp_path / "VOCtrainval_11-May-2012.tar.part"
    assert part.stat().st_size == 5000 and not (tmp_path / "voc2012").exists()
    server.break_after = None
    assert len(image_files(fetch(server, tmp_path))) == 3
    assert server.asked[-1][1] == "bytes=5000-"
    assert not part.exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_fetch_dataset_begins_anew_where_it_cannot_go_on(server, tmp_path, ranges):
    server.ranges = ranges
    (tmp_path / "VOCtrainval_11-May-2012.tar.part").write_bytes(b"x" * (len(server.content) + 1))
    assert len(image_files(fetch(server, tmp_path))) == 3


def test_fetch_dataset_refuses_a_wrong_checksum(server, tmp_path):
    with pytest.raises(ValueError, match="hash"):
        fetch(server, tmp_path, md5=None)  # the published checksum, which the small stand-in cannot have
    assert list(tmp_path.iterdir()) == []


def test_fetch_dataset_refuses_another_archive(server, tmp_path, monkeypatch):
    other = data.Dataset(**{**vars(data.DATASETS["voc2012"]), "images": "VOCdevkit/VOC2007/JPEGImages"})
    monkeypatch.setitem(data.DATASETS, "voc2012", other)
    with pytest.raises(ValueError, match="holds no file in VOCdevkit/VOC2007/JPEGImages"):
        fetch(server, tmp_path)
    assert not (tmp_path / "voc2012").exists()


def test_fetch_dataset_says_where_it_looked(server, tmp_path):
    with pytest.raises(OSError, match=r"/elsewhere/VOCtrainval.* failed \(HTTP Error 404.*base_url="):
        fetch(server, tmp_path, base_url=f"{server.url}/elsewhere")
    with pytest.raises(ValueError, match="known data sets are voc2012, got 'imagenet'"):
        fetch_dataset("imagenet")


def test_the_published_source_is_named():
    dataset = data.DATASETS["voc2012"]
    assert dataset.md5 == "6cd6e144f989b92b3379bac3b3de84fd"
    assert f"{dataset.base_url}/{dataset.archive}" == (
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
    )


def test_import_stays_light():
    """No scikit-image, SciPy, matplotlib or pooch at import, and no socket is opened."""
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "import dpo_lib, dpo_lib.data, dpo_lib.metrics, dpo_lib.reproduce\n"
        "heavy = {'skimage', 'scipy', 'matplotlib', 'pooch', 'papermill', 'ipywidgets', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
