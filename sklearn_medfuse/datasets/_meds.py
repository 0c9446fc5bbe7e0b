"""Data sets in the Medical Event Data Standard as a `Cohort`: one row per hospital stay."""

from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ._build import build_cohort, make_options, open_source
from ._cells import literal
from ._cohort import Cohort, parse_hours
from ._layout import EventTable, Layout
from ._meds_stays import find_stays
from ._postgres_url import is_database_url
from ._small_tables import unique_names
from ._sources import Source

DATASET = "a data set in the Medical Event Data Standard (MEDS 0.4)"
URL = "https://medical-event-data-standard.github.io/"

DESCR = """Medical Event Data Standard
===========================

One row per hospital stay, from an admission event of a subject to the next discharge event. Labs
are the events whose code says so, under the description of their code where there is one.
"""

_LABS = EventTable(
    "labs of data",
    {
        "stay": ("stay", "key"),
        "item": ("item", "text"),
        "value": ("numeric_value", "number"),
        "text": ("text_value", "text"),
        "unit": ("unit", "text"),
        "time": ("time", "time"),
    },
    drop={"of specimens, not results": "starts_with(e.item, 'SPECIMEN_COLLECTED')"},
)
_NOTES = EventTable(
    "notes of data",
    {
        "stay": ("stay", "key"),
        "type": ("type", "text"),
        "text": ("text_value", "long text"),
        "time": ("time", "time"),
    },
)
_DIAGNOSES = EventTable(
    "diagnoses of data",
    {"stay": ("stay", "key"), "code": ("icd", "code"), "version": ("version", "text")},
)

# Item and unit, from what follows the prefix of a code; a unit that is not known is UNK.
_ITEM = "array_to_string(CASE WHEN len(parts) > 1 THEN parts[:-2] ELSE parts END, '//')"
_UNIT = "CASE WHEN len(parts) > 1 THEN nullif(parts[-1], 'UNK') END"


def load_meds(
    path: str | PathLike[str],
    *,
    admission: str = "HOSPITAL_ADMISSION",
    discharge: str = "HOSPITAL_DISCHARGE",
    lab: str = "auto",
    note: str = "NOTE",
    diagnosis: str = "DIAGNOSIS//ICD",
    **options: Any,
) -> Cohort:
    """Load the hospital stays of a MEDS 0.4 data set.

    Parameters
    ----------
    path : path-like or str
        Folder with data/\\\\*\\\\*/\\\\*.parquet and metadata/codes.parquet, as mimic-iv-meds and
        eicu-meds write them; a DuckDB file with tables data and codes; or the URL of a PostgreSQL
        database with them, see :func:`load_tables`.
    admission, discharge : str, default="HOSPITAL_ADMISSION", "HOSPITAL_DISCHARGE"
        What the codes of events begin with, up to "//" or their end, that start and end a stay.
    lab : str, default="auto"
        What the codes of lab results begin with; item and unit follow. "auto" is "LAB//RESULT" if
        codes begin so, as in mimic-iv-meds, whose other "LAB" events are bedside charts, else
        "LAB".
    note : str, default="NOTE"
        What the codes of notes begin with; their type follows, the text is in `text_value`.
    diagnosis : str, default="DIAGNOSIS//ICD"
        What the codes of diagnoses begin with; the version of ICD and the code follow.
    **options : dict
        What becomes of the events, see :class:`CohortOptions`.

    Returns
    -------
    Cohort
        The kept stays, sorted by id: the number of the subject, "-", and the number of the stay
        among the subject's, from 1.

    Raises
    ------
    ConnectionError
        If the server of a database cannot be reached, or does not accept the user.
    FileNotFoundError
        If the folder or a file is not there.
    ValueError
        If a parameter is out of range, there is no stay, a column is missing, or a file is damaged.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_mimic4 : MIMIC-IV as it is published.

    Notes
    -----
    Events belong to the stay in whose time they fall, which opens `lookback` before the admission
    but after the end of the subject's stay before. A stay whose discharge says "DIED" or "EXPIRED",
    or on whose days the subject's MEDS_DEATH falls, ended in death. ICD codes with a point, or
    several in one event, are told by their form, since eICU has both versions in one column.

    References
    ----------
    McDermott, M., et al. (2025). MEDS: building models and tools in a reproducible health AI
    ecosystem. https://medical-event-data-standard.github.io/

    Examples
    --------
    >>> from sklearn_medfuse.datasets import load_meds
    >>> load_meds("no/such/folder", index_time="24h")
    Traceback (most recent call last):
        ...
    FileNotFoundError: 'no/such/folder' does not exist. ...
    """
    chosen = make_options(options)
    with open_source(_files(path), DATASET, URL, chosen) as source:
        before = pd.Timedelta(minutes=parse_hours(chosen.lookback, "lookback"))
        stays = find_stays(source, admission, discharge, before)
        _define_events(source, _lab_prefix(source, lab), note, diagnosis)
        layout = Layout(
            describe=DESCR,
            stays=lambda source: stays,
            diagnoses=_DIAGNOSES,
            labs=_LABS,
            notes=(_NOTES,),
            items=lambda source: _read_items(source, _lab_prefix(source, lab)),
            versions={"9": 9, "10": 10, None: "auto"},
        )
        return build_cohort(source, layout, chosen)


