"""The search finds a canary wherever one was put; else the suite beside it would say nothing."""

import functools
import logging
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn.preprocessing import QuantileTransformer
from sklearn.svm import SVC

from .leaks import CANARIES, TEXTS, VALUE, in_bytes, in_folder, in_object, in_text, listening

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

NOTE = TEXTS["note"]


class Holder:
    def __init__(self, held):
        self._held = held


def closure_over(held):
    return lambda: held


HIDING_PLACES = {
    "attribute": Holder(f"a {NOTE}"),
    "nested": Holder([{"a": (1, Holder(NOTE.upper()))}]),
    "key": {NOTE: 1},
    "array of texts": np.array([NOTE]),
    "array of objects": np.array([None, NOTE], dtype=object),
    "index": pd.DataFrame({"a": [1]}, index=[NOTE]),
    "text column": pd.Series([NOTE, None], dtype="str"),
    "closure": closure_over(NOTE),
    "partial": functools.partial(print, NOTE),
    "bytes": f"x{NOTE}".encode("utf-16-le"),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_a_text_is_found(place):
    assert in_object(HIDING_PLACES[place]).keys() == {"note"}


@pytest.mark.parametrize(
    "holder",
    [
        [VALUE],
        np.full(3, VALUE, dtype=np.float32),
        torch.tensor([[1.0, VALUE]]),
        torch.nn.Linear(1, 1).requires_grad_(False).weight.fill_(VALUE),
        np.float64(VALUE).tobytes(),
        f"{VALUE:,.2f}",
        f"{VALUE:e}",
    ],
)
def test_a_number_is_found(holder):
    assert in_object(Holder(holder)).keys() == {"value"}


def test_what_is_cached_by_a_function_is_found():
    @functools.lru_cache
    def remember(text):
        return len(text)

    remember(NOTE)
    assert in_object(remember).keys() == {"note"}


def test_known_leaky_models_are_caught(tmp_path):
    X = np.linspace(0, 1, 20).reshape(-1, 1)
    X[3] = VALUE
    quantiles = QuantileTransformer(n_quantiles=5).fit(X)
    assert in_object(quantiles).keys() == {"value"}
    assert in_object(SVC().fit(X, np.arange(20) % 2)).keys() == {"value"}
    joblib.dump(quantiles, tmp_path / "model.joblib")
    assert in_folder(tmp_path) == {"value": "model.joblib"}
    assert in_bytes(skops.io.dumps(quantiles)) == {"value"}


def test_what_is_shown_logged_and_warned_is_heard():
    with listening() as heard:
        sys.stderr.write(NOTE)
    assert heard.canaries() == {"note": "output"}
    with listening() as heard:
        logging.getLogger("transformers.models").debug("at %s", VALUE)
    assert heard.canaries() == {"value": "logs"}
    with listening() as heard:
        warnings.warn(TEXTS["stay"], stacklevel=1)
    assert heard.canaries() == {"stay": "warnings"}


def test_what_an_error_hides_behind_it_is_heard():
    with listening() as heard:
        try:
            float(NOTE)
        except ValueError:
            raise TypeError("no text") from None
    assert heard.canaries() == {"note": "error"}


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_text_and_metadata_of_figures_are_found(suffix, tmp_path):
    figure, ax = plt.subplots()
    metadata = {"svg": "Title", "pdf": "Title", "png": "Comment"}
    figure.savefig(tmp_path / f"a.{suffix}", metadata={metadata[suffix]: NOTE})
    assert in_folder(tmp_path).keys() == {"note"}
    if suffix == "svg":
        with plt.rc_context({"svg.fonttype": "none"}):
            ax.set_title(TEXTS["stay"])
            figure.savefig(tmp_path / "b.svg")
        assert in_folder(tmp_path).keys() == {"note", "stay"}
    plt.close(figure)


def test_every_canary_is_known_in_text():
    assert {kind for text in TEXTS.values() for kind in in_text(text)} | in_text(str(VALUE)) == {
        *CANARIES
    }
