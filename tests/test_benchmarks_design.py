"""The comparison of designs: rows once each, and every variant can be trained."""

from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_scripts import load_script
from tiny_runs import pictures

from dpo_lib import OPERATORS, train
from dpo_lib.images import save_image
from dpo_lib.records import read_rows
from dpo_lib.training import Phase


@pytest.fixture(scope="module")
def design():
    return load_script("design")


def small(config):
    form = {"widths": config.network.widths[:1] * 2, "width": 8, "dilations": (2,)}
    config = replace(config, phases=(Phase(1.0, 1.0, 32, 2),), entries_per_image=1, precision="float32")
    return config.with_network(**form)


def test_a_run_gets_its_row_once(design, tmp_path, monkeypatch, capsys):
    variants = {name: small(design.VARIANTS[name]) for name in ("pyramid", "paper32")}
    monkeypatch.setattr(design, "VARIANTS", variants)
    for number, picture in enumerate(pictures(3)):
        save_image(tmp_path / "images" / f"{number}.png", picture)
    words = ["--images", str(tmp_path / "images"), "--test-images", str(tmp_path / "images"), "--every", "3"]
    words += ["--targets", str(tmp_path / "targets"), "--seconds", "0.2", "--out", str(tmp_path / "design.csv")]
    words += ["--variant", "pyramid"]
    assert design.main(words) == design.main(words) == 0
    assert design.main([*words, "paper32"]) == 0
    other = [word.replace("design.csv", "saturated.csv") for word in words]
    assert design.main([*other, "--saturation", "2"]) == 0
    rows = read_rows(tmp_path / "design.csv")
    saturated = read_rows(tmp_path / "saturated.csv")
    assert saturated[0]["input_psnr_db"] != rows[0]["input_psnr_db"]
    assert [row["variant"] for row in rows] == ["pyramid", "paper32"]
    assert all(row["steps"] >= 2 and len(row["psnr_by_value"].split()) == 5 for row in rows)
    capsys.readouterr()


def test_table_takes_seeds_together(design):
    def row(variant, seed, psnr_db):
        return {"operator": "l0", "variant": variant, "seed": seed, "seconds": 9, "samples": 4, "psnr_db": psnr_db}

    pyramid, gate = design.table([row("pyramid", 0, 30.0), row("gate", 0, 33.0), row("pyramid", 1, 31.0)])
    assert (pyramid["seeds"], pyramid["psnr_db"], pyramid["spread_db"]) == (2, 30.5, 1.0)
    assert pyramid["against_pyramid_db"] == 0 and gate["against_pyramid_db"] == 2.5


def test_every_variant_learns_a_step(design):
    for config in design.VARIANTS.values():
        result = train(OPERATORS["l0"], pictures(1), replace(small(config), steps=1), progress=False)
        assert result.finished


def test_the_documentation_has_the_committed_rows(design):
    root = Path(__file__).parents[1]
    text = (root / "docs" / "training.md").read_text(encoding="utf-8")
    lines = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    for row in design.table(read_rows(root / "results" / "design.csv")):
        assert f"| {row['psnr_db']:.2f} " in lines[row["variant"]], row
