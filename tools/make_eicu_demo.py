"""Make the compact copy of the eICU demo that ships in the package.

    python tools/make_eicu_demo.py PATH

PATH is a folder with the published tables of the eICU Collaborative Research Database Demo 2.0.1
(https://physionet.org/content/eicu-crd-demo/2.0.1/). Every row is kept, and of the columns those
that `load_eicu` reads, under their published names. The same tables give the same bytes, with the
same version of pyarrow.
"""

import argparse
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sklearn_medfuse.datasets._loaders.eicu import BUNDLED, DATASET, TABLES, URL
from sklearn_medfuse.datasets._tables.source import Source

WHOLE, NUMBER = ("id", "minutes"), ("number",)


def read(source: Source, table: str, columns: dict[str, str]) -> pd.DataFrame:
    """Cells as they were published: numbers as such, texts and identifiers of letters as texts."""
    parts = [
        f"CAST({name} AS {'BIGINT' if kind in WHOLE else 'DOUBLE'}) AS {name}"
        if kind in WHOLE + NUMBER
        else name
        for name, kind in columns.items()
    ]
    return source.query(
        f"SELECT {', '.join(parts)} FROM {source.scan(table, list(columns))}", table
    )


def write_compact(frame: pd.DataFrame, columns: dict[str, str], file: Path) -> None:
    """Write one table as small as parquet can: sorted rows, dictionaries, strong compression."""
    types = {**dict.fromkeys(WHOLE, pa.int32()), **dict.fromkeys(NUMBER, pa.float64())}
    schema = pa.schema([(name, types.get(kind, pa.string())) for name, kind in columns.items()])
    frame = frame.sort_values(list(columns), kind="stable", ignore_index=True)
    # Without pandas' own metadata the bytes depend on the data and on pyarrow alone
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
    table = table.replace_schema_metadata(None)
    pq.write_table(table, file, compression="zstd", compression_level=19)


def main() -> None:
    """Copy all tables and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="folder with the published tables")
    parser.add_argument("--output", type=Path, default=BUNDLED, help="folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    total = 0
    with Source(arguments.path, DATASET, URL) as source:
        for table, columns in TABLES.items():
            frame = read(source, table, columns)
            file = arguments.output / f"{table}.parquet"
            write_compact(frame, columns, file)
            total += file.stat().st_size
            print(f"{table:14} {len(frame):8,} rows {file.stat().st_size / 1e3:8,.0f} kB")
    print(f"{'total':14} {'':8}      {total / 1e3:8,.0f} kB")


if __name__ == "__main__":
    main()
