"""DuckDB or Polars: which of them should read the tables of a cohort?

Both do the same on made tables of MIMIC-III's layout: the last result of every lab before the index
time in each stay, and its notes until then joined in order. Each runs in a process of its own, in
its streaming mode, and both have to find the same. Time, processor time and peak memory.

    python benchmarks/cohort_engines.py FOLDER [--share 0.05] [--suffix .csv.gz] [--threads 2]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from cohort_scale import make_tables

ENGINES = ("duckdb", "polars")


def with_duckdb(folder, suffix, threads):
    """Labs as (stay, item, value), notes as (stay, text)."""
    import duckdb

    connection = duckdb.connect(
        config={"threads": threads, "memory_limit": "2GB", "preserve_insertion_order": False}
    )

    def table(name):
        file = folder / f"{name}{suffix}"
        if suffix == ".parquet":
            return f"read_parquet('{file}')"
        return f"read_csv('{file}', header = true, all_varchar = true, buffer_size = 8000000)"

    connection.execute(
        "CREATE TABLE stays AS SELECT CAST(HADM_ID AS BIGINT) AS stay, "
        "CAST(ADMITTIME AS TIMESTAMP) AS start, "
        f"start + INTERVAL 1 DAY AS index_time FROM {table('ADMISSIONS')}"
    )
    labs = connection.execute(
        "SELECT stay, item, arg_max(value, time) AS value FROM (SELECT CAST(HADM_ID AS BIGINT) AS "
        "stay, CAST(ITEMID AS BIGINT) AS item, CAST(VALUENUM AS DOUBLE) AS value, "
        f"CAST(CHARTTIME AS TIMESTAMP) AS time FROM {table('LABEVENTS')}) JOIN stays USING (stay) "
        "WHERE time BETWEEN start - INTERVAL 1 DAY AND index_time AND value IS NOT NULL "
        "GROUP BY ALL"
    ).df()
    notes = connection.execute(
        "SELECT stay, string_agg(text, chr(10) || chr(10) ORDER BY time, text) AS text FROM "
        "(SELECT CAST(HADM_ID AS BIGINT) AS stay, CAST(CHARTTIME AS TIMESTAMP) AS time, "
        "TEXT AS text "
        f"FROM {table('NOTEEVENTS')}) JOIN stays USING (stay) WHERE time <= index_time GROUP BY ALL"
    ).df()
    return labs, notes


def with_polars(folder, suffix, threads):
    """The same; Polars takes its number of threads from the environment."""
    import polars as pl

    def table(name):
        file = folder / f"{name}{suffix}"
        return (
            pl.scan_parquet(file) if suffix == ".parquet" else pl.scan_csv(file, infer_schema=False)
        )

    def moment(name):
        column = pl.col(name)
        return column if suffix == ".parquet" else column.str.to_datetime("%Y-%m-%d %H:%M:%S")

    stay = pl.col("HADM_ID").cast(pl.Int64).alias("stay")
    day = pl.duration(days=1)
    stays = table("ADMISSIONS").select(stay, moment("ADMITTIME").alias("start"))
    labs = (
        table("LABEVENTS")
        .select(
            stay,
            pl.col("ITEMID").cast(pl.Int64).alias("item"),
            pl.col("VALUENUM").cast(pl.Float64).alias("value"),
            moment("CHARTTIME").alias("time"),
        )
        .join(stays, on="stay")
        .filter(
            pl.col("time").is_between(pl.col("start") - day, pl.col("start") + day),
            pl.col("value").is_not_null(),
        )
        .group_by("stay", "item")
        .agg(pl.col("value").get(pl.col("time").arg_max()))
        .collect(engine="streaming")
    )
    notes = (
        table("NOTEEVENTS")
        .select(stay, moment("CHARTTIME").alias("time"), pl.col("TEXT").alias("text"))
        .join(stays, on="stay")
        .filter(pl.col("time") <= pl.col("start") + day)
        .group_by("stay")
        .agg(pl.col("text").sort_by("time", "text").str.join("\n\n"))
        .collect(engine="streaming")
    )
    return labs.to_pandas(), notes.to_pandas()


def measure(engine, folder, suffix, threads):
    """Run one engine here; what it took and what it found."""
    run = with_duckdb if engine == "duckdb" else with_polars
    start, processor = time.perf_counter(), time.process_time()
    labs, notes = run(folder, suffix, threads)
    return {
        "seconds": time.perf_counter() - start,
        "processor_s": time.process_time() - processor,
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "cells": len(labs),
        "sum": float(labs["value"].sum()),
        "notes": len(notes),
        "note_chars": int(notes["text"].str.len().sum()),
    }


def in_a_process(engine, args, folder):
    """Measure in a process of its own."""
    command = [sys.executable, __file__, str(folder), "--here", engine]
    command += ["--suffix", args.suffix, "--threads", str(args.threads)]
    environment = {**os.environ, "POLARS_MAX_THREADS": str(args.threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="scratch folder for the tables")
    parser.add_argument("--share", type=float, nargs="+", default=[0.05])
    parser.add_argument("--suffix", default=".csv.gz", choices=[".csv", ".csv.gz", ".parquet"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--here", choices=ENGINES, help="run this engine on this folder here")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.here, args.folder, args.suffix, args.threads)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for share in sorted(args.share):
        folder = args.folder / f"share_{share:.4f}{args.suffix.replace('.', '_')}"
        make_tables(folder, share, args.suffix)
        found = {engine: in_a_process(engine, args, folder) for engine in ENGINES}
        ours, theirs = found.values()
        for name in ("cells", "notes", "note_chars"):
            assert ours[name] == theirs[name], f"{name}: {ours[name]} and {theirs[name]}"
        assert np.isclose(ours["sum"], theirs["sum"])
        rows += [{"share": share, "engine": engine, **of} for engine, of in found.items()]
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
