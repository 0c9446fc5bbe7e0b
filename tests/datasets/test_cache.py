"""Steps that were done are kept, whole and private, and done again when anything has changed."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pandas as pd
import pytest

from sklearn_medfuse.datasets import (
    CohortOptions,
    _steps,
    load_clif,
    load_eicu,
    load_meds,
    load_mimic3,
    load_mimic4,
    load_omop,
    load_tables,
)
from sklearn_medfuse.datasets._sources import Source
from sklearn_medfuse.datasets._step_cache import StepCache
from sklearn_medfuse.datasets._steps import Steps

from .conftest import write_tables
from .formats import (
    as_clif,
    as_eicu,
    as_meds,
    as_mimic3,
    as_mimic4,
    as_omop,
    long_tables,
    meds_tables,
    with_icd9,
    write_meds,
)
from .test_long_tables import assert_same

ALL = {"min_coverage": 0.0, "n_labels": None}
# Loader -> layout, tables of which the results are kept.
LOADERS = {
    "mimic3": (load_mimic3, as_mimic3, 3),
    "mimic4": (load_mimic4, as_mimic4, 4),
    "clif": (load_clif, as_clif, 2),
    "omop": (load_omop, as_omop, 3),
    "eicu": (load_eicu, as_eicu, 6),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tables of MIMIC-III; not to be changed."""
    tables = as_mimic3(with_icd9(long_tables()))
    return write_tables(tmp_path_factory.mktemp("cache") / "mimic3", tables)


@pytest.fixture
def done(monkeypatch):
    """Names of the steps that were done, rather than taken from the cache."""
    names = []
    put = StepCache.put

    def noted(self, name, *args):
        names.append(name)
        return put(self, name, *args)

    monkeypatch.setattr(StepCache, "put", noted)
    return names


def entries(cache):
    return sorted(file for file in cache.iterdir() if file.suffix == ".parquet")


@pytest.mark.parametrize("name", LOADERS)
def test_a_kept_cohort_is_the_same(name, tmp_path, done):
    load, lay_out, n_kept = LOADERS[name]
    folder = write_tables(tmp_path / "data", lay_out(with_icd9(long_tables())))
    plain = load(folder, **ALL)
    first = load(folder, cache=tmp_path / "kept", **ALL)
    assert len(done) == len(entries(tmp_path / "kept")) == n_kept
    again = load(folder, cache=tmp_path / "kept", **ALL)
    assert len(done) == n_kept
    for cohort in (first, again):
        assert_same(cohort, plain, check_exact=True)
        assert cohort.report() == plain.report()
        assert (cohort.units, cohort.reference_ranges) == (plain.units, plain.reference_ranges)


def test_meds_and_data_frames_are_kept(tmp_path, done):
    tables = meds_tables()
    data = write_meds(tmp_path / "meds", as_meds(tables))
    options = {"cache": tmp_path / "kept", **ALL}
    first, again = load_meds(data, **options), load_meds(data, **options)
    assert_same(again, first, check_exact=True)
    assert len(done) == 3
    given = [tables[name] for name in ("labs", "notes", "diagnoses", "stays")]
    load_tables(*given, **options)
    load_tables(*(frame.copy() for frame in given), **options)
    assert len(done) == 6
    given[0] = given[0].assign(value=given[0]["value"] + 1)
    load_tables(*given, **options)
    assert done[6:] == ["labs-labs"]


