"""Rows and what made them, on disk."""

import json

import pytest
import torch

from dpo_lib.records import add_headline, device_name, provenance, read_rows, write_rows


def test_rows_come_back_as_numbers_and_text(tmp_path):
    rows = [{"image": "Größe, 2", "value": 0.02, "psnr_db": 31.23456}, {"image": "b", "value": "", "psnr_db": 30.0}]
    path = write_rows(tmp_path / "new" / "rows.csv", rows, facts=provenance(seed=3))
    assert read_rows(path)[0] == {"image": "Größe, 2", "value": 0.02, "psnr_db": 31.2346}
    assert read_rows(path)[1]["value"] == ""
    facts = json.loads((tmp_path / "new" / "rows.json").read_text())
    assert facts["seed"] == 3 and {"date", "commit", "versions", "platform"} < set(facts)
    with pytest.raises(ValueError, match="no rows to write"):
        write_rows(path, [])


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_rows_that_another_program_saved(tmp_path, start):
    (tmp_path / "rows.csv").write_bytes(start + "image;psnr_db\r\nGröße.png;31.5\r\n\r\ncut".encode())
    with pytest.warns(UserWarning, match=r"rows\.csv: left out 1 row\(s\) that are not whole"):
        assert read_rows(tmp_path / "rows.csv") == [{"image": "Größe.png", "psnr_db": 31.5}]
    (tmp_path / "rows.csv").write_bytes(b"")
    assert read_rows(tmp_path / "rows.csv") == []


def test_what_is_no_table_is_named(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"a,b\n" + b"x" * 200_000 + b",1\n")
    with pytest.raises(ValueError, match=r"rows\.csv is damaged, or no table"):
        read_rows(tmp_path / "rows.csv")


def test_names_that_are_no_utf_8_are_written_escaped(tmp_path):
    write_rows(tmp_path / "rows.csv", [{"image": "caf\udce9.png", "psnr_db": 1.0}])
    assert read_rows(tmp_path / "rows.csv")[0]["image"] == "caf\\udce9.png"


def test_a_headline_replaces_its_own_rows_only(tmp_path):
    path = tmp_path / "headline.json"
    add_headline(path, "01", [{"name": "a", "ours": 1.23456}])
    add_headline(path, "00", [{"name": "b", "ours": 2}])
    add_headline(path, "01", [{"name": "c", "ours": 3}])
    assert [(row["source"], row["name"]) for row in json.loads(path.read_text())] == [("00", "b"), ("01", "c")]


def test_devices_are_named_or_refused(monkeypatch):
    assert device_name("cpu") == f"cpu, {torch.get_num_threads()} threads"
    with pytest.raises(ValueError, match="there is no device 'cup': choose cpu, cuda"):
        device_name("cup")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"device cuda:1 was asked for, but PyTorch .* finds 1 CUDA device"):
        device_name("cuda:1")


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "headline.json").write_text('[{"name": "a", ')
    with pytest.raises(ValueError, match="headline.json is damaged"):
        add_headline(tmp_path / "headline.json", "00", [{"name": "b", "ours": 2}])


def test_devices_without_numbers_are_refused():
    with pytest.raises(ValueError, match="there is no device 'meta': choose cpu, cuda"):
        device_name("meta")
