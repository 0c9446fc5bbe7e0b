"""The three lab tables of the imputation studies, and the protocol that they share."""

from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_medfuse.datasets import load_eicu

HIDDEN_SHARE = 0.2
LARGEST_ERROR = 10.0
# of NHANES: the disease answers and the person come first and last
NHANES_LABS = slice(3, 37)
_FEWEST_VALUES = 8


def load_tables(folder):
    """Name → DataFrame of labs, NaN where not measured, without rows or columns that are empty."""
    folder = Path(folder)
    clif = pd.read_parquet(folder / "clif_demo" / "clif_labs.parquet").pivot_table(
        index="hospitalization_id",
        columns="lab_category",
        values="lab_value_numeric",
        aggfunc="mean",
    )
    cohort = load_eicu(folder / "eicu_demo_dev")
    tables = {
        "clif_demo": clif.loc[:, clif.notna().sum() >= _FEWEST_VALUES],
        "nhanes": nhanes(folder).iloc[:, NHANES_LABS],
        "eicu": cohort.X[cohort.lab_columns],
    }
    return {name: table.dropna(how="all").astype(float) for name, table in tables.items()}


def nhanes(folder):
    """Return people by labs and doctor-told diseases."""
    return pd.read_parquet(Path(folder) / "nhanes" / "nhanes_2017_2018.parquet")


def hide(table, seed):
    """Return the table without a fifth of its values, all of it, and what was hidden.

    Both are z-scored by the whole table, so that errors of all labs count alike.
    """
    values = table.to_numpy()
    hidden = ~np.isnan(values) & (np.random.default_rng(seed).random(values.shape) < HIDDEN_SHARE)
    scale = np.nanstd(values, axis=0)
    scale[scale == 0] = 1.0
    true = (values - np.nanmean(values, axis=0)) / scale
    return np.where(hidden, np.nan, true), true, hidden


def rmse(imputed, true, hidden):
    """Root mean squared error of the hidden cells in standard deviations of their labs."""
    error = np.clip(imputed[hidden] - true[hidden], -LARGEST_ERROR, LARGEST_ERROR)
    return float(np.sqrt(np.mean(error**2)))
