"""Named data sets, from a server on this machine."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest
from PIL import Image

from dpo_lib.data import download
from dpo_lib.data.download import fetch_dataset
from dpo_lib.data.sources import image_files, load_folder


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file; knows the Range header unless told not to; can break off in the middle."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if self.path != f"/mirror/{download.DATASETS['voc2012'].archive}":
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
    inside = download.DATASETS["voc2012"].images
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
    other = download.Dataset(**{**vars(download.DATASETS["voc2012"]), "images": "VOCdevkit/VOC2007/JPEGImages"})
    monkeypatch.setitem(download.DATASETS, "voc2012", other)
    with pytest.raises(ValueError, match="holds no file in VOCdevkit/VOC2007/JPEGImages"):
        fetch(server, tmp_path)
    assert not (tmp_path / "voc2012").exists()


def test_fetch_dataset_says_where_it_looked(server, tmp_path):
    with pytest.raises(OSError, match=r"/elsewhere/VOCtrainval.* failed \(HTTP Error 404.*base_url="):
        fetch(server, tmp_path, base_url=f"{server.url}/elsewhere")
    with pytest.raises(ValueError, match="known data sets are voc2012, got 'imagenet'"):
        fetch_dataset("imagenet")


def archive_of(path, *members):
    with tarfile.open(path, "w") as tar:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"text"))
    return path


def test_members_that_lead_elsewhere_are_left_out(tmp_path):
    path = archive_of(
        tmp_path / "a.tar",
        ("photos/a.jpg", tarfile.REGTYPE, ""),
        ("photos/..", tarfile.REGTYPE, ""),
        ("photos/../b.jpg", tarfile.REGTYPE, ""),
        ("../photos/c.jpg", tarfile.REGTYPE, ""),
        ("/photos/d.jpg", tarfile.REGTYPE, ""),
        ("photos/e.jpg", tarfile.SYMTYPE, "/etc/hostname"),
        ("photos/f.jpg", tarfile.SYMTYPE, "nothing"),
        ("photos/g.jpg", tarfile.LNKTYPE, "nothing"),
        ("photos/pipe.jpg", tarfile.FIFOTYPE, ""),
    )
    download._unpack(path, "photos", tmp_path / "out")
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a.jpg", "a.tar", "out"]


def test_what_is_no_whole_archive_is_named(tmp_path):
    path = archive_of(tmp_path / "a.tar", ("photos/a.jpg", tarfile.REGTYPE, ""))
    whole = path.read_bytes()
    for content in (b"no archive", whole[:514]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.tar is damaged, or no tar archive"):
            download._unpack(path, "photos", tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


def test_the_published_source_is_named():
    dataset = download.DATASETS["voc2012"]
    assert dataset.md5 == "6cd6e144f989b92b3379bac3b3de84fd"
    assert f"{dataset.base_url}/{dataset.archive}" == (
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
    )