def _files(where: str | PathLike[str]) -> Any:
    """The shards of the data and the table of codes; a database is left as it is."""
    path = Path(where)
    if is_database_url(where) or not path.is_dir():
        return where
    shards = sorted((path / "data").rglob("*.parquet"))
    if not shards:
        raise FileNotFoundError(f"There is no parquet file under '{path / 'data'}'.")
    return {"data": shards, "codes": path / "metadata" / "codes.parquet"}


def _lab_prefix(source: Source, lab: str) -> str:
    if lab != "auto":
        return lab
    codes = source.scan("codes", ["code"], where="starts_with(code, 'LAB//RESULT//')")
    found = source.query(f"SELECT count(*) AS n FROM {codes}", "codes")
    return "LAB//RESULT" if found["n"].iloc[0] else "LAB"


def _define_events(source: Source, lab: str, note: str, diagnosis: str) -> None:
    """Labs, notes and diagnoses as tables with the stay that they fall into."""

    def events(prefix: str, columns: str, values: list[str]) -> str:
        start = f"{prefix}//"
        data = source.scan(
            "data",
            ["subject_id", "time", "code", *values],
            where=f"starts_with(code, {literal(start)})",
        )
        return (
            f"SELECT e.time, {columns}, CASE WHEN e.moment <= s.closes THEN s.key END AS stay FROM "
            "(SELECT *, epoch_us(CAST(time AS TIMESTAMP)) AS moment, "
            f"string_split(substr(code, {len(start) + 1}), '//') AS parts "
            f"FROM {data}) e "
            "ASOF LEFT JOIN meds_stays s ON e.subject_id = s.subject AND e.moment >= s.opens"
        )

    source.define(
        _LABS.table,
        events(
            lab,
            f"numeric_value, text_value, {_ITEM} AS item, {_UNIT} AS unit",
            ["numeric_value", "text_value"],
        ),
    )
    source.define(_NOTES.table, events(note, "text_value, parts[1] AS type", ["text_value"]))
    source.define(
        _DIAGNOSES.table,
        "SELECT stay, version, trim(icd) AS icd FROM (SELECT stay, "
        "CASE WHEN len(parts) > 1 AND NOT regexp_matches(parts[-1], '[.,]') THEN parts[1] END "
        "AS version, unnest(string_split(parts[-1], ',')) AS icd "
        f"FROM ({events(diagnosis, 'parts', [])}))",
    )


def _read_items(source: Source, lab: str) -> pd.DataFrame:
    """Items of labs under the first description of their codes, else under their own name."""
    start = f"{lab}//"
    codes = source.scan(
        "codes", ["code", "description"], where=f"starts_with(code, {literal(start)})"
    )
    items = source.query(
        f"SELECT {_ITEM} AS item, coalesce(min(nullif(trim(description), '')), item) AS name FROM "
        f"(SELECT string_split(substr(code, {len(start) + 1}), '//') AS parts, description "
        f"FROM {codes}) GROUP BY item ORDER BY item",
        "codes",
    )
    return unique_names(items, "name", [])
