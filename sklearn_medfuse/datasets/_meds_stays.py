"""Hospital stays in a stream of MEDS events."""

import numpy as np
import pandas as pd

from ._cells import literal
from ._small_tables import age_at
from ._sources import TEXT_DTYPE, Source
from ._window import microseconds

_STEP = pd.Timedelta(microseconds=1)
_DEATHS = "DIED|EXPIRED|DECEASED"


def find_stays(
    source: Source, admission: str, discharge: str, before: pd.Timedelta
) -> pd.DataFrame:
    """Stays of the subjects; the table `meds_stays` says from when to when each takes events.

    Parameters
    ----------
    source : Source
        With a table `data`.
    admission, discharge : str
        What the codes of events begin with that start and end a stay.
    before : Timedelta
        How long before its start a stay takes events.

    Returns
    -------
    DataFrame
        As a `Layout` wants it.
    """
    events = _read_events(source, admission, discharge)
    stays = _pair(events, admission, discharge)
    stays = stays.join(_persons(events), on="patient")
    stays["age"] = age_at(stays["start"], stays.pop("birth"))
    day = stays["death"].dt.normalize()
    dead = (day >= stays["start"].dt.normalize()) & (day <= stays["end"].dt.normalize())
    stays["died"] = (dead | stays.pop("ended_in_death")).astype(float)
    _register_windows(source, stays, before)
    return stays


def _read_events(source: Source, admission: str, discharge: str) -> pd.DataFrame:
    """What starts and ends stays and lives, with the role of each event."""
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
    found = source.query(
        f"SELECT CAST(subject_id AS BIGINT) AS patient, CASE {cases} END AS role, code, "
        f"epoch_us(CAST(time AS TIMESTAMP)) AS time FROM {data} "
        "ORDER BY patient, time, role, code",
        "data",
    )
    found["time"] = pd.to_datetime(found["time"].astype("Int64"), unit="us")
    return found.astype({"time": "datetime64[us]"})


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
    """Birth, death and sex of every subject, the first of each that there is."""
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
    # Stays that overlap leave each other's events alone: a stay takes them from its start at last.
    latest = previous.where(previous < stays["start"], stays["start"])
    opens = opens.where(~(previous > opens), latest)
    forever = np.iinfo("int64").max
    closes = (
        stays["end"].astype("datetime64[us]").astype("int64").where(stays["end"].notna(), forever)
    )
    table = pd.DataFrame(
        {
            "key": stays["stay_id"],
            "subject": stays["patient"],
            "opens": microseconds(opens),
            "closes": closes,
        }
    )
    source.register("meds_stays", table)
