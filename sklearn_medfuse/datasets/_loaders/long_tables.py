"""Any hospital's long tables as a `Cohort`."""

from collections.abc import Mapping
from os import PathLike
from typing import Any, TypeAlias

import pandas as pd

from .._build.cohort_builder import build_cohort
from .._build.events import EventTable, Layout
from .._cohort import Cohort
from .._options import lists_choices, make_options, nearest
from .._tables.columns import NUMBERS, Kind
from .._tables.source import Columns, Source

# Table -> role -> default column, kind
COLUMNS: dict[str, dict[str, tuple[str, Kind]]] = {
    "stays": {
        "stay_id": ("stay_id", "key"),
        "patient": ("patient_id", "key"),
        "start": ("start", "start"),
        "end": ("end", "time"),
        "age": ("age", "age"),
        "birth": ("birth_date", "start"),
        "sex": ("sex", "text"),
        "died": ("died", "flag"),
        "hospital": ("hospital_id", "key"),
    },
    "labs": {
        "stay": ("stay_id", "key"),
        "item": ("name", "name"),
        "value": ("value", "number"),
        "text": ("text_value", "text"),
        "unit": ("unit", "text"),
        "time": ("time", "time"),
        "known": ("stored_time", "time"),
        "low": ("ref_low", "number"),
        "high": ("ref_high", "number"),
    },
    "notes": {
        "stay": ("stay_id", "key"),
        "time": ("time", "time"),
        "known": ("stored_time", "time"),
        "type": ("type", "text"),
        "text": ("text", "long text"),
    },
    "diagnoses": {
        "stay": ("stay_id", "key"),
        "code": ("code", "code"),
        "version": ("version", "text"),
        "time": ("time", "time"),
    },
}
_NEEDED = {
    "stays": {"stay_id", "patient", "start"},
    "labs": {"stay", "item", "value", "time"},
    "notes": {"stay", "time", "text"},
    "diagnoses": {"stay", "code"},
}

Table: TypeAlias = pd.DataFrame | str | PathLike[str]


