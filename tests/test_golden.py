"""Files that earlier versions wrote, and this one, give today what they gave then."""

import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.exceptions import InconsistentVersionWarning

from sklearn_medfuse import __version__

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = sorted(path for path in GOLDEN.iterdir() if path.is_dir())


def load(file):
    if file.suffix == ".joblib":
        return joblib.load(file)
    untrusted = skops.io.get_untrusted_types(file=file)
    assert all(name.startswith("sklearn_medfuse.") for name in untrusted)
    return skops.io.load(file, trusted=untrusted)


def test_this_version_has_golden_files():
    assert __version__ in {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("ending", ["skops", "joblib"])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_file_predicts_as_when_it_was_written(folder, ending, minilm):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # scikit-learn's own word about its own versions
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        pipeline = load(folder / f"pipeline.{ending}")
    told = any("saved by sklearn-medfuse" in str(warning.message) for warning in caught)
    assert told == (folder.name != __version__)

    X = pd.read_parquet(folder / "stays.parquet")
    expected = np.load(folder / "predictions.npz")
    # the note encoder runs in the precision that the processor has
    np.testing.assert_allclose(
        pipeline.predict_proba(X), expected["predict_proba"], rtol=0, atol=2e-3
    )
    np.testing.assert_allclose(
        pipeline[:-1].transform(X), expected["transform"], rtol=1e-2, atol=2e-2
    )
    # a label may tip only where its probability lies at the threshold
    assert np.mean(pipeline.predict(X) == expected["predict"]) > 0.95
