"""The one path from tables to a `Cohort`, whatever the format."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import phenotypes
from .._cohort import Cohort
from .._options import CohortOptions, listed, nearest, parse_hours, parse_outcome
from .._tables.columns import literal
from .._tables.source import Source
from .events import Condition, Layout, classify, count_rows, register_stays
from .labs import Labs, build_labs
from .notes import build_notes

NOTE_COLUMN = "note"
_NO_VERSION = "codes of no version of ICD-CM"
_NO_TIME = "codes at an unknown time"
# A table that loses more than this share for one reason is worth a warning, unless it is a handful
_LARGE_SHARE = 0.1
_HANDFUL = 10
# An error lists beginnings of codes that as many stays have
_FEWEST_STAYS = 5
# Reasons that may come from a wrong column or format. All others are by design or asked for.
_DEFECT = re.compile(
    "with(out)? (an? (?!stored time|known label)|neither).*|of items that the dictionary lacks"
)
_DAY = pd.Timedelta(days=1)
_DISCHARGE = re.compile(r"discharge(?:\s*\+\s*(.+))?")
# De-identified sources give everyone older than 89 years a date of birth centuries ago
OLDEST = 89
_BEYOND = 130
_VERSION = re.compile(r"(?:icd)?[^a-z0-9]*0?(9|10)(?:\.0+)?[^a-z0-9]*(?:cm|gm|am|ca|who)?")
# What stands for each sex in lower case, 8532 and 8507 in OMOP; and for an unknown one
_SEXES = dict.fromkeys(("f", "female", "woman", "w", "8532"), "Female")
_SEXES |= dict.fromkeys(("m", "male", "man", "8507"), "Male")
_NO_SEX = ("", "u", "unk", "unknown", "n/a", "na", "nan", "none", "null", "not recorded", "missing")


def build_cohort(source: Source, layout: Layout, options: CohortOptions) -> Cohort:
    """Read the tables of a source and make a cohort: one row per kept stay, sorted by id."""
    counts: dict[str, int] = {}
    everyone = _read_stays(source, layout, counts)
    stays = _eligible(everyone, options, counts)
    stays, outcomes = _with_outcomes(stays, everyone, options, counts)
    register_stays(source, stays)
    codes = None
    if options.phenotypes is not None:
        timed = options.labels == "after_index"
        codes = _read_codes(source, layout, options, counts, timed=timed)
        _refuse_phenotypes_without_code(codes, options.phenotypes)
        stays, codes, outcomes = _with_codes(stays, codes, outcomes, counts)
        register_stays(source, stays)
    # Features are made without a look at the labels
    labs = build_labs(source, layout, options, len(stays), counts)
    make_notes = layout.make_notes or partial(build_notes, layout=layout)
    notes = make_notes(source, options=options, n_stays=len(stays), counts=counts)
    kept = _with_input(stays, labs, notes, options, counts)
    y = _choose_y(codes, outcomes, kept, len(stays), options)
    y = _with_known_label(y, labs, notes, counts)
    _warn_of_silent_losses(layout, counts)
    persons = stays[_choose_demographics(everyone, layout, options)]
    history = pd.DataFrame(index=stays.index)
    if options.history:
        history = _read_history(source, layout, options, stays, everyone)
    return _assemble(stays, labs, notes, persons, history, y, layout, counts)


def _read_stays(source: Source, layout: Layout, counts: dict[str, int]) -> pd.DataFrame:
    """All stays with an id, a patient and a start, by id."""
    stays = layout.stays(source)
    counts["stays read"] = len(stays)
    without = {
        "without an id": stays["stay_id"].isna(),
        "without a patient": stays["patient"].isna(),
        "without a start": stays["start"].isna(),
    }
    if "of another kind" in stays:
        without["of another kind"] = stays.pop("of another kind")
    without = {reason: flag for reason, flag in without.items() if flag.any()}
    stays = _drop_stays(stays, without, counts)
    n_repeated = int(stays["stay_id"].duplicated().sum())
    if n_repeated:
        raise ValueError(
            f"The table of stays has {n_repeated} more rows than stays: ids must be unique."
        )
    if len(stays) and pd.api.types.is_float_dtype(stays["stay_id"]):
        stays = stays.assign(stay_id=stays["stay_id"].astype("int64"))
    stays = _with_ages(stays, counts)
    if "end" not in stays:
        stays["end"] = pd.Series(pd.NaT, index=stays.index, dtype="datetime64[us]")
    elif "died" in stays:
        # Who has not died in a stay without an end may still do so
        stays["died"] = stays["died"].where(stays["end"].notna() | stays["died"].gt(0))
    if "sex" in stays:
        stays["sex"] = _read_sex(stays["sex"])
    return stays.sort_values("stay_id", kind="stable", ignore_index=True)


def _with_ages(stays: pd.DataFrame, counts: dict[str, int]) -> pd.DataFrame:
    """Stays with their age, from `birth` where it is not told, and NaN if that is later."""
    age = stays["age"] if "age" in stays else pd.Series(np.nan, index=stays.index)
    strange = age.notna() & ~age.between(0, _BEYOND)
    if strange.any():
        counts[f"ages unknown: not from 0 to {_BEYOND} years"] = int(strange.sum())
        age = age.mask(strange)
    if "birth" in stays:
        birth = stays["birth"]
        age = age.fillna(age_at(stays["start"], birth))
        late = (birth.dt.normalize() > stays["start"]) & age.isna()
        if late.any():
            counts["ages unknown: born after the start"] = int(late.sum())
    return stays.drop(columns="birth", errors="ignore").assign(age=age)


def _read_sex(given: pd.Series) -> pd.Series:
    """Female, Male, or another word as it is given; missing where it says that it is unknown."""
    word = given.astype("string").str.strip().str.replace(r"\.0$", "", regex=True)
    lower = word.str.lower()
    sex = lower.map(_SEXES).astype(object)
    return sex.fillna(word.str.capitalize().mask(lower.isin(_NO_SEX))).astype(given.dtype)


def _choose_demographics(everyone: pd.DataFrame, layout: Layout, options) -> list[str]:
    """Age, sex and what else is asked for, as far as the source has it."""
    offered = [name for name in layout.demographics if everyone[name].notna().any()]
    unknown = [name for name in options.demographics if name not in (*offered, "age", "sex")]
    if unknown:
        meant = nearest(unknown, {name: name for name in offered})
        raise ValueError(
            f"demographics names {', '.join(unknown)}, which the source lacks.{meant} It has "
            f"{', '.join(offered) or 'nothing besides age and sex'}."
        )
    basic = [name for name in ("age", "sex") if name in everyone and everyone[name].notna().any()]
    return list(
        dict.fromkeys([*basic, *(name for name in options.demographics if name in offered)])
    )


def _eligible(
    everyone: pd.DataFrame, options: CohortOptions, counts: dict[str, int]
) -> pd.DataFrame:
    """Stays of the wanted age and order that have an index time."""
    reasons = {}
    if options.min_age is not None:
        reasons["without an age"] = everyone["age"].isna()
        reasons[f"younger than {options.min_age:g} years"] = everyone["age"] < options.min_age
    if options.first_stay:
        order = "turn" if "turn" in everyone else "start"
        by_start = everyone.sort_values([order, "stay_id"], kind="stable")
        reasons["not the patient's first"] = by_start.duplicated("patient").sort_index()
    column, minutes = _index_rule(options.index_time, everyone)
    index_time = everyone[column] + pd.Timedelta(minutes=minutes)
    reasons["without an index time"] = index_time.isna()
    reasons["with an index time before the start"] = index_time < everyone["start"]
    if options.finished_stays == "drop" and column != "end":
        reasons["ended before the index time"] = _ended(everyone) < index_time
    reasons = {
        reason: flag for reason, flag in reasons.items() if flag.any() or "index time" not in reason
    }
    kept = _drop_stays(everyone.assign(index_time=index_time), reasons, counts, some=True)
    return kept.reset_index(drop=True)


def _index_rule(index_time: str | float, stays: pd.DataFrame) -> tuple[str, float]:
    """The column of times from which the index time is counted, and the minutes after it."""
    if isinstance(index_time, str):
        if index_time in stays and stays[index_time].dtype.kind == "M":
            return index_time, 0.0
        if found := _DISCHARGE.fullmatch(index_time.strip()):
            return "end", parse_hours(found[1], "index_time") if found[1] else 0.0
    return "start", parse_hours(index_time, "index_time")


def _ended(stays: pd.DataFrame) -> pd.Series:
    """When each stay ended, by discharge or by death in it; NaT where unknown."""
    if "death" not in stays:
        return stays["end"]
    died_in_it = stays["death"] >= stays["start"]
    return stays["end"].where(~(died_in_it & ~(stays["death"] >= stays["end"])), stays["death"])


def _with_outcomes(stays, everyone, options, counts):
    """Stays whose outcomes were open at the index time, with the outcomes: NaN if unknown."""
    labels, foreseen = _outcomes(stays, everyone, options.outcomes)
    reasons = {f"{name} decided at the index time": foreseen[name] for name in options.outcomes}
    if options.phenotypes is None:
        reasons[f"{' and '.join(options.outcomes)} not known"] = labels.isna().all(axis=1)
    kept = _drop_stays(stays, reasons, counts, some=True)
    return kept.reset_index(drop=True), labels.loc[kept.index].reset_index(drop=True)


def _with_codes(stays, codes, labels, counts):
    """Stays with a diagnosis code: without one their labels are unknown, not negative."""
    coded = np.zeros(len(stays), dtype=bool)
    coded[codes.loc[codes["version"] > 0, "stay"]] = True
    reasons = {"without a diagnosis code": pd.Series(~coded, index=stays.index)}
    kept = _drop_stays(stays, reasons, counts, some=True)
    codes = codes[coded[codes["stay"]]]
    codes = codes.assign(stay=(np.cumsum(coded) - 1)[codes["stay"]])
    return kept.reset_index(drop=True), codes, labels.loc[kept.index].reset_index(drop=True)


def _drop_stays(
    stays: pd.DataFrame,
    reasons: dict[str, pd.Series],
    counts: dict[str, int],
    *,
    some: bool = False,
) -> pd.DataFrame:
    """Drop stays, each counted under the first reason that applies; with `some`, never all."""
    keep = pd.Series(True, index=stays.index)
    for reason, dropped in reasons.items():
        counts[f"stays dropped: {reason}"] = int((dropped & keep).sum())
        keep &= ~dropped
    if some and not keep.any():
        raise ValueError(f"No stay is left. What was dropped: {counts}.")
    return stays[keep]


def _with_input(stays, labs: Labs, notes: pd.Series, options, counts) -> np.ndarray:
    """Numbers of the stays with labs or notes, and with what is required."""
    without = {"labs": labs.table.isna().all(axis=1), "notes": notes.isna()}
    reasons = {"with neither labs nor notes": without["labs"] & without["notes"]}
    reasons |= {f"without {name}": without[name] for name in options.required}
    return _drop_stays(stays, reasons, counts, some=True).index.to_numpy()


def _with_known_label(y: pd.DataFrame, labs: Labs, notes: pd.Series, counts) -> pd.DataFrame:
    """Labels of the stays that have one that is known, by number of the stay."""
    unknown = {"without a known label": y.isna().all(axis=1)}
    y = _drop_stays(y, {of: flag for of, flag in unknown.items() if flag.any()}, counts, some=True)
    counts["stays kept"] = len(y)
    # Masks first: a choice of rows would copy all texts
    counts["stays kept: without labs"] = int(labs.table.isna().all(axis=1)[y.index].sum())
    counts["stays kept: without notes"] = int(notes.isna()[y.index].sum())
    missing = y.isna().sum()
    counts |= {f"labels not known: {name}": int(n) for name, n in missing.items() if n}
    return y.astype({name: float if n else int for name, n in missing.items()})


def _warn_of_silent_losses(layout: Layout, counts: dict[str, int]) -> None:
    """Warn once of modalities without input, and of tables that lose many rows for one reason."""
    losses = []
    n_kept = counts["stays kept"]
    if layout.labs is not None and counts["stays kept: without labs"] == n_kept:
        losses.append("no stay has a lab that is a column of X (see min_coverage and lookback)")
    if (layout.notes or layout.make_notes) and counts["stays kept: without notes"] == n_kept:
        losses.append("no stay has a note")
    in_question: dict[str, int] = {}
    lost: dict[tuple[str, str], int] = {}
    for what, n in counts.items():
        table, _, reason = what.partition(" dropped: ")
        if not reason:
            table = what.removesuffix(" read")
            in_question[table] = in_question.get(table, 0) + n * what.endswith(" read")
        elif _DEFECT.fullmatch(reason) and reason not in layout.expected:
            lost[table, reason] = n
        else:
            in_question[table] = in_question.get(table, 0) - n
    for unused in (_NO_VERSION, _NO_TIME):
        if n := counts.get(unused, 0):
            assert layout.diagnoses is not None
            lost[f"{layout.diagnoses.table} rows", unused.removeprefix("codes ")] = n
    losses += [
        f"{n} of {in_question[table]} {table} dropped: {reason}"
        for (table, reason), n in lost.items()
        if n >= _HANDFUL and n > _LARGE_SHARE * in_question.get(table, np.inf)
    ]
    if losses:
        warnings.warn(
            f"Much of the input is not used: {'; '.join(losses)}. Cohort.report() has all counts; "
            "check the columns and formats of these tables.",
            UserWarning,
            stacklevel=2,
        )


def _read_codes(source: Source, layout: Layout, options, counts, *, timed=False) -> pd.DataFrame:
    """`stay`, `code`, `version` (9, 10, 0); if `timed`, `late`: after the index time, or None."""
    table = layout.diagnoses
    if table is None:
        raise ValueError("phenotypes need a table of diagnoses.")
    if timed and not table.times:
        raise ValueError(
            "labels='after_index' needs the time at which each diagnosis was recorded, which "
            f"table '{table.table}' lacks: billing codes have none. Use labels='during_stay'; "
            "in tables of your own, give the time as the role 'time' of the diagnoses."
        )
    if not timed:
        roles = {role: of for role, of in table.columns.items() if role not in table.times}
        table = replace(table, columns=roles)
    without = {"without a code": Condition("e.code IS NULL")}
    moments = {"index_time": "until", "ended": "length"}
    more = [f", epoch_us(s.{of}) - epoch_us(s.started) AS {to}" for of, to in moments.items()]
    events = classify(
        source, table, options, without, timed=timed, window=False, more="".join(more)
    )
    version = "version" if "version" in table.columns else "NULL::VARCHAR"
    since = "since_start" if timed else "NULL::BIGINT"
    used = {
        "stay": "stay_number",
        "code": "code",
        "version": version,
        "late": f"{since} > until",
        "in_stay": f"{since} < length",
    }
    sums = ", ".join(f"{sql} AS {name}" for name, sql in events.tallies().items())
    source.execute(
        f"CREATE OR REPLACE TEMP TABLE all_codes AS SELECT reason, {', '.join(used)}, {sums} "
        f"FROM {events.used(used)} GROUP BY ALL",
        table.table,
    )
    count_rows(source, events, "all_codes", counts, grouped=True)
    each = "code"
    if table.separator is not None:
        each = f"trim(unnest(string_split(code, {literal(table.separator)})))"
    codes = source.query(
        "SELECT stay, code, version, late, in_stay, CAST(sum(n) AS BIGINT) AS n FROM "
        f"(SELECT stay, {each} AS code, version, late, in_stay, n FROM all_codes "
        "WHERE reason = 0) WHERE code != '' GROUP BY ALL ORDER BY ALL",
        table.table,
    )
    source.execute("DROP TABLE all_codes", table.table)
    codes["version"] = _versions(codes, layout.versions)
    counts[_NO_VERSION] = int(codes.loc[codes["version"] == 0, "n"].sum())
    if timed:
        if n := int(codes.loc[codes["late"].isna(), "n"].sum()):
            counts[_NO_TIME] = n
        if codes["in_stay"].notna().any() and not codes["in_stay"].eq(True).any():
            raise ValueError(
                "labels='after_index' needs diagnoses recorded during the stays, but in "
                f"'{table.table}' none is earlier than the end of its stay, as with billing "
                "codes, so which ones were new is unknown. Use labels='during_stay'."
            )
    return codes[["stay", "code", "version", "late"]].astype({"stay": int})


def _versions(codes: pd.DataFrame, versions: Mapping[Any, Any] | int | str) -> np.ndarray:
    """The ICD version of each code: 9, 10, or 0 if unknown; see `Layout.versions`."""
    if isinstance(versions, int):
        return np.full(len(codes), versions)
    guessed = phenotypes.guess_icd_version(codes["code"])
    if not isinstance(versions, Mapping):
        versions = {None: "auto"}
    known = {str(name).lower(): version for name, version in versions.items() if name is not None}
    given = codes["version"].notna()
    told = codes["version"].fillna("").astype(str).str.strip().str.lower()
    # Else a name such as "9.0", "icd-9-cm" or "icd10"
    forms = {name: _VERSION.fullmatch(name) for name in told.unique()}
    read = {name: known.get(name, int(form[1]) if form else 0) for name, form in forms.items()}
    found = told.map(read).where(given).fillna(0).to_numpy(dtype=int)
    return found if versions.get(None) != "auto" else np.where(given, found, guessed)


def _label_new_codes(codes: pd.DataFrame, wanted: str | Mapping, n_stays: int) -> pd.DataFrame:
    """Phenotypes first recorded after the index time; NaN where they may be known before."""
    new = codes["late"].astype("boolean").fillna(False).astype(bool)
    labels = _label_codes(codes[new], wanted, n_stays)
    before = _label_codes(codes[~new], wanted, n_stays)
    labels = labels.astype(float).mask(before.eq(1))
    if not labels.eq(1).any(axis=None):
        raise ValueError(
            "labels='after_index': no diagnosis of these phenotypes is first recorded after the "
            "index time. Use an earlier index_time, or labels='during_stay'."
        )
    return labels


def _refuse_phenotypes_without_code(codes: pd.DataFrame, wanted: str | Mapping) -> None:
    """Refuse phenotypes of the user's of which no stay has a code."""
    if isinstance(wanted, str):
        return
    matched = _flags(codes, wanted).any()
    if not matched.all():
        beginnings = codes["code"].str.replace(".", "", regex=False).str[:3]
        stays = codes.groupby(beginnings)["stay"].nunique()
        common = stays[stays >= _FEWEST_STAYS].sort_values(ascending=False, kind="stable").index
        raise ValueError(
            f"phenotypes: no stay has a code of {list(matched.index[~matched])}. The codes begin "
            f"with {listed(list(common)) or 'too few of a kind to list'}."
        )


