"""Random long tables with every fault that rows can have, and the cohort by plain pandas."""

import numpy as np
import pandas as pd

ORIGIN = pd.Timestamp("2130-01-01")
LABS = {"Sodium": "mmol/L", "Glucose": "mg/dL", "pH": None, "Lactate": "mmol/L"}
NOTE_TYPES = ["Nursing", "Radiology", "ECG"]
CODES = ["I50.9", "4280", "E11.9", "I10", "N18.3", "31.1", "J44.9", None]


def make_tables(seed=0, n_stays=40, n_labs=600, n_notes=150):
    """Long tables under the default column names of `load_tables`."""
    rng = np.random.default_rng(seed)
    ids = 1000 + rng.permutation(n_stays)
    start = ORIGIN + pd.to_timedelta(rng.integers(0, 400 * 24 * 60, n_stays), unit="min")
    stays = pd.DataFrame(
        {
            "stay_id": ids,
            "patient_id": rng.integers(0, n_stays // 2, n_stays),
            "start": start,
            "end": start + pd.to_timedelta(rng.integers(300, 20_000, n_stays), unit="min"),
            "age": rng.integers(0, 90, n_stays).astype(float),
            "sex": rng.choice(["F", "M"], n_stays),
            "died": (rng.random(n_stays) < 0.3).astype(int),
            "hospital_id": rng.integers(0, 4, n_stays),
        }
    )
    labs = _events(rng, stays, n_labs).assign(
        name=rng.choice(list(LABS), n_labs),
        value=rng.normal(100, 20, n_labs).round(1),
        ref_low=50.0,
        ref_high=150.0,
    )
    labs["unit"] = labs["name"].map(LABS)
    glucose = labs["name"].eq("Glucose") & (rng.random(n_labs) < 0.2)
    labs.loc[glucose, "unit"] = "mmol/L"
    labs.loc[labs["name"].eq("Sodium") & (rng.random(n_labs) < 0.1), "unit"] = "furlong"
    labs.loc[rng.random(n_labs) < 0.1, "value"] = np.nan
    labs.loc[rng.random(n_labs) < 0.03, "name"] = None
    notes = _events(rng, stays, n_notes).assign(
        type=rng.choice(NOTE_TYPES, n_notes), text=[f"note {i} " * (i % 7) for i in range(n_notes)]
    )
    codes = pd.DataFrame(
        {
            "stay_id": rng.choice(np.append(ids, 5), 3 * n_stays),
            "code": rng.choice(np.array(CODES, dtype=object), 3 * n_stays),
        }
    )
    return {"stays": stays, "labs": labs, "notes": notes, "diagnoses": codes}


def _events(rng, stays, n):
    """Events of stays, of other ones and of none, around the stays' first two days."""
    which = rng.integers(0, len(stays), n)
    start = stays["start"].to_numpy()[which]
    happened = pd.Series(start + pd.to_timedelta(rng.integers(-2880, 4320, n), unit="min"))
    stored = happened + pd.to_timedelta(rng.integers(0, 600, n), unit="min")
    stay = pd.Series(stays["stay_id"].to_numpy()[which]).astype("Int64")
    stay[rng.random(n) < 0.05] = 7
    stay[rng.random(n) < 0.05] = pd.NA
    happened[rng.random(n) < 0.04] = pd.NaT
    stored[rng.random(n) < 0.2] = pd.NaT
    return pd.DataFrame({"stay_id": stay, "time": happened, "stored_time": stored})


def known_in_time(events, stays, hours=24, lookback=None):
    """Events of the stays that had happened and been entered at the index time, by plain pandas."""
    joined = events.merge(stays[["stay_id", "start"]], on="stay_id")
    index_time = joined["start"] + pd.Timedelta(hours=hours)
    known = joined["stored_time"].fillna(joined["time"])
    keep = (joined["time"] <= index_time) & (known <= index_time)
    if lookback is not None:
        keep &= joined["time"] >= joined["start"] - pd.Timedelta(hours=lookback)
    return joined[keep]


def expected_labs(tables, stays, hours=24, lookback=24):
    """Results in use, with glucose in mg/dL and without inconvertible units."""
    labs = known_in_time(tables["labs"], stays, hours, lookback)
    labs = labs[labs["name"].notna() & labs["value"].notna() & labs["unit"].ne("furlong")]
    in_moles = labs["name"].eq("Glucose") & labs["unit"].eq("mmol/L")
    return labs.assign(
        value=labs["value"].where(~in_moles, labs["value"] * 18.0156),
        hours=(labs["time"] - labs["start"]) / pd.Timedelta(hours=1),
    )


def expected_last(labs):
    """The last value of every lab of every stay."""
    order = labs.assign(stored_time=labs["stored_time"].fillna(pd.Timestamp(0)))
    order = order.sort_values(["time", "stored_time", "value"])
    return order.pivot_table(index="stay_id", columns="name", values="value", aggfunc="last")