@lists_choices
def load_tables(
    labs: Table | None,
    notes: Table | None,
    diagnoses: Table | None,
    stays: Table,
    *,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    database: str | PathLike[str] | None = None,
    icd_version: int | str | Mapping[str, int] = "auto",
    **options: Any,
) -> Cohort:
    """Load stays from any hospital's long tables.

    Parameters
    ----------
    labs : DataFrame, path-like or None
        One row per lab result; None if there are none. Files end in .csv, .csv.gz, .csv.zst or
        .parquet.
    notes : DataFrame, path-like or None
        One row per note.
    diagnoses : DataFrame, path-like or None
        One row per diagnosis code; None only if `phenotypes` is None.
    stays : DataFrame or path-like
        One row per stay.
    columns : mapping or None, default=None
        Names of columns that differ from the default names listed below: table -> role -> column,
        such as ``{"stays": {"patient": "mrn"}}``. Further roles of "stays" are times that
        `index_time` may name; "death" is the time of death.
    database : path-like, str or None, default=None
        A DuckDB file, the URL of a PostgreSQL database, or a folder. The tables are then names in
        it.
    icd_version : {"auto", 9, 10} or mapping of str to int, default="auto"
        Version of the codes, or content of the version column -> 9 or 10. "auto" reads that column
        ("9", "10.0", "ICD-10-CM"); where it is absent or empty, it goes by the form of each code,
        see :func:`phenotypes.guess_icd_version`.
    **options : dict
        The choices of :class:`CohortOptions`.

    Returns
    -------
    Cohort
        The kept stays, sorted by id.

    Raises
    ------
    ConnectionError
        If the server of a database cannot be reached or refuses the user.
    FileNotFoundError
        If a file or table does not exist.
    ValueError
        If a parameter is out of range, a column is missing, or a table is damaged.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    Cohort : What is returned.

    Notes
    -----
    The tables have these columns; those in brackets may be absent.

    =========  ============  =============  ====================================================
    table      role          default name   content
    =========  ============  =============  ====================================================
    stays      stay_id       stay_id        the stay's id, unique
    stays      patient       patient_id     the patient's id
    stays      start         start          time of admission
    stays      [end]         end            time of discharge
    stays      [age]         age            years; "> 89" and "90+" are 90
    stays      [birth]       birth_date     date of birth, used where there is no age
    stays      [sex]         sex            F, M, or words
    stays      [died]        died           1 if the patient died in the stay, else 0
    stays      [hospital]    hospital_id    the hospital's id
    labs       stay          stay_id        id of the stay
    labs       item          name           name of the lab
    labs       value         value          result as a number
    labs       [text]        text_value     result as a text, if it is no number
    labs       [unit]        unit           unit
    labs       time          time           when it was measured
    labs       [known]       stored_time    when it was entered
    labs       [low]         ref_low        lower end of the normal range
    labs       [high]        ref_high       upper end of the normal range
    notes      stay          stay_id        id of the stay
    notes      time          time           when it was written
    notes      [known]       stored_time    when it was entered
    notes      [type]        type           type, for `note_types`
    notes      text          text           the note
    diagnoses  stay          stay_id        id of the stay
    diagnoses  code          code           ICD-9-CM or ICD-10-CM code
    diagnoses  [version]     version        version of ICD, see `icd_version`
    diagnoses  [time]        time           when it was recorded, for ``labels="after_index"``
    =========  ============  =============  ====================================================

    A column named in `columns` must exist. Times are timestamps or texts such as
    ``2101-10-20 19:08:00`` or ``2101-10-20 07:08 PM``, all with a zone (``Z``, ``+02:00``,
    ``Europe/Berlin``) or all without. Any other text is unreadable: it drops the event, which is
    counted, and is refused in the table of stays.

    A PostgreSQL database is given as ``postgresql://user@host:5432/name`` and needs the extra
    `sql`. Leave the password to the environment variable PGPASSWORD or the file ~/.pgpass; no error
    shows it. ``?schema=one,two`` names the schemas to search; by default the search path comes
    first, then any schema. Other parameters go to libpq, ``?sslmode=require&connect_timeout=5``.
    Columns that are not needed stay on the server, and so do events of other stays, after the index
    time, of labs not in `lab_names` and of types not in `note_types`, if these are stored as
    numbers, timestamps and texts. For that the server gets the stays in a temporary table, if the
    user may create one; nothing else is written. All tables are read as of the start of loading.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_medfuse.datasets import load_tables
    >>> stays = pd.DataFrame({"stay_id": [1], "patient_id": [7], "start": ["2024-05-01 08:00"]})
    >>> labs = pd.DataFrame(
    ...     {"stay_id": [1], "name": ["Sodium"], "value": [140.0], "time": ["2024-05-01 09:00"]}
    ... )
    >>> codes = pd.DataFrame({"stay_id": [1], "code": ["I50.9"]})
    >>> load_tables(labs, None, codes, stays, n_labels=1)
    Cohort(1 stays of 1 patients: 1 labs (100% measured), notes for 0 stays, 1 labels)
    """
    chosen = make_options(load_tables, options)
    named = {"stays": stays, "labs": labs, "notes": notes, "diagnoses": diagnoses}
    given = {name: table for name, table in named.items() if table is not None}
    further = [name for name in chosen.demographics if name not in ("age", "sex")]
    roles, optional = _roles(columns or {}, given, further)
    if chosen.labels != "after_index":
        # What is not needed may be of any form
        roles.get("diagnoses", {}).pop("time", None)
    where: Any = given if database is None else database
    unnamed = [name for name, table in given.items() if not isinstance(table, str)]
    if database is not None and unnamed:
        raise TypeError(f"{unnamed[0]} must be the name of a table, as database is given.")
    # In a database, tables have the names that are given
    tables = {name: name if database is None else str(table) for name, table in given.items()}

    with Source(where, "your tables", "", chosen) as source:
        present = _present(source, tables, roles, optional)
        events = {
            name: EventTable(tables[name], present[name], tuple(optional[name]))
            for name in tables
            if name != "stays"
        }
        layout = Layout(
            describe="tables",
            stays=lambda source: _read_stays(source, tables["stays"], present["stays"], further),
            demographics=tuple(further),
            diagnoses=events.get("diagnoses"),
            labs=events.get("labs"),
            notes=(events["notes"],) if "notes" in events else (),
            versions=icd_version,
            subgroups=("sex", "age", "hospital"),
        )
        return build_cohort(source, layout, chosen)