def _flags(codes: pd.DataFrame, wanted: str | Mapping) -> pd.DataFrame:
    """Which codes belong to which phenotypes."""
    if isinstance(wanted, str):
        return phenotypes.map_codes(codes["code"], codes["version"].to_numpy())
    plain = codes["code"].str.replace(".", "", regex=False).str.strip().str.upper()
    flags = pd.DataFrame(False, index=codes.index, columns=list(wanted))
    for name, prefixes in wanted.items():
        for version, starts in _by_version(name, prefixes).items():
            begins = tuple(code.replace(".", "").strip().upper() for code in starts)
            flags[name] |= plain.str.startswith(begins) & codes["version"].eq(version)
    return flags


def _by_version(name: str, prefixes) -> Mapping[int, Sequence[str]]:
    """The prefixes of a phenotype by version of ICD, inferred where it is not given."""
    if isinstance(prefixes, Mapping):
        return prefixes
    if isinstance(prefixes, str):
        raise ValueError(f"phenotypes[{name!r}] must be a list of ICD codes, not one str.")
    told = pd.Series(phenotypes.guess_icd_version(list(prefixes)), index=list(prefixes), dtype=int)
    if told.eq(0).any():
        raise ValueError(
            f"phenotypes[{name!r}]: the ICD version of {list(told.index[told.eq(0)])} cannot be "
            "inferred from their form. Give {9: [...], 10: [...]}."
        )
    return {version: list(told.index[told.eq(version)]) for version in (9, 10)}


