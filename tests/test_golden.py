"""Files that a version wrote predict today, and on any processor, what they predicted then."""

import os
import subprocess
import sys
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
# What a processor without AVX-512 and bfloat16 has, for torch, oneDNN, MKL and numpy
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_ICL",
}
PREDICT = """
import sys
import numpy as np, pandas as pd, torch
from test_golden import load, predict
from pathlib import Path

folder, result = map(Path, sys.argv[1:])
np.savez(result, capability=torch.backends.cpu.get_cpu_capability(),
         **predict(load(folder / "pipeline.skops"), folder))
"""


def load(file):
    if file.suffix == ".joblib":
        return joblib.load(file)
    untrusted = skops.io.get_untrusted_types(file=file)
    assert all(name.startswith("sklearn_medfuse.") for name in untrusted)
    return skops.io.load(file, trusted=untrusted)


def predict(pipeline, folder):
    X = pd.read_parquet(folder / "stays.parquet")
    return {
        "predict_proba": pipeline.predict_proba(X),
        "predict": pipeline.predict(X),
        "transform": pipeline[:-1].transform(X),
    }


def assert_as_written(found, folder):
    expected = np.load(folder / "predictions.npz")
    for method in ("predict_proba", "transform"):
        np.testing.assert_allclose(found[method], expected[method], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found["predict"], expected["predict"])


def test_this_version_has_golden_files():
    assert __version__ in {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("ending", ["skops", "joblib"])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_file_predicts_as_when_it_was_written(folder, ending, minilm):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Scikit-learn's own word about its own versions
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        pipeline = load(folder / f"pipeline.{ending}")
    told = any("saved by sklearn-medfuse" in str(warning.message) for warning in caught)
    assert told == (folder.name != __version__)
    assert_as_written(predict(pipeline, folder), folder)


@pytest.mark.skipif(sys.platform == "darwin", reason="no AVX2 on Apple's")
def test_a_file_predicts_the_same_without_avx512(tmp_path, minilm):
    folder = GOLDEN / __version__
    result = tmp_path / "predictions.npz"
    root = Path(__file__).parent
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREDICT, folder, result],
        check=True,
        env=os.environ | AVX2 | {"PYTHONPATH": f"{root}{os.pathsep}{root.parent}"},
    )
    found = np.load(result)
    assert str(found["capability"]) in ("AVX2", "DEFAULT")
    assert_as_written(found, folder)
