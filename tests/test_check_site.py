"""tools/check_site.py finds planted faults and passes a site without any."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "check_site.py"


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("check_site", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.check


@pytest.fixture
def site(tmp_path):
    """Two pages that link to each other, a picture and a script."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">A</h1><a href="deep/page.html#here">to</a><img src="a%20b.png">'
        '<a href="https://example.org">outside</a><script src="x.js?v=1"></script>'
    )
    (tmp_path / "deep" / "page.html").write_text(
        '<section id="here"><a href="../index.html#top">back</a>'
        '<a href="#:~:text=back">a text</a></section>'
    )
    for name in ("a b.png", "x.js"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_a_whole_site_has_no_fault(check, site):
    assert check(site) == []


@pytest.mark.parametrize(
    ("tag", "fault"),
    [
        ('<a href="gone.html">x</a>', "no such file"),
        ('<a href="deep/page.html#gone">x</a>', "no such place"),
        ('<a href="#gone">x</a>', "no such place"),
        ('<a href="deep/">x</a>', "no such file"),
        ('<img src="gone.png">', "no such file"),
        ('<script src="https://cdn.example.org/x.js"></script>', "from elsewhere"),
        ('<link rel="stylesheet" href="//cdn.example.org/x.css">', "from elsewhere"),
    ],
)
def test_a_planted_fault_is_found(check, site, tag, fault):
    with (site / "index.html").open("a") as page:
        page.write(tag)
    faults = check(site)
    assert len(faults) == 1
    assert fault in faults[0]


def test_a_folder_without_pages_is_a_fault(check, tmp_path):
    assert check(tmp_path) == [f"{tmp_path} holds no page"]
