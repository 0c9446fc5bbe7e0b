"""What one does with a cohort: split it, keep it, describe it, draw how it came about."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import check_random_state

from .._sealed_folder import read_sealed, seal
from .._version import __version__
from ._cohort_flow import draw_flow

_FORMAT = "sklearn-medfuse Cohort"
# The last one is of made cohorts alone.
_TABLES = ("X", "y", "subgroups", "factors")
_COLUMNS = ("groups", "hospitals", "index_times")
_META = "cohort.json"
_REMEDY = "Write the cohort again by Cohort.to_parquet."
# what fewer stays have is not told one by one in a table
_FEWEST = 5


class CohortTools:
    """Methods of `Cohort` beyond its report."""

    def select(self, rows):
        """Take some of the stays.

        Parameters
        ----------
        rows : array-like of int, or of bool of shape (n_stays,)
            Positions, or which stays to take.

        Returns
        -------
        Cohort
            These stays, in the order asked for; `counts` are those of the whole.

        Raises
        ------
        ValueError
            If `rows` are of another kind.
        """
        fields = dict(self.items())  # type: ignore[attr-defined]  # Bunch's
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.dtype.kind not in "iub" and rows.size):
            raise ValueError("rows must be positions, or True and False, of shape (n_rows,).")
        rows = rows if rows.size else rows.astype(int)
        for name in (*_TABLES, *_COLUMNS):
            if fields.get(name) is not None:
                fields[name] = fields[name].iloc[rows]
        fields["stay_ids"] = np.asarray(fields["stay_ids"])[rows]
        return type(self)(**fields)

    def train_test_split(
        self,
        by: Literal["patient", "hospital", "time"] = "patient",
        *,
        test_size=0.25,
        random_state=None,
    ):
        """Split into stays to learn from and stays to predict, with no patient in both.

        Parameters
        ----------
        by : {"patient", "hospital", "time"}, default="patient"
            Hold out whole patients; whole hospitals; or the stays with the latest index times.
            Of hospitals and times, stays to predict of a patient who is also learned from are
            left out.
        test_size : float, default=0.25
            Share of the patients, hospitals or stays to hold out, within (0, 1).
        random_state : int, RandomState instance or None, default=None
            Chooses patients or hospitals.

        Returns
        -------
        train, test : Cohort
            The two parts. `counts` of `test` says how many stays were left out.

        Raises
        ------
        ValueError
            If the source tells no hospitals or times, or has fewer than two of what is split by.
        """
        if not 0 < test_size < 1:
            raise ValueError(f"test_size must be within (0, 1), got {test_size}.")
        if by == "time":
            held_out = self._latest(test_size)
        elif by in ("patient", "hospital"):
            held_out = self._whole_groups(by, test_size, random_state)
        else:
            raise ValueError(f"by must be 'patient', 'hospital' or 'time', got {by!r}.")
        groups = self["groups"]  # type: ignore[index]  # Bunch's
        again = held_out & groups.isin(groups[~held_out]).to_numpy()
        train, test = self.select(~held_out), self.select(held_out & ~again)
        left_out = {"stays left out: of patients who are learned from": int(again.sum())}
        test["counts"] = {**test["counts"], **left_out}
        if not len(train["X"]) or not len(test["X"]):
            raise ValueError(f"Splitting by {by} with test_size={test_size} leaves a part empty.")
        return train, test

    def _whole_groups(self, by: str, test_size: float, random_state) -> np.ndarray:
        groups = self["groups" if by == "patient" else "hospitals"]  # type: ignore[index]
        if groups is None:
            raise ValueError("by='hospital' needs hospitals, which the source does not tell.")
        if groups.nunique() < 2:
            raise ValueError(f"by={by!r} needs at least two of them, got {groups.nunique()}.")
        splitter = GroupShuffleSplit(
            1, test_size=test_size, random_state=check_random_state(random_state)
        )
        codes = pd.factorize(groups)[0]
        _, test = next(splitter.split(codes, groups=codes))
        return np.isin(np.arange(len(codes)), test)

    def _latest(self, test_size: float) -> np.ndarray:
        times = self.get("index_times")  # type: ignore[attr-defined]  # Bunch's
        if times is None:
            raise ValueError(
                "by='time' needs index times, which the source does not tell; split by patient or "
                "hospital."
            )
        return (times > times.quantile(1 - test_size)).to_numpy()

    def to_parquet(self, folder) -> None:
        """Write the cohort to a folder for its owner alone, as a whole or not at all.

        The files hold notes, lab values and labels of patients: keep them as you keep the source.

        Parameters
        ----------
        folder : path-like
            Made if absent. If it holds a cohort, that is replaced; any other is refused.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / _META).is_file() and any(folder.iterdir()):
            raise ValueError(f"'{folder}' holds other files than a cohort's; name a new folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        # mkdtemp's folders have mode 0700
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            self._write(beside)
            _replace(folder, beside)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise

    def _write(self, folder: Path) -> None:
        fields: dict[str, Any] = dict(self.items())  # type: ignore[attr-defined]  # Bunch's
        names = {}
        for name in (*_TABLES, *_COLUMNS):
            value = fields.get(name)
            if value is None:
                continue
            del fields[name]
            if isinstance(value, pd.Series):
                names[name] = value.name
                value = value.to_frame(name)
            value.to_parquet(folder / f"{name}.parquet")
        del fields["stay_ids"]
        meta = {"format": _FORMAT, "version": __version__, "names": names, "fields": fields}
        plain = json.loads(json.dumps(meta, default=_plain))
        sealed = seal(plain, folder, sorted(file.name for file in folder.iterdir()))
        (folder / _META).write_text(json.dumps(sealed, indent=1), encoding="utf-8")
        for file in folder.iterdir():
            # no one else could open the folder until here
            file.chmod(0o600)

    @classmethod
    def from_parquet(cls, folder):
        """Read a cohort that `to_parquet` wrote.

        Parameters
        ----------
        folder : path-like
            The folder.

        Returns
        -------
        Cohort
            Equal to the one that was written.

        Raises
        ------
        FileNotFoundError
            If the folder holds no cohort.
        ValueError
            If a file of it is damaged: the folder holds the digest of each.
        """
        folder = Path(folder)
        if not (folder / _META).is_file():
            raise FileNotFoundError(
                f"'{folder}' holds no {_META}; name a folder that Cohort.to_parquet has written."
            )
        meta = read_sealed(folder, _META, _REMEDY)
        damaged = False
        try:
            fields = _read_fields(folder, meta)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError):
            # what pyarrow says may quote the content
            damaged = True
        if damaged:
            raise ValueError(f"'{folder}' is damaged: its parts do not fit together. {_REMEDY}")
        return cls(**fields)

    def describe(self, by: str | None = None) -> pd.DataFrame:
        """Table 1: who the patients are, what was measured, how many have what.

        Parameters
        ----------
        by : str or None, default=None
            A label, or a column of `subgroups`, to give each value a column of.

        Returns
        -------
        DataFrame
            Of numbers median and quartiles with the number missing, of others counts and
            percentages, as the package tableone makes them. Numbers that fewer than five stays have
            are left out, and words of fewer than five count together as "others".

        Raises
        ------
        ImportError
            If tableone is not installed.
        ValueError
            If `by` is neither a label nor a subgroup.
        """
        try:
            from tableone import TableOne
        except ImportError as error:
            raise ImportError(
                "describe needs tableone: pip install 'sklearn-medfuse[table1]'."
            ) from error
        table, numbers = self._characteristics()
        if by is not None and by not in table:
            raise ValueError(f"by={by!r} is neither a label nor one of the subgroups.")
        columns = [name for name in table if name != by]
        with warnings.catch_warnings():
            # tableone 0.9 uses what pandas 4 will not have
            warnings.simplefilter("ignore", DeprecationWarning)
            made = TableOne(
                table,
                columns=columns,
                categorical=[name for name in columns if name not in numbers],
                nonnormal=[name for name in columns if name in numbers],
                groupby=by,
            )
        return made.tableone

    def _characteristics(self) -> tuple[pd.DataFrame, list[str]]:
        """One row per stay; which of the columns are numbers."""
        fields: dict[str, Any] = dict(self.items())  # type: ignore[attr-defined]  # Bunch's
        X, notes = fields["X"], fields["X"][fields["note_column"]]
        subgroups = fields.get("subgroups")
        parts = [] if subgroups is None else [subgroups]
        words = notes.str.split().str.len().astype(float)
        parts.append(pd.DataFrame({"words of notes": words}))
        parts.append(X[fields["lab_columns"]])
        parts.append(fields["y"].astype(int))
        table = pd.concat(parts, axis=1).reset_index(drop=True)
        table = table.loc[:, ~table.columns.duplicated()]
        labels = set(fields["target_names"])
        numbers = [
            name
            for name, column in table.items()
            if pd.api.types.is_float_dtype(column) and name not in labels
        ]
        told = [
            name
            for name in table
            if (table[name].count() >= _FEWEST if name in numbers else table[name].nunique() <= 20)
        ]
        numbers = [name for name in numbers if name in told]
        return table[told].apply(_without_rare_words), numbers

    def flow(self, *, ax=None):
        """Draw how the stays came to be these: read, dropped for which reason, kept (CONSORT).

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        matplotlib Axes
            The drawing.
        """
        return draw_flow(self["counts"], ax)  # type: ignore[index]  # Bunch's


