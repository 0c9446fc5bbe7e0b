"""The pages of the site: their code runs, their other snippets hold, the reference is complete."""

import ast
import doctest
import importlib
import pkgutil
import re
import textwrap
from pathlib import Path

import pytest

import sklearn_medfuse

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.rst"), *(DOCS / "user_guide").glob("*.rst")])
# Their public names are those of the package itself
ESTIMATOR_ROOMS = {"labs", "notes", "fusion", "pipeline"}
MARK = re.compile(r"NOTE\[DIFF\] \(([^)]+)\)")
SNIPPET = re.compile(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)")


def name_of(page):
    return str(page.relative_to(DOCS).with_suffix(""))


def snippets():
    """Code that is shown and not run: it needs data that not everybody has."""
    return [
        pytest.param(textwrap.dedent(code), id=f"{name_of(page)}-{i}")
        for page in PAGES
        for i, code in enumerate(SNIPPET.findall(page.read_text(encoding="utf-8")))
    ]


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    pyplot = importlib.import_module("matplotlib.pyplot")
    pyplot.close("all")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")], ids=name_of
)
def test_the_code_of_a_page_runs_as_it_says(page, minilm, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testfile(str(page), module_relative=False, optionflags=flags, encoding="utf-8")
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("code", snippets())
def test_a_snippet_imports_names_and_passes_parameters_that_exist(code):
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("sklearn_medfuse"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            estimator = getattr(sklearn_medfuse, node.func.id, None)
            if isinstance(estimator, type):
                given = {keyword.arg for keyword in node.keywords}
                assert given <= set(estimator().get_params(deep=False))


def public_rooms():
    """Public modules beside those of the estimators, subpackages included."""
    found = pkgutil.iter_modules(sklearn_medfuse.__path__)
    names = [
        room.name for room in found if room.name[0] != "_" and room.name not in ESTIMATOR_ROOMS
    ]
    below = [
        f"{name}.{room.name}"
        for name in names
        for room in pkgutil.iter_modules([ROOT / "sklearn_medfuse" / name])
        if room.name[0] != "_"
    ]
    return [importlib.import_module(f"sklearn_medfuse.{name}") for name in [*names, *below]]


def test_every_public_name_is_in_the_reference():
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    reference = set(re.findall(r"^    ~(sklearn_medfuse\S+)$", page, re.M))
    public = {f"sklearn_medfuse.{name}" for name in sklearn_medfuse.__all__ if name[0] != "_"}
    for room in public_rooms():
        named = {name: getattr(room, name) for name in room.__all__}
        public |= {f"{room.__name__}.{name}" for name in named if callable(named[name])}
    assert public == reference


def test_every_part_has_a_page_of_the_guide_with_its_departures_from_the_paper():
    for page in ("labs", "notes", "fusion"):
        text = (DOCS / "user_guide" / f"{page}.rst").read_text(encoding="utf-8")
        assert ".. math::" in text
        assert "Where it departs from the paper" in text


def test_the_page_of_the_paper_lists_every_departure_that_the_code_marks():
    marked = set()
    for file in Path(sklearn_medfuse.__file__).parent.rglob("*.py"):
        text = re.sub(r"\s+(# )?", " ", file.read_text(encoding="utf-8"))
        names = MARK.findall(text)
        explained = text.count("NOTE[DIFF] marks each departure")
        assert text.count("NOTE[DIFF]") == len(names) + explained, f"{file.name}: mark without name"
        marked |= set(names)
    table = (DOCS / "paper.rst").read_text(encoding="utf-8").split(".. list-table::")[1]
    _, *listed = re.findall(r"^    \* - (.+)$", table, flags=re.MULTILINE)
    assert sorted(listed) == sorted(marked)
