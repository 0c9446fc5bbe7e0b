"""A cohort as the files of MIMIC-III, MIMIC-IV or eICU."""

from numbers import Integral
from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from .._private_files import make_private_folder
from . import phenotypes
from ._cohort import Cohort
from ._ehr_eicu_layout import Eicu
from ._ehr_layouts import Mimic3, Mimic4
from ._ehr_rows import events_of, stays_of
from ._options import parse_hours
from ._table_files import SUFFIXES, TableFiles

_FORMATS: dict[str, type[Mimic3] | type[Eicu]] = {"mimic3": Mimic3, "mimic4": Mimic4, "eicu": Eicu}


@validate_params(
    {
        # checked within: the message of this check would show it
        "cohort": "no_validation",
        "folder": [str, PathLike],
        "format": [StrOptions(set(_FORMATS))],
        "suffix": [StrOptions(set(SUFFIXES))],
        "n_lab_rows": [Interval(Integral, 0, None, closed="left"), None],
        "n_notes": [Interval(Integral, 0, None, closed="left"), None],
        "note_chars": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def write_ehr_tables(
    cohort,
    folder,
    format="mimic3",
    *,
    index_time="24h",
    suffix=".csv.gz",
    n_lab_rows=None,
    n_notes=None,
    note_chars=1700,
    random_state=None,
):
    """Write a cohort as the tables that a loader reads, of any size.

    The tables have the published names and columns. A loader with the same index time finds the
    cohort in them again, whatever else they hold: its labs as the last results before the index
    time, the paragraphs of its notes as notes before it, and its labels as ICD codes. Further
    results are earlier or later ones of the same labs, and for MIMIC a fifth of them results of no
    admission; further notes come after the index time, the first of each stay as a discharge
    summary. They are written some stays at a time, so that the size of the tables is not limited
    by memory.

    Parameters
    ----------
    cohort : Cohort
        Made by :func:`make_ehr_cohort`, or any other.
    folder : path-like
        New or empty; it is for its owner alone, as it holds the cohort.
    format : {"mimic3", "mimic4", "eicu"}, default="mimic3"
        What the tables are to be. MIMIC-IV gets the folders hosp and note.
    index_time : str or float, default="24h"
        Time between the start of a stay and the `index_times` of the cohort.
    suffix : {".csv", ".csv.gz", ".parquet"}, default=".csv.gz"
        Format of the files.
    n_lab_rows : int or None, default=None
        Rows of the table of lab results. None, or a number below that of the measured cells, means
        one for each of them.
    n_notes : int or None, default=None
        Number of notes; as with `n_lab_rows`, those of the cohort are the least.
    note_chars : int, default=1700
        Mean length of the further notes; their lengths are log-normal.
    random_state : int, RandomState instance or None, default=None
        Source of times, lengths of stay and further rows.

    Returns
    -------
    dict of str to str
        Label of the cohort -> Elixhauser group as which the loader finds it: the group of the same
        name, else one that no label has the name of.

    Raises
    ------
    TypeError
        If `cohort` is none.
    ValueError
        If the folder is not empty, there are more labels than groups, or a lab column holds texts.

    Notes
    -----
    Ids that are no whole numbers are replaced by such. eICU has notes as choices in forms: each
    sentence becomes one. Its loader knows some labs under other names ("pH" as "ph").

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_medfuse.datasets import load_mimic4, make_ehr_cohort, write_ehr_tables
    >>> cohort = make_ehr_cohort(50, n_labels=2, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     groups = write_ehr_tables(cohort, folder, "mimic4", n_lab_rows=5000, random_state=0)
    ...     again = load_mimic4(folder, n_labels=list(groups.values()), min_coverage=0.0)
    >>> again.X["lactate"].equals(cohort.X["lactate"])
    True
    """
    if not isinstance(cohort, Cohort):
        raise TypeError(f"cohort is of type {type(cohort).__name__}; give a Cohort.")
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"folder '{folder}' is not empty: name a new one.")
    index_minute = int(parse_hours(index_time, "index_time"))
    groups, codes = _groups_and_codes(cohort["target_names"])
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31))
    stays = stays_of(cohort, index_minute, rng)
    units, ranges = cohort["units"], cohort["reference_ranges"]
    labs = {name: (units.get(name, ""), ranges.get(name)) for name in cohort["lab_columns"]}
    layout = _FORMATS[format](stays, cohort["y"].to_numpy(), codes, labs)
    make_private_folder(folder)
    with TableFiles(folder, suffix) as files:
        for name, rows in layout.small().items():
            files.append(name, rows)
        for events in events_of(stays, n_lab_rows or 0, n_notes or 0, note_chars, rng):
            for name, rows in layout.events(events).items():
                files.append(name, rows)
    return groups


def _groups_and_codes(names) -> tuple[dict[str, str], dict[int, list[str]]]:
    """Elixhauser group of each label, and its code in both versions of ICD."""
    known = phenotypes.elixhauser_names()
    if len(names) > len(known):
        raise ValueError(
            f"The cohort has {len(names)} labels; at most {len(known)} can be written."
        )
    free = iter([group for group in known if group not in names])
    groups = {name: name if name in known else next(free) for name in names}
    codes = {version: [_code_of(g, version) for g in groups.values()] for version in (9, 10)}
    return groups, codes


def _code_of(group: str, version: int) -> str:
    """A code that is in this group alone, and whose form tells its version."""
    prefixes = phenotypes.ELIXHAUSER[group][version]
    member = phenotypes.map_codes(prefixes, version)
    alone = member[group] & (member.sum(axis=1) == 1)
    told = phenotypes.guess_icd_version(prefixes) == version
    return prefixes[int(np.flatnonzero(alone.to_numpy() & told)[0])]