def _without_rare_words(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):
        return column
    rare = column.map(column.value_counts()).lt(_FEWEST) & column.notna()
    return column.astype(object).mask(rare.astype(bool), "others")


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"A field of type {type(value).__name__} cannot be written.")


def _replace(folder: Path, new: Path) -> None:
    """Put a finished folder in the place of an older one."""
    old = None
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-old-"))
        os.replace(folder, old)
    os.replace(new, folder)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _read_fields(folder: Path, meta: Mapping) -> dict[str, Any]:
    if meta["format"] != _FORMAT:
        raise ValueError("not a cohort")
    fields: dict[str, Any] = dict(meta["fields"])
    for name in (*_TABLES, *_COLUMNS):
        if f"{name}.parquet" in meta["files"]:
            frame = pd.read_parquet(folder / f"{name}.parquet")
            fields[name] = frame if name in _TABLES else frame[name].rename(meta["names"][name])
        elif name in ("X", "y", *meta["names"]):
            raise ValueError("incomplete")
    ranges = fields.get("reference_ranges") or {}
    fields["reference_ranges"] = {lab: tuple(ends) for lab, ends in ranges.items()}
    fields["stay_ids"] = fields["X"].index.to_numpy()
    if any(
        len(fields[name]) != len(fields["X"])
        for name in (*_TABLES, *meta["names"])
        if name in fields
    ):
        raise ValueError("of different numbers of stays")
    return fields
