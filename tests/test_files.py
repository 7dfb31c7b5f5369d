"""Files are written whole or not at all, where their names lead, with the permissions that they should have."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from dpo_lib.files import printable, writable_file, writable_folder, write_atomically


def write(path, text="whole"):
    with write_atomically(path) as temporary:
        temporary.write_text(text)


def names(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_new_file_gets_what_the_umask_leaves_and_an_old_one_keeps_its_own(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "new.txt")
        (tmp_path / "old.txt").touch()
        (tmp_path / "old.txt").chmod(0o604)
        write(tmp_path / "old.txt")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "old.txt").stat().st_mode) == 0o604


def test_a_symbolic_link_stays_one_and_its_target_is_written(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "store" / "real.txt")
    (tmp_path / "second.txt").symlink_to("link.txt")
    (tmp_path / "dangling.txt").symlink_to("store/later.txt")
    write(tmp_path / "second.txt", "new")
    write(tmp_path / "dangling.txt", "later")
    assert all((tmp_path / name).is_symlink() for name in ("link.txt", "second.txt", "dangling.txt"))
    assert (tmp_path / "store" / "real.txt").read_text() == "new"
    assert (tmp_path / "store" / "later.txt").read_text() == "later"
    assert names(tmp_path) == ["dangling.txt", "link.txt", "second.txt", "store"]
    with pytest.raises(KeyboardInterrupt), write_atomically(tmp_path / "link.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "link.txt").read_text() == "new" and names(tmp_path / "store") == ["later.txt", "real.txt"]


def test_what_is_no_regular_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # and no /dev/null: for root, a failing test would replace it
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(OSError, match="a device or pipe, expected the name of a file"):
            write(path)
    with pytest.raises(IsADirectoryError, match="a folder, expected the name of a file"):
        write(tmp_path / "folder")
    with pytest.raises(OSError, match="symbolic links in a circle"):
        write(tmp_path / "circle")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["circle", "folder", "link", "pipe"]


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "ü" * 125 + ".png", "a." + "p" * 253, "漢" * 85])
def test_names_of_255_bytes(tmp_path, name):
    assert 253 <= len(name.encode()) <= 255
    with write_atomically(tmp_path / name) as temporary:
        temporary.write_text("whole")
        assert temporary.name.startswith(f".{name[0]}") and len(temporary.name.encode()) <= 255
        assert temporary.suffix == (".png" if name.endswith("png") else "")
    assert names(tmp_path) == [name]


WRITER = """
import sys, time
from dpo_lib.files import write_atomically
with write_atomically(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("begun", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_holds_is_not(tmp_path):
    path = tmp_path / "state.pt"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        assert [writer.stdout.readline() for writer in writers] == [b"begun\n"] * 2
        (tmp_path / ".state-mine.pt").write_text("not of this kind")
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        write(path)
        assert len(names(tmp_path)) == 4  # too young to be sure that nobody is about to lock them
        for name in names(tmp_path):
            os.utime(tmp_path / name, (time.time() - 3600, time.time() - 3600))
        write(path)
        (temporary,) = set(names(tmp_path)) - {"state.pt", ".state-mine.pt"}
        assert (tmp_path / temporary).read_text() == "half"
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            writer.stdout.close()
    write(path)
    assert names(tmp_path) == [".state-mine.pt", "state.pt"] and path.read_text() == "whole"


def test_printable_names():
    assert printable(os.fsdecode(b"a/caf\xe9 \xc3\xbc.png")) == "a/caf\\udce9 ü.png"


def test_a_folder_is_made_and_left_empty(tmp_path):
    folder = writable_folder(tmp_path / "a" / "b", apart_from=[tmp_path / "photos", __file__])
    assert folder.is_dir() and not list(folder.iterdir())
    assert writable_file(tmp_path / "c" / "rows.csv") == tmp_path / "c" / "rows.csv"
    assert [path.name for path in (tmp_path / "c").iterdir()] == []


def test_files_and_folders_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="output folder .*file is a file: choose another"):
        writable_folder(tmp_path / "file")
    with pytest.raises(OSError, match="cannot be written"):
        writable_folder(tmp_path / "file" / "below")
    with pytest.raises(IsADirectoryError, match="is a folder: give the name of a file"):
        writable_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a device or pipe, expected the name of a file"):
        writable_file(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a file: choose another"):
        writable_file(tmp_path / "file" / "rows.csv")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_leave_to_write(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="cannot be written"):
        writable_folder(tmp_path / "out")


def test_input_and_output_stay_apart(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    (photos / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(photos)
    for inside in (photos, photos / "out", photos / "below", tmp_path / "link" / "out", photos / "below" / ".."):
        with pytest.raises(ValueError, match="lies in the input folder"):
            writable_folder(inside, apart_from=[photos])
    with pytest.raises(ValueError, match="holds the input folder"):
        writable_folder(tmp_path, apart_from=[photos / "below"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"lies in the input folder photos"):
        writable_file("photos/rows.csv", apart_from=["photos"])
    assert writable_file("rows.csv", apart_from=["photos"]).name == "rows.csv"  # a file beside its input
    assert writable_folder("photos2", apart_from=["photos"]).is_dir()
    assert sorted(path.name for path in photos.iterdir()) == ["below"]
