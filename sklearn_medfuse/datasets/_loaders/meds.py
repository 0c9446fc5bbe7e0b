"""Data sets in the Medical Event Data Standard as a `Cohort`: one row per hospital stay."""

from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from .._build.cohort_builder import build_cohort, unique_names
from .._build.events import EventTable, Layout
from .._cohort import Cohort
from .._options import lists_choices, make_options, parse_hours
from .._tables.columns import TEXT_DTYPE, literal
from .._tables.source import Source, is_database_url

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

_STEP = pd.Timedelta(microseconds=1)
_DEATHS = "DIED|EXPIRED|DECEASED"
# Item and unit, from what follows the prefix of a code; an unknown unit is UNK.
_ITEM = "array_to_string(CASE WHEN len(parts) > 1 THEN parts[:-2] ELSE parts END, '//')"
_UNIT = "CASE WHEN len(parts) > 1 THEN nullif(parts[-1], 'UNK') END"


@lists_choices
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
        Beginning of the codes, up to "//" or their end, of the events that start and end a stay.
    lab : str, default="auto"
        Beginning of the codes of lab results; item and unit follow. "auto" is "LAB//RESULT" if
        there are such codes, as in mimic-iv-meds, whose other "LAB" events are bedside charts, else
        "LAB".
    note : str, default="NOTE"
        Beginning of the codes of notes; the type follows, and the text is in `text_value`.
    diagnosis : str, default="DIAGNOSIS//ICD"
        Beginning of the codes of diagnoses; the version of ICD and the code follow.
    **options : dict
        The choices of :class:`CohortOptions`.

    Returns
    -------
    Cohort
        The kept stays, sorted by id: the number of the subject, "-", and the number of the stay
        within the subject, from 1.

    Raises
    ------
    ConnectionError, FileNotFoundError, ValueError
        As :func:`load_tables`; also if there is no stay.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_mimic4 : MIMIC-IV as it is published.

    Notes
    -----
    Events belong to the stay in whose time they fall; it begins `lookback` before the admission,
    but not before the end of the subject's previous stay. A stay whose discharge says "DIED" or
    "EXPIRED", or during which the subject's MEDS_DEATH falls, ended in death. The version of ICD
    codes with a point, or of several in one event, is inferred from their form, since eICU has both
    versions in one column.

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
    chosen = make_options(load_meds, options)
    with Source(_files(path), DATASET, URL, chosen) as source:
        before = pd.Timedelta(minutes=parse_hours(chosen.lookback, "lookback"))
        stays = _find_stays(source, admission, discharge, before)
        lab = _lab_prefix(source, lab)
        _define_events(source, lab, note, diagnosis)
        layout = Layout(
            describe=DESCR,
            stays=lambda source: stays,
            diagnoses=_DIAGNOSES,
            labs=_LABS,
            notes=(_NOTES,),
            items=lambda source: _read_items(source, lab),
            versions={"9": 9, "10": 10, None: "auto"},
        )
        return build_cohort(source, layout, chosen)


def _files(where: str | PathLike[str]) -> Any:
    """The shards of the data and the table of codes; a database is returned unchanged."""
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
            f"SELECT e.time, {columns}, "
            "CASE WHEN s.closes IS NULL OR e.moment <= s.closes THEN s.key END AS stay FROM "
            "(SELECT *, CAST(time AS TIMESTAMP) AS moment, "
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
    """Items of labs under the first description of their codes, or under their own name."""
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


def _find_stays(
    source: Source, admission: str, discharge: str, before: pd.Timedelta
) -> pd.DataFrame:
    """Stays of the subjects; the table `meds_stays` has the time in which each takes events.

    A stay takes events from `before` its start on.
    """
    events = _read_events(source, admission, discharge)
    stays = _pair(events, admission, discharge)
    stays = stays.join(_persons(events), on="patient")
    day = stays["death"].dt.normalize()
    dead = (day >= stays["start"].dt.normalize()) & (day <= stays["end"].dt.normalize())
    stays["died"] = (dead | stays.pop("ended_in_death")).astype(float)
    _register_windows(source, stays, before)
    return stays


