"""The `Cohort` that every loader returns: split it, keep it, describe it, draw its flow."""

import json
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import Bunch, check_random_state

from .._private_files import read_sealed, seal, temporary_in
from .._version import __version__

_FORMAT = "sklearn-medfuse Cohort"
# Made cohorts alone have factors
_TABLES = ("X", "y", "subgroups", "factors")
_COLUMNS = ("groups", "hospitals", "index_times")
_META = "cohort.json"
_REMEDY = "Write the cohort again by Cohort.to_parquet."
# In table 1, values of fewer stays are not listed one by one
_FEWEST = 5


class Cohort(Bunch):
    """Stays with labs, notes and labels.

    A scikit-learn `Bunch`: its fields are keys and attributes. All tables have one row per stay,
    in the same order, indexed by the stay's id.

    Parameters
    ----------
    **kwargs : dict
        The fields, as listed below.

    Attributes
    ----------
    X : DataFrame of shape (n_stays, n_columns)
        The lab columns as floats, NaN where not measured; one string column, NaN where there is no
        note; age in years (float), sex ("Female", "Male", or another word of the source) and what
        else is asked for in `CohortOptions`.
    y : DataFrame of shape (n_stays, n_labels)
        1 where the stay has the diagnosis, else 0; NaN where that is not known, or where
        ``labels="after_index"`` leaves out what was recorded before. `int` without NaN.
    groups : Series of shape (n_stays,)
        Patient of each stay: split by it, or by `hospitals`, never by stay.
    hospitals : Series of shape (n_stays,) or None
        Hospital of each stay, if the source has it.
    subgroups : DataFrame of shape (n_stays, n_subgroup_columns)
        Columns to break results down by, such as sex and age. Not part of `X`.
    lab_columns : list of str
        The lab columns of `X`.
    vital_columns : list of str
        Those of the `lab_columns` that are vital signs and settings at the bedside, not laboratory
        tests. Only `load_eicu` tells them apart.
    note_column : str
        The note column of `X`.
    demographic_columns : list of str
        The columns of `X` with age, sex and other facts about the patient, as far as the source
        has them.
    history_columns : list of str
        The columns of `X` about earlier stays; [] unless ``history=True``.
    units : dict of str to str
        Unit of each lab, "" if it has none or the source gives none.
    reference_ranges : dict of str to (float, float)
        Normal range of each lab for which the source gives one.
    target_names : list of str
        The columns of `y`.
    stay_ids : ndarray of shape (n_stays,)
        The stays' ids, the index of the tables.
    counts : dict of str to int
        What was read, kept and dropped, see :meth:`report`.
    DESCR : str
        Description of the source, with its licence and citation.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_tables : A cohort from tables of your own.

    Examples
    --------
    >>> from sklearn_medfuse.datasets import load_eicu_demo
    >>> cohort = load_eicu_demo()
    >>> cohort.X.shape, cohort.y.shape, cohort.note_column
    ((829, 20), (829, 10), 'note')
    """

    def report(self) -> dict[str, int]:
        """Report what was read, kept and dropped, and why.

        Returns
        -------
        dict of str to int
            Counts of stays and rows, in the order of the steps.

        Examples
        --------
        >>> from sklearn_medfuse.datasets import load_eicu_demo
        >>> load_eicu_demo().report()["stays read"]
        1470
        """
        return dict(self["counts"])

    def select(self, rows):
        """Select stays.

        Parameters
        ----------
        rows : array-like of int, or of bool of shape (n_stays,)
            Positions of the stays, or True for each stay to select.

        Returns
        -------
        Cohort
            These stays, in the order of `rows`, with the `counts` of the whole cohort.

        Raises
        ------
        ValueError
            If `rows` are neither positions nor booleans.
        """
        fields = dict(self.items())
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
        """Split into training and test stays, with no patient in both.

        Parameters
        ----------
        by : {"patient", "hospital", "time"}, default="patient"
            Hold out whole patients, whole hospitals, or the stays with the latest index times.
            With hospitals and times, test stays of patients in the training part are left out.
        test_size : float, default=0.25
            Share of the patients, hospitals or stays to hold out, within (0, 1).
        random_state : int, RandomState instance or None, default=None
            Selects the patients or hospitals.

        Returns
        -------
        train, test : Cohort
            The two parts. The `counts` of `test` include the number of stays left out.

        Raises
        ------
        ValueError
            If the source has no hospitals or times, or fewer than two patients or hospitals.
        """
        if not 0 < test_size < 1:
            raise ValueError(f"test_size must be within (0, 1), got {test_size}.")
        if by == "time":
            times = self.get("index_times")
            if times is None:
                raise ValueError(
                    "by='time' needs index times, which the source lacks; split by patient or "
                    "hospital."
                )
            held_out = (times > times.quantile(1 - test_size)).to_numpy()
        elif by in ("patient", "hospital"):
            held_out = self._whole_groups(by, test_size, random_state)
        else:
            raise ValueError(f"by must be 'patient', 'hospital' or 'time', got {by!r}.")
        groups = self["groups"]
        again = held_out & groups.isin(groups[~held_out]).to_numpy()
        train, test = self.select(~held_out), self.select(held_out & ~again)
        left_out = {"stays left out: of patients who are learned from": int(again.sum())}
        test["counts"] = {**test["counts"], **left_out}
        if not len(train["X"]) or not len(test["X"]):
            raise ValueError(f"Splitting by {by} with test_size={test_size} leaves a part empty.")
        return train, test

    def _whole_groups(self, by: str, test_size: float, random_state) -> np.ndarray:
        groups = self["groups" if by == "patient" else "hospitals"]
        if groups is None:
            raise ValueError("by='hospital' needs hospitals, which the source lacks.")
        if groups.nunique() < 2:
            raise ValueError(f"by={by!r} needs at least two {by}s, got {groups.nunique()}.")
        splitter = GroupShuffleSplit(
            1, test_size=test_size, random_state=check_random_state(random_state)
        )
        codes = pd.factorize(groups)[0]
        _, test = next(splitter.split(codes, groups=codes))
        return np.isin(np.arange(len(codes)), test)

    def to_parquet(self, folder) -> None:
        """Write the cohort to a folder for its owner alone, as a whole or not at all.

        The files hold notes, lab values and labels of patients: protect them like the source.

        Parameters
        ----------
        folder : path-like
            Created if absent. A cohort in it is replaced; a folder with other files is refused.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / _META).is_file() and any(folder.iterdir()):
            raise ValueError(f"'{folder}' holds other files, not a cohort; name a new folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            temporary_in(folder.parent, directory=True) as new,
            temporary_in(folder.parent, directory=True) as old,
        ):
            self._write(new)
            if folder.exists():
                os.replace(folder, old / folder.name)
            os.replace(new, folder)

    def _write(self, folder: Path) -> None:
        fields: dict[str, Any] = dict(self.items())
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
            # Nobody else could open the folder until here
            file.chmod(0o600)

    @classmethod
    def from_parquet(cls, folder):
        """Read a cohort written by `to_parquet`.

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
            If a file is damaged: the folder holds a digest of each.
        """
        folder = Path(folder)
        if not (folder / _META).is_file():
            raise FileNotFoundError(
                f"'{folder}' holds no {_META}; name a folder written by Cohort.to_parquet."
            )
        meta = read_sealed(folder, _META, _REMEDY)
        # Messages of pyarrow may quote the content: ours is raised outside of the handler
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError):
            return cls(**_read_fields(folder, meta))
        raise ValueError(f"'{folder}' is damaged: its parts do not fit together. {_REMEDY}")

    def describe(self, by: str | None = None) -> pd.DataFrame:
        """Make table 1: the patients, their labs, and how many have each label.

        Parameters
        ----------
        by : str or None, default=None
            A label, or a column of `subgroups`: the table gets one column per value.

        Returns
        -------
        DataFrame
            Median, quartiles and number missing of numeric columns, counts and percentages of the
            others, made by the package tableone. Numeric columns with fewer than five values are
            left out; categories with fewer than five stays are merged into "others".

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
            # tableone 0.9 uses features that pandas 4 removes
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
        """One row per stay, and the names of the numeric columns."""
        fields: dict[str, Any] = dict(self.items())
        X, notes = fields["X"], fields["X"][fields["note_column"]]
        subgroups = fields.get("subgroups")
        parts = [] if subgroups is None else [subgroups]
        parts.append(X[fields.get("demographic_columns", [])])
        words = notes.str.split().str.len().astype(float)
        parts.append(pd.DataFrame({"words of notes": words}))
        parts.append(X[fields["lab_columns"]])
        # Whole numbers, also beside labels that are not known
        parts.append(fields["y"].astype("Int64").astype(object))
        table = pd.concat(parts, axis=1).reset_index(drop=True)
        table = table.loc[:, ~table.columns.duplicated()]
        labels = set(fields["target_names"])
        numbers = [
            name
            for name, column in table.items()
            if pd.api.types.is_float_dtype(column) and name not in labels
        ]
        listed = [
            name
            for name in table
            if (table[name].count() >= _FEWEST if name in numbers else table[name].nunique() <= 20)
        ]
        numbers = [name for name in numbers if name in listed]
        return table[listed].apply(_without_rare_words), numbers

    def flow(self, *, ax=None):
        """Draw the inclusion diagram (CONSORT): stays read, dropped by reason, and kept.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.

        Returns
        -------
        matplotlib Axes
            The drawing.
        """
        counts: dict[str, int] = self["counts"]

        def listed(kind: str) -> list[str]:
            told = {
                what.removeprefix(kind): n for what, n in counts.items() if what.startswith(kind)
            }
            return [f"{n:,} {of}" for of, n in told.items() if n]

        n_read = counts.get("stays read", 0)
        n_dropped = sum(n for what, n in counts.items() if what.startswith("stays dropped: "))
        dropped = listed("stays dropped: ")
        n_kept = counts.get("stays kept", n_read - n_dropped)
        kept = [f"{n_kept:,} stays kept", *listed("stays kept: ")]
        # Points from box to box
        way = 36 + 14 * (len(dropped) + 1) * bool(dropped)
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError(
                    'Drawing needs matplotlib: run `pip install "sklearn-medfuse[plot]"`.'
                ) from error
            height = (way + 16 * len(kept) + 36) / 72
            _, ax = plt.subplots(figsize=(7, height), layout="constrained")
        from matplotlib.text import OffsetFrom

        look: dict[str, Any] = {
            "bbox": {"boxstyle": "square,pad=0.6", "facecolor": "white", "edgecolor": "0.3"}
        }
        first = ax.text(0.2, 0.95, f"{n_read:,} stays read", ha="center", va="top", **look)
        look |= dict.fromkeys(("xycoords", "textcoords"), OffsetFrom(first, (0.5, 0), "points"))
        look["arrowprops"] = {"arrowstyle": "<-", "color": "0.3"}
        ax.annotate("\n".join(kept), (0, -6), (0, -way), ha="center", va="top", **look)
        if dropped:
            middle = -way / 2
            beside = "\n   ".join([f"{n_dropped:,} dropped", *dropped])
            ax.annotate(beside, (0, middle), (90, middle), va="center", fontsize="small", **look)
        ax.axis("off")
        return ax

    def __repr__(self) -> str:
        """Counts only: the fields of a Bunch would print patients' values."""
        X, y = self["X"], self["y"]
        labs, notes = X[self["lab_columns"]], X[self["note_column"]]
        measured = labs.notna().to_numpy().mean() if labs.size else 0.0
        n_vitals = len(self.get("vital_columns", ()))
        vitals = f" and {n_vitals} vital signs" if n_vitals else ""
        return (
            f"{type(self).__name__}({len(X):,} stays of {self['groups'].nunique():,} patients: "
            f"{labs.shape[1] - n_vitals} labs{vitals} ({measured:.0%} measured), notes for "
            f"{int(notes.notna().sum()):,} stays, {y.shape[1]} labels)"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    def __reduce__(self):
        # Bunch's own pickling ignores the state of subclasses: the items are set one by one instead
        return type(self), (), None, None, iter(self.items())


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


def _read_fields(folder: Path, meta: Mapping) -> dict[str, Any]:
    if meta["format"] != _FORMAT:
        raise ValueError("not a cohort")
    fields: dict[str, Any] = dict(meta["fields"])
    for name in (*_TABLES, *_COLUMNS):
        if f"{name}.parquet" in meta["files"]:
            frame = pd.read_parquet(folder / f"{name}.parquet")
            fields[name] = frame if name in _TABLES else frame[name].rename(meta["names"][name])
    ranges = fields.get("reference_ranges") or {}
    fields["reference_ranges"] = {lab: tuple(ends) for lab, ends in ranges.items()}
    fields["stay_ids"] = fields["X"].index.to_numpy()
    return fields