def _label_codes(codes: pd.DataFrame, wanted: str | Mapping, n_stays: int) -> pd.DataFrame:
    """Phenotypes of the stays, (n_stays, n_phenotypes) of 0 and 1."""
    labels = _flags(codes, wanted).groupby(codes["stay"].to_numpy()).any()
    return labels.reindex(range(n_stays), fill_value=False).astype(int)


def _read_history(source, layout: Layout, options, stays, everyone) -> pd.DataFrame:
    """What the stays before each stay were coded with, as `CohortOptions.history` says."""
    offset, before, columns = layout.clock
    others = everyone[everyone["patient"].isin(stays["patient"])].reset_index(drop=True)
    groups = pd.DataFrame(index=others.index)
    if layout.diagnoses is not None:
        register_stays(source, others.assign(index_time=others["start"]))
        codes = _read_codes(source, layout, options, {})
        groups = _label_codes(codes, options.phenotypes or "elixhauser", len(others)).astype(float)
        # What a stay without a code was treated for is unknown
        groups.loc[~groups.index.isin(codes["stay"])] = np.nan
    places = [f"g{place}" for place in range(groups.shape[1])]
    needed = ["patient", "start", "end", *columns]
    source.register("others", others[needed].join(groups.set_axis(places, axis=1)))
    source.register("present", stays[[*needed, "index_time"]].reset_index(names="row"))
    ended = f'e."end" + {offset}'
    # One row per pair exists only while DuckDB sums it up
    found = source.query(
        f"SELECT s.row, count(*) AS n, min(epoch(s.index_time - ({ended}))) / 86400 AS days"
        + "".join(f", max({place}) AS {place}" for place in places)
        + " FROM present s JOIN others e ON e.patient = s.patient AND "
        f"coalesce(e.start + {offset} < s.start AND {ended} < s.index_time, {before}) "
        "GROUP BY s.row",
        "stays",
    )
    names = ["earlier stays", "days since the last stay", *(f"earlier {name}" for name in groups)]
    return found.set_index("row").set_axis(names, axis=1).reindex(stays.index).astype(float)


