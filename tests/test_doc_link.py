"""HTML diagrams link to the site that the environment names, and to none without it."""

import pytest
from sklearn.pipeline import make_pipeline

import sklearn_medfuse
from sklearn_medfuse import MaskedLabEncoder, MEDFuseClassifier

# The diagram of a pipeline is scikit-learn's, and links to its steps
ESTIMATORS = [
    name
    for name in sklearn_medfuse.__all__
    if isinstance(getattr(sklearn_medfuse, name), type) and name != "MEDFusePipeline"
]


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("site", ["https://docs.example.org/medfuse", "file:///srv/html/", ".."])
def test_the_diagram_links_to_the_page_of_the_class(name, site, monkeypatch):
    monkeypatch.setenv("SKLEARN_MEDFUSE_DOCS_URL", site)
    link = f'href="{site.rstrip("/")}/generated/sklearn_medfuse.{name}.html"'
    assert link in getattr(sklearn_medfuse, name)()._repr_html_()


def test_without_a_site_there_is_no_link_and_none_to_that_of_scikit_learn(monkeypatch):
    monkeypatch.delenv("SKLEARN_MEDFUSE_DOCS_URL", raising=False)
    for name in ESTIMATORS:
        assert getattr(sklearn_medfuse, name)()._get_doc_link() == ""


def test_steps_of_a_pipeline_link_too_and_parameters_do_not_change(monkeypatch):
    monkeypatch.setenv("SKLEARN_MEDFUSE_DOCS_URL", "https://docs.example.org")
    pipe = make_pipeline(MaskedLabEncoder(), MEDFuseClassifier())
    html = pipe._repr_html_()
    for name in ("MaskedLabEncoder", "MEDFuseClassifier"):
        assert f"https://docs.example.org/generated/sklearn_medfuse.{name}.html" in html
    assert not [name for name in pipe.get_params() if "doc_link" in name]
