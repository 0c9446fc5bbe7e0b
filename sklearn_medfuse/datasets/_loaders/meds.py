"""Data sets in the Medical Event Data Standard as a `Cohort`: one row per hospital stay."""

from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from .._build.cohort_builder import build_cohort, unique_names
from .._build.events import OUTSIDE_STAYS, EventTable, Layout
from .._cohort import Cohort
from .._options import lists_choices, make_options, parse_hours
from .._tables.columns import TEXT_DTYPE, literal, quoted
from .._tables.source import Source, is_database_url

DATASET = "a data set in the Medical Event Data Standard (MEDS 0.4)"
URL = "https://medical-event-data-standard.github.io/"

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
        # At midnight only the day is known, as of the summaries of MIMIC-IV-Note
        "time": ("time", "date"),
    },
)
_DIAGNOSES = EventTable(
    "diagnoses of data",
    {
        "stay": ("stay", "key"),
        "code": ("icd", "code"),
        "version": ("version", "text"),
        "time": ("time", "date"),
    },
)

_STEP, _DAY = pd.Timedelta(microseconds=1), pd.Timedelta(days=1)
_DEATHS = "DIED|EXPIRED|DECEASED"
_STAY = "hadm_id"
# Item and unit, from what follows the prefix of a code; an unknown unit is UNK
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
    stay: str | None = _STAY,
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
    stay : str or None, default="hadm_id"
        Column of the data that names the stay of an event. "hadm_id", as mimic-iv-meds writes it,
        may be absent; cells may be empty. None goes by the times alone.
    **options : dict
        The choices of :class:`CohortOptions`.

    Returns
    -------
    Cohort
        The kept stays, sorted by id: the number of the subject, "-", and the number of the stay
        within the subject, from 1.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_mimic4 : MIMIC-IV as it is published.

    Notes
    -----
    Events belong to the stay that their column `stay` names; those without it, to the stay in whose
    time they fall, which begins `lookback` before the admission, but not before the end of the
    subject's previous stay. A stay whose discharge says "DIED" or "EXPIRED", or during which the
    subject's MEDS_DEATH falls, ended in death; without a discharge event, whether it did is
    unknown. A death or note at midnight counts from the end of its day. The version of ICD codes
    with a point, or of several in one event, is inferred from their form, since eICU has both
    versions in one column.

    References
    ----------
    McDermott, M., et al. (2025). MEDS: building models and tools in a reproducible health AI
    ecosystem. https://medical-event-data-standard.github.io/
    """
    chosen = make_options(load_meds, options)
    with Source(_files(path), DATASET, URL, chosen) as source:
        before = pd.Timedelta(minutes=parse_hours(chosen.lookback, "lookback"))
        present = source.columns("data")
        if stay not in (None, _STAY) and stay.lower() not in present:
            raise ValueError(
                f"stay={stay!r} is no column of the data. Known are: {', '.join(present)}."
            )
        name = present.get((stay or "").lower(), ("",))[0]
        stays = _find_stays(source, admission, discharge, name, before)
        lab = _lab_prefix(source, lab)
        _define_events(source, lab, note, diagnosis, name if stays["visit"].notna().any() else "")
        layout = Layout(
            describe="meds",
            stays=lambda source: stays,
            expected=OUTSIDE_STAYS,
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


def _define_events(source: Source, lab: str, note: str, diagnosis: str, stay: str) -> None:
    """Labs, notes and diagnoses as tables with the stay that they name or fall into."""

    def events(prefix: str, columns: str, values: list[str]) -> str:
        start = f"{prefix}//"
        data = source.scan(
            "data",
            ["subject_id", "time", "code", *values, *filter(None, [stay.lower()])],
            where=f"starts_with(code, {literal(start)})",
        )
        return (
            f"SELECT e.time, {columns}, coalesce(v.key, CASE WHEN e.visit IS NULL "
            "AND (s.closes IS NULL OR e.moment <= s.closes) THEN s.key END) AS stay FROM "
            f"(SELECT *, CAST(time AS TIMESTAMP) AS moment, {_visit(stay)} AS visit, "
            f"string_split(substr(code, {len(start) + 1}), '//') AS parts "
            f"FROM {data}) e "
            "LEFT JOIN meds_stays v ON e.subject_id = v.subject AND e.visit = v.visit "
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
        "SELECT stay, time, version, trim(icd) AS icd FROM (SELECT stay, time, "
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


def _visit(stay: str) -> str:
    """SQL of the stay that an event names, as a text; whole numbers may be written as floats."""
    if not stay:
        return "NULL::VARCHAR"
    return f"nullif(regexp_replace(trim(CAST({quoted(stay)} AS VARCHAR)), '[.]0+$', ''), '')"


def _find_stays(
    source: Source, admission: str, discharge: str, stay: str, before: pd.Timedelta
) -> pd.DataFrame:
    """Stays of the subjects; the table `meds_stays` has the time in which each takes events."""
    events = _read_events(source, admission, discharge, stay)
    stays = _pair(events, admission)
    stays = stays.join(_persons(events), on="patient")
    day = (stays["death"] - _STEP).dt.normalize()
    dead = (day >= stays["start"].dt.normalize()) & (day <= stays["end"].dt.normalize())
    stays["died"] = (dead | stays.pop("ended_in_death")).astype(float)
    _register_windows(source, stays, before)
    return stays


def _read_events(source: Source, admission: str, discharge: str, stay: str) -> pd.DataFrame:
    """Events that start and end stays and lives, with the role and the named stay of each."""
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
    columns = ["subject_id", "time", "code", *filter(None, [stay.lower()])]
    data = source.scan("data", columns, where=" OR ".join(of_role.values()))
    return source.query(
        f"SELECT CAST(subject_id AS BIGINT) AS patient, CASE {cases} END AS role, code, "
        f"{_visit(stay)} AS visit, CAST(time AS TIMESTAMP) AS time FROM {data} "
        "ORDER BY patient, time, role, visit, code",
        "data",
    )


def _pair(events: pd.DataFrame, admission: str) -> pd.DataFrame:
    """Admissions with their discharges: of the same stay, or else the next one that names none."""
    timed = events[events["time"].notna()]
    started = timed[timed["role"].eq("admission")]
    # An event for the admission and one for the move to the ward are one stay
    named = started["visit"].notna()
    started = pd.concat(
        [
            started[named].drop_duplicates(["patient", "visit"]),
            started[~named].drop_duplicates(["patient", "time"]),
        ]
    )
    if started.empty:
        raise ValueError(f"There is no event whose code begins with {admission!r}.")
    stays = started[["patient", "time", "visit"]].rename(columns={"time": "start"})
    stays = stays.sort_values(["patient", "start", "visit"], kind="stable", ignore_index=True)
    ended = timed[timed["role"].eq("discharge")]
    ended = ended.assign(
        end=ended["time"], ended_in_death=ended["code"].str.upper().str.contains(_DEATHS)
    )[["patient", "visit", "end", "ended_in_death"]]
    own = ended.merge(stays.loc[stays["visit"].notna(), ["patient", "visit"]])
    stays = stays.merge(own.drop_duplicates(["patient", "visit"], keep="last"), how="left")
    others = ended.merge(own, how="left", indicator=True).query("_merge == 'left_only'")
    following = pd.merge_asof(
        stays[["patient", "start"]].reset_index(names="row").sort_values("start", kind="stable"),
        others[["patient", "end", "ended_in_death"]].sort_values("end", kind="stable"),
        left_on="start",
        right_on="end",
        by="patient",
        direction="forward",
    )
    following = following.set_index("row").sort_index()
    of_a_later_one = following["end"] > stays.groupby("patient")["start"].shift(-1)
    unpaired = stays["end"].isna() & ~of_a_later_one
    for name in ("end", "ended_in_death"):
        stays[name] = stays[name].where(~unpaired, following[name])
    stays["ended_in_death"] = stays["ended_in_death"].eq(True)
    number = stays.groupby("patient").cumcount() + 1
    stays["stay_id"] = stays["patient"].astype(str) + "-" + number.astype(str)
    return stays


def _persons(events: pd.DataFrame) -> pd.DataFrame:
    """The first birth, death and sex of every subject."""
    by_role = events.drop_duplicates(["patient", "role"]).set_index("patient")
    of = {role: by_role[by_role["role"] == role] for role in ("birth", "death", "sex")}
    death = of["death"]["time"]
    # At midnight only the day of a death is known
    death = death.mask(death == death.dt.normalize(), death + _DAY)
    return pd.DataFrame(
        {
            "birth": of["birth"]["time"],
            "death": death,
            "sex": of["sex"]["code"].str.split("//").str[-1],
        },
        index=pd.Index(events["patient"].unique(), name="patient"),
    ).astype({"birth": "datetime64[us]", "death": "datetime64[us]", "sex": TEXT_DTYPE})


def _register_windows(source: Source, stays: pd.DataFrame, before: pd.Timedelta) -> None:
    opens = stays["start"] - before
    previous = stays.groupby("patient")["end"].shift() + _STEP
    # A stay takes events from its start on even if the stay before overlaps it
    latest = previous.where(previous < stays["start"], stays["start"])
    opens = opens.where(~(previous > opens), latest)
    table = pd.DataFrame(
        {
            "key": stays["stay_id"],
            "subject": stays["patient"],
            "visit": stays["visit"],
            "opens": opens.astype("datetime64[us]"),
            "closes": stays["end"].astype("datetime64[us]"),
        }
    )
    source.register("meds_stays", table)
