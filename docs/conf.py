"""The book: notebooks as committed, cards, how-to pages and the reference from docstrings; `make docs` builds it."""

from pathlib import Path

from dpo_lib import __version__

project, author, release = "dpo_lib", "dpo_lib authors", __version__
extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
root_doc = "docs/index"  # the repository is the source, so that links in its files hold here, too
include_patterns = ["docs/**", "notebooks/*.ipynb", "dpo_lib/weights/*.md", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "output", "runs", "results", "tests", "build", "docs/_templates"]
templates_path = [str(Path(__file__).parent / "_templates")]

nb_execution_mode = "off"  # what is committed is shown; tests compare it
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["ref.citation"]  # docstrings list papers that they do not mark in the text

default_role = "autolink"
nitpick_ignore_regex = [
    ("py:obj", r".*"),  # another module's name in a docstring becomes italics; the pages' own references are checked
    ("py:class", r"Operator\(.*"),  # values of constants
]
autosummary_generate = True
autodoc_default_options = dict.fromkeys(["members", "undoc-members", "ignore-module-all"], True)
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say them, with shapes and ranges
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"dpo_lib {release}"
html_theme_options = {"show_prev_next": True, "navigation_depth": 2, "header_links_before_dropdown": 4}
html_additional_pages = {"index": "start.html"}  # the site's root leads to the book
html_copy_source = False


def setup(app):
    """Bars are absolute values in docstrings, not reStructuredText's substitutions."""
    app.connect("autodoc-process-docstring", _escape_bars, priority=600)  # after numpydoc


def _escape_bars(app, what, name, obj, options, lines):
    lines[:] = [line if "``" in line or ">>>" in line else line.replace("|", r"\|") for line in lines]
