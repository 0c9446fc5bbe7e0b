"""Reading published tables by name: csv, csv.gz or parquet, any case of names.

The errors name tables, columns, row positions and counts, and never a cell.
"""

import csv
import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

SUFFIXES = (".csv", ".csv.gz", ".parquet")

# pandas' own string type from version 3 on, object before.
_TEXT_DTYPE = pd.Series(["a"]).dtype


@dataclass(frozen=True)
class TableFolder:
    """The folder of one published data set.

    Attributes
    ----------
    path : Path
        The folder.
    dataset : str
        Name of the data set, for errors.
    url : str
        Where to get it, for errors.
    """

    path: Path
    dataset: str
    url: str

    def read(self, table: str, columns: Mapping[str, str]) -> pd.DataFrame:
        """Read some columns of one table.

        Parameters
        ----------
        table : str
            Published name of the table, without suffix; the file's name may be in any case.
        columns : mapping of str to {"integer", "number", "text"}
            The columns to read, in lower case, and what they hold. "integer" admits no missing
            value; an empty "number" or "text" cell is NaN.

        Returns
        -------
        DataFrame
            Exactly `columns`, in that order, under lower-case names.

        Raises
        ------
        FileNotFoundError
            If the folder or the table is not there.
        ValueError
            If a column is missing, a cell is not of its kind, or the file is damaged.
        """
        file = self._find(table)
        if file.suffix.lower() == ".parquet":
            frame = self._read_parquet(file, table, columns)
        else:
            frame = self._read_csv(file, table, columns)
        return pd.DataFrame(
            {name: convert(frame[name], kind, table) for name, kind in columns.items()}
        )

    def _find(self, table: str) -> Path:
        if not self.path.is_dir():
            what = "is a file, not a folder" if self.path.exists() else "does not exist"
            raise FileNotFoundError(
                f"'{self.path}' {what}. Give the folder with the tables of {self.dataset}, "
                f"which is at {self.url}."
            )
        wanted = [f"{table}{suffix}" for suffix in SUFFIXES]
        present = {file.name.lower(): file for file in sorted(self.path.iterdir())}
        for name in wanted:
            if name.lower() in present:
                return present[name.lower()]
        raise FileNotFoundError(
            f"No table '{table}' in '{self.path}': looked for {', '.join(wanted)} in upper or "
            f"lower case. It is part of {self.dataset}, at {self.url}."
        )

    def _read_parquet(self, file: Path, table: str, columns: Mapping[str, str]) -> pd.DataFrame:
        damaged = False
        try:
            published = self._match(pq.read_schema(file).names, table, columns)
            frame = pd.read_parquet(file, columns=list(published.values()))
        except (pa.ArrowInvalid, OSError):
            damaged = True
        if damaged:
            raise self._damaged(file, table)
        return frame.set_axis(list(published), axis=1)

    def _read_csv(self, file: Path, table: str, columns: Mapping[str, str]) -> pd.DataFrame:
        # Readers quote the offending bytes and rows in their errors, and chained errors are logged
        # with their causes: so ours are raised after the except clause is left.
        opened = gzip.open if file.suffix.lower() == ".gz" else open
        damaged = False
        try:
            with opened(file, "rt", encoding="utf-8-sig", newline="") as lines:
                header = next(csv.reader(lines), [])
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError, csv.Error):
            damaged = True
        if damaged:
            raise self._damaged(file, table)
        if not header:
            raise ValueError(f"Table '{table}' is empty: '{file}' has no header line.")
        published = self._match(header, table, columns)
        options = pacsv.ConvertOptions(
            include_columns=list(published.values()),
            column_types=dict.fromkeys(published.values(), pa.string()),
        )
        # pyarrow, and not pandas: it refuses rows that are longer than the header, where pandas
        # reads the wrong cells when only some columns are wanted.
        try:
            with opened(file, "rb") as stream:
                parsed = pacsv.read_csv(
                    stream,
                    parse_options=pacsv.ParseOptions(newlines_in_values=True),
                    convert_options=options,
                )
        except (EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowInvalid):
            damaged = True
        if damaged:
            raise self._damaged(file, table)
        return parsed.to_pandas().set_axis(list(published), axis=1)

    def _match(self, present, table: str, columns: Mapping[str, str]) -> dict[str, str]:
        """Lower-case name -> the name in the file."""
        in_file = {str(name).strip().lower(): name for name in present}
        missing = [name for name in columns if name not in in_file]
        if missing:
            hint = " Are its fields separated by commas?" if len(in_file) == 1 else ""
            raise ValueError(
                f"Table '{table}' lacks the column{'s' * (len(missing) > 1)} "
                f"{', '.join(missing)}; it has {len(in_file)} others.{hint} "
                f"The tables of {self.dataset} are at {self.url}."
            )
        return {name: in_file[name] for name in columns}

    def _damaged(self, file: Path, table: str) -> ValueError:
        return ValueError(
            f"Table '{table}' cannot be read to its end: '{file}' is truncated, damaged, not UTF-8 "
            f"text, or has rows longer or shorter than its header. Get it again from {self.url}."
        )


def convert(cells: pd.Series, kind: str, table: str) -> pd.Series:
    """Cells of one column as what they should be.

    Parameters
    ----------
    cells : Series
        As they were read.
    kind : {"integer", "number", "text"}
        What they should be.
    table : str
        Name of the table, for the error.

    Returns
    -------
    Series
        Whole numbers, floats with NaN, or texts with NaN.

    Raises
    ------
    ValueError
        If some are not.
    """
    if kind == "text":
        text = cells.astype(object)
        return text.where(text.notna() & text.ne(""), None).astype(_TEXT_DTYPE)
    numbers = pd.to_numeric(cells, errors="coerce")
    given = cells.notna() & cells.ne("")
    wrong = given & numbers.isna() if kind == "number" else numbers.isna() | (numbers % 1 != 0)
    if wrong.any():
        what = "not numbers" if kind == "number" else "missing or not whole numbers"
        raise ValueError(
            f"Table '{table}', column '{cells.name}': {int(wrong.sum())} of {len(cells)} cells "
            f"are {what}, the first in data row {int(wrong.to_numpy().argmax()) + 1}."
        )
    return numbers.astype("float64" if kind == "number" else "int64")
