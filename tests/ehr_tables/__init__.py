"""A cohort as the files of MIMIC-III, MIMIC-IV or eICU, of any size, for tests and benchmarks."""

import gzip
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from sklearn_medfuse.datasets import phenotypes

from .eicu import Eicu
from .events import Stays, draw_events
from .mimic import Mimic3, Mimic4

FORMATS = {"mimic3": Mimic3, "mimic4": Mimic4, "eicu": Eicu}


def write_ehr_tables(
    cohort,
    folder,
    format="mimic3",
    *,
    index_time="24h",
    suffix=".csv.gz",
    n_lab_rows=0,
    n_notes=0,
    note_chars=1700,
    random_state=0,
    stays_at_once=2000,
):
    """Write a cohort as the tables in which `load_mimic3`, `load_mimic4` or `load_eicu` finds it.

    The loader finds the labs as the last results before the index time, the paragraphs of each
    note as notes before it, and the labels as ICD codes. Further results are earlier or later ones
    of the same labs, and for MIMIC a fifth of them belong to no admission; further notes come
    after the index time, the first of each stay as a discharge summary. Few stays are written at a
    time, so that memory does not limit the size of the tables.

    Parameters
    ----------
    cohort : Cohort
        Its lab columns are numbers. Ids that are not whole numbers are numbered.
    folder : path-like
        A new or empty folder.
    format : {"mimic3", "mimic4", "eicu"}, default="mimic3"
        Layout of the tables. eICU has notes as choices in forms: each sentence becomes one.
    index_time : str, default="24h"
        Time between the start of a stay and the `index_times` of the cohort.
    suffix : {".csv", ".csv.gz", ".parquet"}, default=".csv.gz"
        Format of the files.
    n_lab_rows, n_notes : int, default=0
        Rows of the tables of results and notes, unless the cohort itself has more.
    note_chars : int, default=1700
        Mean length of the further notes; their lengths are log-normal.
    random_state : int, default=0
        Source of times, lengths of stay and further rows.
    stays_at_once : int, default=2000
        Number of stays that are written at a time.

    Returns
    -------
    dict of str to str
        Label of the cohort -> Elixhauser group that the loader finds: the group of the same name,
        or else one that no label is named after.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"folder '{folder}' is not empty: name a new one.")
    groups, codes = _groups_and_codes(cohort["target_names"])
    rng = np.random.default_rng(random_state)
    stays = Stays(cohort, int(pd.Timedelta(index_time).total_seconds() // 60), rng)
    layout = FORMATS[format](stays, cohort["y"].to_numpy(), codes)
    writers = {}
    with ExitStack() as opened:

        def append(tables):
            for name, rows in tables.items():
                if name not in writers:
                    writers[name] = _open(folder / f"{name}{suffix}", rows.schema, opened)
                writers[name].write_table(rows)

        append(layout.small())
        sizes = (n_lab_rows, n_notes, note_chars, stays_at_once)
        for events in draw_events(stays, *sizes, rng):
            append(layout.events(events))
    return groups


def _open(file: Path, schema: pa.Schema, opened: ExitStack):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        return opened.enter_context(pq.ParquetWriter(file, schema))
    stream = opened.enter_context(pa.OSFile(str(file), "wb"))
    if file.suffix == ".gz":
        # Level 1 is several times as fast as gzip's own choice; without a time, the same tables
        # make the same bytes
        packed = gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0)
        stream = opened.enter_context(packed)
    return opened.enter_context(pacsv.CSVWriter(stream, schema))


def _groups_and_codes(names):
    """Elixhauser group of each label, and its code in both versions of ICD."""
    known = phenotypes.ELIXHAUSER
    free = iter([group for group in known if group not in names])
    groups = {name: name if name in known else next(free) for name in names}
    codes = {version: [_code_of(g, version) for g in groups.values()] for version in (9, 10)}
    return groups, codes


def _code_of(group: str, version: int) -> str:
    """A code of this group alone, whose form shows its version."""
    prefixes = phenotypes.ELIXHAUSER[group][version]
    member = phenotypes.map_codes(prefixes, version)
    alone = member[group] & (member.sum(axis=1) == 1)
    shown = phenotypes.guess_icd_version(prefixes) == version
    return prefixes[int(np.flatnonzero(alone.to_numpy() & shown)[0])]