def _read_events(source: Source, admission: str, discharge: str) -> pd.DataFrame:
    """Events that start and end stays and lives, with the role of each."""
    roles = {
        "admission": admission,
        "discharge": discharge,
        "birth": "MEDS_BIRTH",
        "death": "MEDS_DEATH",
        "sex": "GENDER",
    }
    of_role = {
        role: f"(code = {literal(code)} OR starts_with(code, {literal(code + '//')}))"
        for role, code in roles.items()
    }
    cases = " ".join(f"WHEN {sql} THEN '{role}'" for role, sql in of_role.items())
    data = source.scan("data", ["subject_id", "time", "code"], where=" OR ".join(of_role.values()))
    return source.query(
        f"SELECT CAST(subject_id AS BIGINT) AS patient, CASE {cases} END AS role, code, "
        f"CAST(time AS TIMESTAMP) AS time FROM {data} "
        "ORDER BY patient, time, role, code",
        "data",
    )


def _pair(events: pd.DataFrame, admission: str, discharge: str) -> pd.DataFrame:
    """Every admission with the discharge that follows it before the next admission."""
    started = events[events["role"].eq("admission") & events["time"].notna()]
    started = started.drop_duplicates(["patient", "time"])
    if started.empty:
        raise ValueError(f"There is no event whose code begins with {admission!r}.")
    stays = started[["patient", "time"]].rename(columns={"time": "start"})
    stays["next"] = stays.groupby("patient")["start"].shift(-1)
    ended = events[events["role"].eq("discharge") & events["time"].notna()]
    ended = ended.assign(
        end=ended["time"], ended_in_death=ended["code"].str.upper().str.contains(_DEATHS)
    )[["patient", "end", "ended_in_death"]]
    stays = pd.merge_asof(
        stays.sort_values("start", kind="stable"),
        ended.sort_values("end", kind="stable"),
        left_on="start",
        right_on="end",
        by="patient",
        direction="forward",
    ).sort_values(["patient", "start"], ignore_index=True)
    of_a_later_one = stays["end"] > stays.pop("next")
    stays["end"] = stays["end"].mask(of_a_later_one)
    stays["ended_in_death"] = stays["ended_in_death"].eq(True) & ~of_a_later_one
    number = stays.groupby("patient").cumcount() + 1
    stays["stay_id"] = stays["patient"].astype(str) + "-" + number.astype(str)
    return stays


def _persons(events: pd.DataFrame) -> pd.DataFrame:
    """The first birth, death and sex of every subject."""
    by_role = events.drop_duplicates(["patient", "role"]).set_index("patient")
    of = {role: by_role[by_role["role"] == role] for role in ("birth", "death", "sex")}
    return pd.DataFrame(
        {
            "birth": of["birth"]["time"],
            "death": of["death"]["time"],
            "sex": of["sex"]["code"].str.split("//").str[-1],
        },
        index=pd.Index(events["patient"].unique(), name="patient"),
    ).astype({"birth": "datetime64[us]", "death": "datetime64[us]", "sex": TEXT_DTYPE})


def _register_windows(source: Source, stays: pd.DataFrame, before: pd.Timedelta) -> None:
    opens = stays["start"] - before
    previous = stays.groupby("patient")["end"].shift() + _STEP
    # A stay takes events from its start on even if the stay before overlaps it.
    latest = previous.where(previous < stays["start"], stays["start"])
    opens = opens.where(~(previous > opens), latest)
    table = pd.DataFrame(
        {
            "key": stays["stay_id"],
            "subject": stays["patient"],
            "opens": opens.astype("datetime64[us]"),
            "closes": stays["end"].astype("datetime64[us]"),
        }
    )
    source.register("meds_stays", table)