def _choose_y(codes, outcomes, kept, n_stays, options) -> pd.DataFrame:
    y = outcomes.iloc[kept]
    if codes is not None:
        label = _label_new_codes if options.labels == "after_index" else _label_codes
        groups = label(codes, options.phenotypes, n_stays).iloc[kept]
        wanted = options.n_labels
        own = not isinstance(options.phenotypes, str)
        if own and isinstance(wanted, int | np.integer) and wanted > groups.shape[1]:
            wanted = None
        y = pd.concat([_choose_labels(groups, wanted), y], axis=1)
    if y.columns.has_duplicates:
        raise ValueError("phenotypes and outcomes share a name.")
    return y


def _choose_labels(labels: pd.DataFrame, n_labels: int | Sequence[str] | None) -> pd.DataFrame:
    """The most prevalent labels (of equal ones the first), or those named, or all with None."""
    if n_labels is None:
        return labels
    if isinstance(n_labels, int | np.integer):
        if not 1 <= n_labels <= labels.shape[1]:
            raise ValueError(f"n_labels must be from 1 to {labels.shape[1]}, got {n_labels}.")
        by_prevalence = labels.sum().sort_values(ascending=False, kind="stable")
        return labels[by_prevalence.index[:n_labels]]
    names = [n_labels] if isinstance(n_labels, str) else list(n_labels)
    unknown = [name for name in names if name not in labels.columns]
    if unknown or not names:
        raise ValueError(
            f"n_labels names unknown labels: {unknown}. Known are: "
            f"{', '.join(map(str, labels.columns))}."
        )
    return labels[names]


