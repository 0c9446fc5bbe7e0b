"""Fit a small pipeline on made stays and keep it, with what it predicts, as test data.

Run once per released version, in the environment that `make test` makes; the folders of earlier
releases stay, so that a test sees whether today's code still reads them. A version that is not
released yet (`.dev`) may be written anew.

    python tools/write_golden_files.py
"""

import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import skops.io

from sklearn_medfuse import MaskedLabEncoder, __version__, make_medfuse_pipeline

LAB_NAMES = ["sodium", "lactate", "ketones"]
PHRASES = ["Denies pain.", "Known heart failure.", "On home oxygen.", "No acute distress."]


def made_stays(n_stays=40):
    """Labs with gaps, one of them qualitative; notes, some absent; two labels with a gap."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n_stays, 2)) * [4, 1] + [138, 2], columns=LAB_NAMES[:2])
    X[rng.random(X.shape) < 0.2] = np.nan
    X["ketones"] = rng.choice(np.array(["NEG", "TRACE", "1+", None], dtype=object), n_stays)
    X["note"] = [" ".join(rng.choice(PHRASES, 3)) for _ in range(n_stays)]
    X.loc[3, "note"] = None
    X.loc[4, LAB_NAMES] = None
    y = pd.DataFrame(
        {"CHF": X["note"].str.contains("heart").eq(True), "Death": rng.random(n_stays)}
    )
    y["Death"] = y["Death"] < 0.4
    return X, y.astype(int)


def make_pipeline():
    """Every kind of step, as small as it may be."""
    return make_medfuse_pipeline(
        LAB_NAMES,
        "note",
        lab_encoder=MaskedLabEncoder(
            n_components=4, d_model=8, n_heads=2, n_layers=1, max_epochs=2, n_factors=2
        ),
        views={"lab_text": True, "words": True},
        d_model=8,
        n_heads=2,
        n_estimators=2,
        max_epochs=2,
        threshold="tune",
        calibration="sigmoid",
        device="cpu",
        random_state=0,
    )


def main():
    """Write a folder named by the version."""
    folder = Path(__file__).parents[1] / "tests" / "golden" / __version__
    folder.mkdir(parents=True, exist_ok=True)
    X, y = made_stays()
    pipeline = make_pipeline().fit(X, y)
    skops.io.dump(pipeline, folder / "pipeline.skops", compression=zipfile.ZIP_DEFLATED)
    joblib.dump(pipeline, folder / "pipeline.joblib", compress=3)
    X.to_parquet(folder / "stays.parquet")
    np.savez_compressed(
        folder / "predictions.npz",
        predict_proba=pipeline.predict_proba(X),
        predict=pipeline.predict(X),
        transform=pipeline[:-1].transform(X),
    )
    for file in sorted(folder.iterdir()):
        print(f"{file.name}: {file.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
