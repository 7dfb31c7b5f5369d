"""README and book keep step with what is there: numbers, networks, modules, links. (`make docs` checks the rest.)"""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from dpo_lib import pretrained_names

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").rglob("*.md"))
PAGES = [page for page in PAGES if "reference" not in page.parts]


def measured(name):
    """The untouched picture's mean, the network's, over operators, and 1.96 standard errors over the images."""
    with (ROOT / "results" / "shipped" / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    operators = list(dict.fromkeys(row["operator"] for row in rows))
    by_image = {operator: {} for operator in operators}
    for row in rows:
        by_image[row["operator"]].setdefault(row["image"], []).append((row["psnr_db"], row["input_psnr_db"]))
    means = {
        operator: {image: np.mean(np.array(pairs, float), axis=0) for image, pairs in images.items()}
        for operator, images in by_image.items()
    }
    ours, untouched = np.mean([np.mean(list(images.values()), axis=0) for images in means.values()], axis=0)
    variance = 0.0
    for shown in {tuple(images) for images in means.values()}:  # operators measured on the same images vary together
        alike = [operator for operator in operators if tuple(means[operator]) == shown]
        together = [np.mean([means[operator][image][0] for operator in alike]) for image in shown]
        variance += (len(alike) / len(operators)) ** 2 * np.var(together, ddof=1) / len(shown)
    return f"{untouched:.2f}", f"{ours:.2f} ± {1.96 * variance**0.5:.2f}"


def test_the_readmes_table_is_that_of_the_results():
    lines = re.findall(r"\[`(\w+)`\]\(dpo_lib/weights/\w+\.md\) \| ([\d.]+) \| ([\d.]+ ± [\d.]+)", PAGES[0].read_text())
    assert len(lines) > 10
    for name, untouched, ours in lines:
        assert (untouched, ours) == measured(name), name


def test_times_are_those_of_the_benchmark():
    with (ROOT / "results" / "inference.csv").open() as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    text = (ROOT / "docs" / "performance.md").read_text()
    lines = re.findall(
        r"^\| `(\w+)` \| (\d+) ms \| (\d+) ms \| ([\d.]+) \| ([\d.]+) dB \| (\d+) % \|$", text, re.MULTILINE
    )
    assert len(lines) == 6
    for name, *shown, share in lines:
        keys = ("network_ms", "operator_ms", "operator_by_network")
        for number, key in zip(shown[:3], keys, strict=True):
            assert float(number) == pytest.approx(float(rows[name][key]), rel=0.02), (name, key)
        assert int(share) == round(100 * float(rows[name]["share"])), name
        assert measured(name)[1].startswith(f"{shown[3]} "), name


def test_the_readmes_times_are_those_of_the_benchmark():
    names = {
        "L0": "l0",
        "WLS": "wls",
        "RTV": "rtv",
        "rolling guidance": "rgf",
        "median": "wmf",
        "local Laplacian": "llf",
    }
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in PAGES[0].read_text().splitlines() if "|" in line
    ]
    heading = next(row for row in rows if row[-1] == "local Laplacian")
    by_name = {
        row[0]: dict(zip([names[name] for name in heading[1:]], row[1:], strict=True))
        for row in rows[rows.index(heading) :][2:5]
    }
    with (ROOT / "results" / "inference.csv").open() as file:
        times = {row["network"]: row for row in csv.DictReader(file)}
    for name in names.values():
        for who in ("operator", "network"):
            assert float(by_name[who][name]) == pytest.approx(float(times[name][f"{who}_ms"]), rel=0.02), (who, name)
    with (ROOT / "results" / "operators.csv").open() as file:
        ratios = {(row["operator"], row["settings"], row["value"]): row["ratio"] for row in csv.DictReader(file)}
    shown = by_name["operator / OpenCV or SciPy"]
    plain, weighted = shown.pop("wmf").split("; weighted ")
    assert not shown.pop("llf")
    shown = {("wmf", "", "5.5"): plain, ("wmf", "sigma=0.1", "5.5"): weighted} | {
        (name, "", value): shown[name]
        for name, value in (("l0", "0.02"), ("wls", "1"), ("rtv", "0.01"), ("rgf", "5.5"))
    }
    for key, ratio in shown.items():
        assert float(ratio) == pytest.approx(float(ratios[key]), abs=0.06 if float(ratio) > 1 else 0.006), key


def test_every_network_is_in_the_gallery_with_its_cards_average():
    text = (ROOT / "docs" / "networks.md").read_text()
    for name in pretrained_names():
        card = (ROOT / "dpo_lib" / "weights" / f"{name}.md").read_text()
        _, ours, _, untouched, _ = re.search(r"average +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)", card).groups()
        assert re.search(rf"\[{name}\]\(\S+/{name}\.md\) \|.*\| {untouched} \| {ours} \|", text), name


def test_every_module_and_notebook_is_in_the_book():
    listed = set(re.findall(r"^   dpo_lib\.([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    files = (path.relative_to(ROOT / "dpo_lib").with_suffix("") for path in (ROOT / "dpo_lib").rglob("*.py"))
    modules = {".".join(path.parts) for path in files if not path.name.startswith("__")}
    assert not modules - listed, "add them to docs/api.md"
    readme, results = PAGES[0].read_text(), (ROOT / "docs" / "results.md").read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert path.name in readme and path.name in results, path.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in re.findall(
        r"\]\((?!https?:)([^)#\s]+)[^)]*\)", re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.S)
    ):
        assert (page.parent / link).exists(), link


def test_the_readme_is_a_page():
    text = PAGES[0].read_text()
    assert len(text.splitlines()) < 100 and "make reproduce" in text and "make test" in text