@pytest.mark.parametrize(
    ("option", "again"),
    [
        ({}, set()),
        (
            {"n_labels": 3, "min_coverage": 0.5, "require": "labs", "units": {"Glucose": "mg/dL"}},
            set(),
        ),
        ({"note_order": "newest_first", "n_jobs": 2, "memory_limit": "1GB"}, set()),
        ({"phenotypes": {"heart": ["428.0"]}}, set()),
        ({"aggregate": ["mean", "max"]}, {"labs"}),
        ({"max_note_chars": 30}, {"notes"}),
        ({"note_types": ["nursing"]}, {"notes"}),
        ({"drop_note_sections": ["Plan"]}, {"notes"}),
        ({"lookback": "6h"}, {"labs", "notes", "diagnoses"}),
        ({"without_stored_time": "drop"}, {"labs", "notes"}),
        ({"index_time": "48h"}, {"labs", "notes", "diagnoses"}),
        ({"first_stay": True}, {"labs", "notes", "diagnoses"}),
    ],
    ids=lambda value: "-".join(value) or "none",
)
def test_only_what_an_option_changes_is_done_again(option, again, folder, tmp_path, done):
    load_mimic3(folder, cache=tmp_path / "kept", **ALL)
    done.clear()
    cohort = load_mimic3(folder, cache=tmp_path / "kept", **ALL | option)
    assert {name.split("-")[0] for name in done} == again
    assert_same(cohort, load_mimic3(folder, **ALL | option), check_exact=True)


def test_every_option_is_known_to_matter_or_not():
    known = set().union(*_steps._IRRELEVANT.values())
    assert known <= set(CohortOptions.__dataclass_fields__)


@pytest.mark.parametrize("change", ["content", "time"])
def test_a_changed_file_is_read_again(change, tmp_path, done):
    tables = as_mimic3(with_icd9(long_tables()))
    folder = write_tables(tmp_path / "data", tables)
    load_mimic3(folder, cache=tmp_path / "kept", **ALL)
    done.clear()
    file = folder / "labevents.csv"
    if change == "content":
        later = tables["labevents"].assign(valuenum=tables["labevents"]["valuenum"] * 2)
        later.to_csv(file, index=False)
    else:
        status = file.stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    cohort = load_mimic3(folder, cache=tmp_path / "kept", **ALL)
    assert done == ["labs-labevents"]
    assert_same(cohort, load_mimic3(folder, **ALL))


def test_a_changed_dictionary_or_version_is_seen(tmp_path, done, monkeypatch):
    tables = as_mimic3(with_icd9(long_tables()))
    folder = write_tables(tmp_path / "data", tables)
    load_mimic3(folder, cache=tmp_path / "kept", **ALL)
    done.clear()
    items = tables["d_labitems"].assign(label=lambda d: d["label"].replace("Sodium", "Natrium"))
    items.to_csv(folder / "d_labitems.csv", index=False)
    cohort = load_mimic3(folder, cache=tmp_path / "kept", **ALL)
    assert done == ["labs-labevents"]
    assert "Natrium" in cohort.lab_columns
    monkeypatch.setattr("sklearn_medfuse.datasets._step_cache.__version__", "0.0.0")
    load_mimic3(folder, cache=tmp_path / "kept", **ALL)
    assert len(done) == 4


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "index cut", "index empty"])
def test_a_damaged_entry_is_made_again(damage, folder, tmp_path, done):
    kept = tmp_path / "kept"
    expected = load_mimic3(folder, cache=kept, **ALL)
    done.clear()
    for file in kept.iterdir():
        content = file.read_bytes()
        if file.suffix == ".parquet":
            middle = len(content) // 2
            changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            if damage in ("cut", "changed"):
                file.write_bytes(changed if damage == "changed" else content[:middle])
            elif damage == "gone":
                file.unlink()
        elif damage.startswith("index"):
            file.write_bytes(content[: len(content) // 2] if damage == "index cut" else b"")
    assert_same(load_mimic3(folder, cache=kept, **ALL), expected, check_exact=True)
    assert len(done) == 3
    done.clear()
    load_mimic3(folder, cache=kept, **ALL)
    assert done == []


def test_entries_are_for_their_owner_alone(folder, tmp_path):
    kept = tmp_path / "kept"
    old_mask = os.umask(0)
    try:
        load_mimic3(folder, cache=kept, **ALL)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept.iterdir()} == {0o600}
    for file in kept.glob("*.json"):
        assert set(json.loads(file.read_text())["told"]) == {"counts", "zones"}


KILLED = """
import os, signal, sys
from sklearn_medfuse.datasets import load_mimic3
from sklearn_medfuse.datasets._sources import Source
from sklearn_medfuse.datasets._step_cache import StepCache
put = StepCache.put
def put_or_die(self, name, key, write, told):
    def write_half(file):
        write(file)
        if name.startswith("notes"):
            os.kill(os.getpid(), signal.SIGKILL)
    return put(self, name, key, write_half, told)
StepCache.put = put_or_die
load_mimic3(sys.argv[1], cache=sys.argv[2], min_coverage=0.0, n_labels=None)
"""


def test_a_killed_run_goes_on_after_the_last_finished_table(folder, tmp_path, done):
    kept = tmp_path / "kept"
    run = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(kept)], check=False)
    assert run.returncode == -signal.SIGKILL
    (half,) = kept.glob(".writing-*")
    cohort = load_mimic3(folder, cache=kept, **ALL)
    assert done == ["notes-noteevents"]
    assert_same(cohort, load_mimic3(folder, **ALL), check_exact=True)
    # What it left half-written is swept away, as nobody is writing it any more.
    assert not half.exists()