def _roles(
    columns, given, demographics
) -> tuple[dict[str, dict[str, tuple[str, Kind]]], dict[str, set[str]]]:
    """Role -> column and kind of every table, and the roles that may be absent."""
    unknown = sorted(set(columns) - set(COLUMNS))
    if unknown:
        raise ValueError(f"columns names {unknown}; its tables are {', '.join(COLUMNS)}.")
    roles: dict[str, dict[str, tuple[str, Kind]]] = {}
    optional = {}
    for table in given:
        of_table = dict(COLUMNS[table])
        if table == "stays":
            # Ids, times and deaths are no features, nor is what they are read from
            taken = {*of_table, *(column for column, _ in of_table.values()), "death"}
            if wrong := sorted(taken.intersection(demographics)):
                raise ValueError(
                    f"demographics names {', '.join(wrong)}, which tells when or how a stay ended, "
                    "or names it; give columns that describe the patient at admission."
                )
            of_table |= {name: (name, "text") for name in demographics}
        # A role may be mistaken for its column, or "stay" for the id of the stays
        names = {column: role for role, (column, _) in of_table.items()}
        names = {"stay": "stay_id"} | names | {role: role for role in of_table}
        for role, column in columns.get(table, {}).items():
            # Of the stays, other roles are times: only a name that is very near is a mistake
            meant = nearest([role], names, 0.8 if table == "stays" else 0.6)
            if role not in of_table and (meant or table != "stays"):
                raise ValueError(
                    f"columns[{table!r}] names the role {role!r}.{meant} Known are "
                    f"{', '.join(COLUMNS[table])}."
                )
            of_table[role] = (column, of_table.get(role, ("", "time"))[1])
        roles[table] = of_table
        optional[table] = set(COLUMNS[table]) - _NEEDED[table] - set(columns.get(table, {}))
    return roles, optional


def _present(source: Source, tables, roles, optional) -> dict[str, Columns]:
    """The roles whose columns exist; required ones stay in, for the error."""
    # Ids are read as numbers where those of the stays are numbers
    stay_column = roles["stays"]["stay_id"][0].lower()
    _, sql_type = source.columns(tables["stays"]).get(stay_column, ("", ""))
    key: Kind = "id" if sql_type in NUMBERS else "key"
    present: dict[str, dict[str, tuple[str, Kind]]] = {table: {} for table in roles}
    for table, of_table in roles.items():
        for role, (column, kind) in of_table.items():
            there = column.lower() in source.columns(tables[table])
            if role not in optional[table] or there:
                if role in ("stay_id", "stay"):
                    kind = key
                elif kind == "time" and there and _holds_dates(source, tables[table], column):
                    kind = "date"
                present[table][role] = (column, kind)
    return {**present}


def _holds_dates(source: Source, table: str, column: str) -> bool:
    """Whether no time in a column is any other than midnight: then it holds dates."""
    rows = source.select(table, {"time": (column, "date")})
    found = f"SELECT 1 FROM {rows} WHERE time IS NOT NULL AND NOT time_dated LIMIT 1"
    return source.query(found, table).empty


def _read_stays(
    source: Source, table: str, columns: Columns, demographics: list[str]
) -> pd.DataFrame:
    stays = source.fetch(table, columns)
    for name in demographics:
        # Texts in a csv file may be numbers
        numbers = pd.to_numeric(stays[name], errors="coerce")
        if numbers.notna().equals(stays[name].notna()):
            stays[name] = numbers.astype(float)
    return stays