def _outcomes(
    stays: pd.DataFrame, everyone: pd.DataFrame, names: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Outcomes (0, 1, NaN if unknown), and whether each was decided at the index time."""
    labels, foreseen = {}, {}
    died = stays["died"] if "died" in stays else pd.Series(np.nan, index=stays.index)
    over = stays["end"] <= stays["index_time"]
    if "death" in stays:
        over |= stays["death"] <= stays["index_time"]
    for name in names:
        kind, days = parse_outcome(name)
        if kind == "mortality":
            if "died" not in stays:
                raise ValueError(
                    "outcomes: mortality needs deaths, which the table of stays lacks."
                )
            labels[name] = died.gt(0).astype(float).where(died.notna())
            decided = over
        elif kind == "length_of_stay":
            limit = stays["start"] + days * _DAY
            labels[name] = (stays["end"] > limit).astype(float).where(stays["end"].notna())
            decided = over | (limit <= stays["index_time"])
        else:
            if "days_to_next" in stays:
                to_next = stays["days_to_next"]
            else:
                to_next = days_between(stays["end"], next_starts(stays, everyone))
                to_next = to_next.fillna(np.inf).where(stays["end"].notna())
            # A patient who died in the stay cannot come back: no negative example
            labels[name] = (to_next <= days).astype(float).where(to_next.notna() & ~died.gt(0))
            decided = to_next <= days_between(stays["end"], stays["index_time"])
        foreseen[name] = decided
    return pd.DataFrame(labels, index=stays.index), pd.DataFrame(foreseen, index=stays.index)


def days_between(one: pd.Series, other: pd.Series) -> pd.Series:
    """Days from one time to another."""
    return (other - one).dt.total_seconds() / _DAY.total_seconds()


def next_starts(stays: pd.DataFrame, everyone: pd.DataFrame) -> pd.Series:
    """When the patient's next stay begins, from the end of this one on; NaT if unknown or none."""
    starts = everyone[["patient", "start"]].dropna().sort_values("start", kind="stable")
    asked = stays[["patient", "start", "end"]].dropna().reset_index(names="row")
    # A stay that begins as this one ends is the next one; this one itself may have no length
    after_start = asked["start"] + pd.Timedelta(microseconds=1)
    asked["after"] = asked["end"].where(asked["end"] > asked["start"], after_start)
    found = pd.merge_asof(
        asked[["row", "patient", "after"]].sort_values("after", kind="stable"),
        starts.rename(columns={"start": "next"}),
        left_on="after",
        right_on="next",
        by="patient",
        direction="forward",
    )
    return found.set_index("row")["next"].reindex(stays.index)


def _assemble(stays, labs, notes, persons, history, y, layout, counts) -> Cohort:
    """The fields of the cohort, all with one row per kept stay."""
    taken = [NOTE_COLUMN, *persons, *history]
    if both := [name for name in taken if name in labs.table]:
        raise ValueError(
            f"No lab can be called {', '.join(both)}, which is another column of X. Rename the "
            "lab, or name the labs to use in lab_names."
        )
    # A mask and no list of places: the latter would have all texts put together and copied
    is_kept = stays.index.isin(y.index)
    stays = stays[is_kept]
    index = pd.Index(stays["stay_id"], name="stay_id")
    subgroups = stays[[name for name in layout.subgroups if name in stays]]
    hospitals = stays["hospital"].set_axis(index) if "hospital" in stays else None
    return Cohort(
        X=pd.concat(
            [
                labs.table[is_kept].assign(**{NOTE_COLUMN: notes[is_kept]}),
                persons[is_kept],
                history[is_kept],
            ],
            axis=1,
        ).set_axis(index),
        y=y.set_axis(index),
        groups=stays["patient"].set_axis(index),
        hospitals=hospitals,
        index_times=stays["index_time"].set_axis(index) if layout.dated else None,
        subgroups=subgroups.set_axis(index),
        lab_columns=list(labs.table.columns),
        vital_columns=[
            name for name in labs.table if {name, name.rsplit(": ", 1)[0]} & layout.vitals
        ],
        note_column=NOTE_COLUMN,
        demographic_columns=list(persons),
        history_columns=list(history),
        units=labs.units,
        reference_ranges=labs.reference_ranges,
        target_names=list(y.columns),
        stay_ids=index.to_numpy(),
        counts=counts,
        DESCR=read_description(layout.describe),
    )


def read_description(source: str) -> str:
    """The `DESCR` of a source."""
    file = Path(__file__).parents[1] / "data" / "descr" / f"{source}.rst"
    return file.read_text(encoding="utf-8")


def age_at(start: pd.Series, birth: pd.Series) -> pd.Series:
    """Age in whole years; 90 where old age hides the birth, NaN if the birth is after the start."""
    months = 12 * (start.dt.year - birth.dt.year) + start.dt.month - birth.dt.month
    years = (months - (start.dt.day < birth.dt.day)) // 12
    return years.astype(float).where(years <= _BEYOND, float(OLDEST + 1)).where(years >= 0)


def left_join(stays: pd.DataFrame, of: pd.DataFrame, key: str, what: str) -> pd.DataFrame:
    """Stays with the columns of another table by a key, which must be unique there."""
    of = of[of[key].notna()]
    n_repeated = int(of[key].duplicated().sum())
    if n_repeated:
        raise ValueError(f"Table '{what}' has {n_repeated} more rows than keys in '{key}'.")
    return stays.merge(of, on=key, how="left")


def unique_names(items: pd.DataFrame, label: str, details: list[str]) -> pd.DataFrame:
    """Columns `item` and `name`: "Sodium", or if that is shared, "Sodium (Blood, Chemistry)"."""
    items = items[items["item"].notna() & items[label].notna()]
    names, longer = items[label].astype(str), items[label].astype(str) + " ("
    for column in (*details, "item"):
        longer = longer + items[column].astype(object).fillna("?").astype(str) + ", "
        if column in (*details[-1:], "item"):
            names = names.where(~names.duplicated(keep=False), longer.str[:-2] + ")")
    return pd.DataFrame({"item": items["item"], "name": names})