def put(cache, name, size=1000):
    """An entry of about so many bytes."""
    cache.put(name, "key", lambda file: file.write_bytes(name[:1].encode() * size), {"of": name})


def kept(cache, *names):
    found = set()
    for name in names:
        with cache.find(name, "key") as entry:
            if entry is not None:
                assert entry.told == {"of": name}
                assert set(entry.file.read_bytes().decode()) == {name[:1]}
                found.add(name)
    return found


def used_at(cache, *names):
    """Have entries used in this order, an hour apart, the last one an hour ago."""
    for place, name in enumerate(names):
        moment = time.time() - 3600 * (len(names) - place)
        os.utime(cache.folder / f"{name}-key.json", (moment, moment))


def size_of(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = StepCache(tmp_path / "kept", 4000)
    for name in "abc":
        put(cache, name)
    used_at(cache, *"abc")
    # To use an entry makes it the newest.
    assert kept(cache, "a") == {"a"}
    put(cache, "d")
    assert kept(cache, *"abcd") == {"a", "c", "d"}
    assert size_of(cache.folder) <= 4000
    assert len(list(cache.folder.iterdir())) == 6
    put(cache, "e", 2500)
    assert kept(cache, *"acde") == {"d", "e"}
    put(cache, "f", 5000)
    assert kept(cache, *"def") == set()
    assert list(cache.folder.iterdir()) == []


def test_a_lower_limit_holds_at_once_and_none_never(tmp_path):
    cache = StepCache(tmp_path / "kept", None)
    for name in "abcd":
        put(cache, name)
    used_at(cache, *"dcba")
    assert kept(StepCache(cache.folder, None), *"abcd") == set("abcd")
    used_at(cache, *"dcba")
    assert kept(StepCache(cache.folder, 2500), *"abcd") == set("ab")


def test_an_entry_that_is_read_stays_until_it_has_been_read(tmp_path):
    cache = StepCache(tmp_path / "kept", 1500)
    put(cache, "a")
    with cache.find("a", "key") as entry:
        put(StepCache(cache.folder, 1500), "b")
        assert not list(cache.folder.glob("a-*"))
        assert entry.file.read_bytes() == b"a" * 1000
    assert kept(cache, "a", "b") == {"b"}
    assert not list(cache.folder.glob(".writing-*"))


def test_a_file_system_without_links_has_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    cache = StepCache(tmp_path / "kept", None)
    put(cache, "a")
    monkeypatch.setattr(os, "link", refuse)
    assert kept(cache, "a", "b") == {"a"}


def test_rows_whose_index_is_still_to_come_are_left_alone(tmp_path):
    cache = StepCache(tmp_path / "kept", 100)
    rows = cache.folder / "labs-key-0.parquet"
    rows.write_bytes(b"x" * 1000)
    StepCache(cache.folder, 100)
    assert rows.exists()
    os.utime(rows, (0, time.time() - 2 * 24 * 3600))
    StepCache(cache.folder, 100)
    assert not rows.exists()


CROWD = """
import random, sys
from pathlib import Path
from sklearn_medfuse.datasets._step_cache import StepCache
draw, cache = random.Random(int(sys.argv[2])), StepCache(Path(sys.argv[1]), 6000)
for _ in range(150):
    name = draw.choice("abcdefgh")
    with cache.find(name, "key") as entry:
        if entry is not None:
            assert entry.file.read_bytes() == name.encode() * 1000
            continue
    cache.put(name, "key", lambda file: file.write_bytes(name.encode() * 1000), {})
"""


def test_several_processes_may_write_read_and_remove_at_once(tmp_path):
    runs = [
        subprocess.Popen([sys.executable, "-c", CROWD, str(tmp_path / "kept"), str(seed)])
        for seed in range(3)
    ]
    assert [run.wait(120) for run in runs] == [0, 0, 0]
    cache = StepCache(tmp_path / "kept", 6000)
    assert size_of(cache.folder) <= 6000
    assert not list(cache.folder.glob(".writing-*"))


def test_a_loader_keeps_its_folder_within_the_limit(folder, tmp_path, done):
    cache = tmp_path / "kept"
    expected = load_mimic3(folder, cache=cache, **ALL)
    whole = size_of(cache)
    for hours in (12, 36, 48):
        load_mimic3(folder, cache=cache, index_time=hours, cache_max_bytes=int(1.5 * whole), **ALL)
        assert size_of(cache) <= 1.5 * whole
    done.clear()
    again = load_mimic3(folder, cache=cache, cache_max_bytes=int(1.5 * whole), **ALL)
    assert_same(again, expected, check_exact=True)
    assert len(done) == 3
    load_mimic3(folder, cache=cache, cache_max_bytes=int(1.5 * whole), **ALL)
    assert len(done) == 3


def test_mixed_zones_are_refused_from_the_cache_too(tmp_path):
    tables = long_tables()
    stays = tables["stays"]
    load = {"phenotypes": None, "outcomes": ["mortality"], "cache": tmp_path / "kept"}
    load_tables(tables["labs"], None, None, stays, **load)
    zoned = tables["notes"].assign(time=tables["notes"]["time"].dt.tz_localize("UTC"))
    for _ in range(2):
        with pytest.raises(ValueError, match="mixed"):
            load_tables(tables["labs"], zoned, None, stays, **load)


def test_a_source_that_cannot_tell_of_changes_is_refused(tmp_path):
    class Server:
        has_signature = False

    stays = pd.DataFrame({"stay_id": [1], "start": [pd.Timestamp(0)], "end": [pd.Timestamp(1)]})
    with pytest.raises(ValueError, match="cache needs files"):
        Steps(Server(), CohortOptions(cache=tmp_path / "kept"), stays)
    assert not (tmp_path / "kept").exists()


def test_bars_name_tables_and_come_to_their_end(folder, tmp_path, capsys):
    options = {"cache": tmp_path / "kept", "verbose": True, **ALL}
    for _ in range(2):
        load_mimic3(folder, **options)
        shown = capsys.readouterr()
        assert shown.out == ""
        for table in ("diagnoses_icd", "labevents", "noteevents"):
            assert f"{table}: 100%" in shown.err
    load_mimic3(folder, **options | {"verbose": False})
    assert capsys.readouterr().err == ""


def test_each_table_is_read_once(folder, monkeypatch):
    tables = ("labevents", "noteevents", "diagnoses_icd", "admissions", "patients", "d_labitems")
    scanned = []
    execute, query = Source.execute, Source.query

    def noting(run):
        def noted(self, sql, *args):
            if not sql.startswith("DESCRIBE"):
                scanned.extend(name for name in tables if f"/{name}.csv" in sql)
            return run(self, sql, *args)

        return noted

    monkeypatch.setattr(Source, "execute", noting(execute))
    monkeypatch.setattr(Source, "query", noting(query))
    load_mimic3(folder, **ALL)
    assert sorted(scanned) == sorted(tables)
