"""Tables of a folder, of data frames or of a DuckDB file, behind one SQL connection.

Tables are found by name in any case and stay where they are: a query reads the columns it needs,
once, within a limit of memory. Errors name tables, columns and counts, and never a cell.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zst")
DATABASE_SUFFIXES = (".duckdb", ".ddb", ".db")

# What a column holds. "id" is a whole number, "key" a text (or a whole number written as one),
# "code" a text that must not have been read as a number.
Kind = Literal["id", "key", "number", "text", "code", "time"]

# pandas' own string type from version 3 on, object before.
TEXT_DTYPE = pd.Series(["a"]).dtype

_CSV_OPTIONS = (
    "header = true, delim = ',', quote = '\"', escape = '\"', all_varchar = true, "
    "strict_mode = true, comment = '', skip = 0, nullstr = '', sample_size = 1"
)
_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_INTEGERS = {*_SIGNED, *(f"U{name}" for name in _SIGNED)}
_TIMESTAMPS = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")


def import_duckdb():
    """DuckDB, or an error that says how to get it.

    Returns
    -------
    module
        duckdb.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ImportError(
            "Reading these tables needs DuckDB: pip install 'sklearn-medfuse[datasets]'."
        ) from error
    return duckdb


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


class Source:
    """The tables of one data set; a context manager.

    Parameters
    ----------
    where : path-like, sequence of path-like, or mapping of str to DataFrame or path-like
        A folder with the tables as files, several folders, a DuckDB file, or the tables, each as a
        data frame, a file, or a list of parquet files.
    dataset : str
        Name of the data set, for errors.
    url : str
        Where to get it, for errors; may be empty.
    memory_limit : str, default="2GB"
        Memory that queries may take before they use temporary files.
    n_threads : int, default=1
        Threads of the queries.
    century : int or None, default=None
        What stands before years of two digits: with 21, "10/23/64 21:09" is in October 2164. None
        where there are no such years.
    """

    def __init__(
        self,
        where: str | PathLike[str] | Sequence[str | PathLike[str]] | Mapping[str, Any],
        dataset: str,
        url: str = "",
        *,
        memory_limit: str = "2GB",
        n_threads: int = 1,
        century: int | None = None,
    ):
        self.dataset = dataset
        self.url = url
        self.century = century
        self.zones: dict[str, list[int]] = {}
        self._defined: dict[str, str] = {}
        self._frames: dict[str, pd.DataFrame] = {}
        self._files: dict[str, list[Path]] = {}
        self._folders: list[Path] = []
        self._database: Path | None = None
        if isinstance(where, Mapping):
            for name, table in where.items():
                if isinstance(table, pd.DataFrame):
                    self._frames[name.lower()] = table
                else:
                    parts = table if isinstance(table, list) else [table]
                    self._files[name.lower()] = [self._checked_file(Path(part)) for part in parts]
        else:
            paths = [where] if isinstance(where, str | PathLike) else list(where)
            self._set_paths([Path(path) for path in paths])
        self._tables: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {}
        self._open(memory_limit, n_threads)

    def _set_paths(self, paths: list[Path]) -> None:
        for path in paths:
            if not path.exists():
                raise FileNotFoundError(f"'{path}' does not exist. {self._remedy()}")
            if len(paths) > 1 and not path.is_dir():
                raise NotADirectoryError(f"'{path}' is no folder, and a database stands alone.")
        if len(paths) == 1 and paths[0].is_file():
            if paths[0].suffix.lower() not in DATABASE_SUFFIXES:
                raise FileNotFoundError(
                    f"'{paths[0]}' is a file, neither a folder nor a DuckDB database "
                    f"({', '.join(DATABASE_SUFFIXES)}). {self._remedy()}"
                )
            self._database = paths[0]
        else:
            self._folders = paths

    def _checked_file(self, file: Path) -> Path:
        if not file.is_file():
            raise FileNotFoundError(f"There is no file '{file}'.")
        if not file.name.lower().endswith(SUFFIXES):
            raise ValueError(f"'{file}' is none of {', '.join(SUFFIXES)}.")
        return file

    def _remedy(self) -> str:
        at = f", which is at {self.url}" if self.url else ""
        return f"Give the folder or the DuckDB file with the tables of {self.dataset}{at}."

    def _open(self, memory_limit: str, n_threads: int) -> None:
        duckdb = import_duckdb()
        # What a query cannot hold goes to disk: for the owner alone, encrypted, gone at the end.
        self._spill = tempfile.mkdtemp(prefix="medfuse-")
        settings = {
            "memory_limit": memory_limit,
            "threads": n_threads,
            "temp_directory": self._spill,
            "temp_file_encryption": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "preserve_insertion_order": False,
        }
        failed = False
        try:
            self._connection = duckdb.connect(":memory:", config=settings)
            # A time with a zone becomes UTC, whatever the machine's own zone is.
            self._connection.execute("SET TimeZone = 'UTC'")
            self._connection.execute("SET enable_progress_bar = false")
            if self._database is not None:
                self._connection.execute(
                    f"ATTACH {literal(str(self._database))} AS source (READ_ONLY)"
                )
        except duckdb.Error:
            failed = True
        if failed:
            shutil.rmtree(self._spill, ignore_errors=True)
            what = f"'{self._database}' as a DuckDB file" if self._database else "the query engine"
            raise ValueError(
                f"Cannot open {what}: is it damaged, of another version, or opened for writing "
                f"elsewhere? memory_limit is {memory_limit!r}."
            )

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_) -> None:
        self._connection.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def has(self, table: str) -> bool:
        """Whether there is a table of that name.

        Parameters
        ----------
        table : str
            Name of the table, in any case.

        Returns
        -------
        bool
            True if it is there.
        """
        return self._locate(table) is not None

    def columns(self, table: str) -> dict[str, tuple[str, str]]:
        """Columns of a table.

        Parameters
        ----------
        table : str
            Name of the table, in any case.

        Returns
        -------
        dict of str to (str, str)
            Lower-case name -> name in the table, type in SQL.

        Raises
        ------
        FileNotFoundError
            If there is no such table.
        ValueError
            If it cannot be read.
        """
        return self._describe(table)[1]

    def kind_of_key(self, table: str, column: str) -> Kind:
        """Whether a column of identifiers holds numbers ("id") or texts ("key").

        Parameters
        ----------
        table, column : str
            Names in any case.

        Returns
        -------
        {"id", "key"}
            "id" only where the column's type is a number.
        """
        present = self.columns(table)
        self._check_columns(table, [column], present)
        sql_type = present[column.lower()][1]
        return "id" if sql_type in _INTEGERS or sql_type in ("DOUBLE", "FLOAT") else "key"

    def select(
        self,
        table: str,
        columns: Mapping[str, tuple[str, Kind]],
        optional: Sequence[str] = (),
        where: str = "true",
    ) -> str:
        """A query for some columns of a table, under other names and as what they hold.

        Parameters
        ----------
        table : str
            Name of the table, in any case.
        columns : mapping of str to (str, str)
            New name -> name in the table, kind. A "time" is in microseconds since 1970, in UTC if
            it has a zone; beside it stand `<name>_unreadable` and `<name>_zoned`, the latter NULL
            where there is no telling.
        optional : sequence of str, default=()
            New names of columns that may be absent; they are then NULL.
        where : str, default="true"
            SQL condition on the columns of the table.

        Returns
        -------
        str
            SQL in parentheses.

        Raises
        ------
        FileNotFoundError
            If the table is not there.
        ValueError
            If a column is missing or cannot hold what it should.
        """
        relation, present = self._describe(table)
        self._check_columns(
            table, [name for new, (name, _) in columns.items() if new not in optional], present
        )
        parts = []
        for new, (name, kind) in columns.items():
            given = present.get(name.lower())
            parts += _convert(new, kind, given, f"Table '{table}', column '{name}'", self.century)
        return f"(SELECT {', '.join(parts)} FROM {relation} WHERE {where})"

    def fetch(
        self,
        table: str,
        columns: Mapping[str, tuple[str, Kind]],
        optional: Sequence[str] = (),
        where: str = "true",
    ) -> pd.DataFrame:
        """Some columns of a table of moderate size.

        Parameters
        ----------
        table, columns, optional
            As in :meth:`select`.
        where : str, default="true"
            SQL condition on the columns of the table.

        Returns
        -------
        DataFrame
            Times as datetime64 without zone, texts as strings, missing cells as NaN or NaT.
        """
        frame = self.query(f"SELECT * FROM {self.select(table, columns, optional, where)}", table)
        for new, (name, kind) in columns.items():
            if kind == "time":
                zoned = frame.pop(f"{new}_zoned")
                self.note_zones(table, name, int(zoned.eq(True).sum()), int(zoned.eq(False).sum()))
                unreadable = int(frame.pop(f"{new}_unreadable").sum())
                if unreadable:
                    raise ValueError(
                        f"Table '{table}', column '{name}': {unreadable} of {len(frame)} cells "
                        "are no times of the form 2101-10-20 19:08:00."
                    )
                frame[new] = pd.to_datetime(frame[new].astype("Int64"), unit="us")
            elif kind in ("key", "text", "code"):
                texts = frame[new].astype(object)
                frame[new] = texts.where(texts.notna(), None).astype(TEXT_DTYPE)
        return frame

    def note_zones(self, table: str, column: str, n_zoned: int, n_naive: int) -> None:
        """Remember whether times had a zone, and refuse a mixture.

        Parameters
        ----------
        table, column : str
            Where the times stand.
        n_zoned, n_naive : int
            Numbers of times with and without a zone.

        Raises
        ------
        ValueError
            If some times of the data set have a zone and others have none: they cannot be put in
            order.
        """
        self.zones[f"{table}.{column}"] = [n_zoned, n_naive]
        if sum(z for z, _ in self.zones.values()) and sum(n for _, n in self.zones.values()):
            told = ", ".join(f"{key} {z} with, {n} without" for key, (z, n) in self.zones.items())
            raise ValueError(
                f"Times with and without a time zone are mixed ({told}). Give all a zone, or none."
            )

    def query(self, sql: str, what: str) -> pd.DataFrame:
        """Rows of a query.

        Parameters
        ----------
        sql : str
            The query.
        what : str
            The table that is read, for errors.

        Returns
        -------
        DataFrame
            The rows.
        """
        return self._guarded(what, lambda: self._connection.execute(sql).df())

    def execute(self, sql: str, what: str) -> None:
        """Run a statement without a result.

        Parameters
        ----------
        sql : str
            The statement.
        what : str
            The table that is read, for errors.
        """
        self._guarded(what, lambda: self._connection.execute(sql))

    def batches(self, sql: str, what: str, size: int = 5000):
        """Rows of a query as lists of tuples.

        Parameters
        ----------
        sql : str
            The query.
        what : str
            The table that is read, for errors.
        size : int, default=5000
            Rows in a list.

        Yields
        ------
        list of tuple
            The rows.
        """
        self.execute(sql, what)
        while rows := self._guarded(what, lambda: self._connection.fetchmany(size)):
            yield rows

    def define(self, name: str, sql: str) -> None:
        """Make a query known as a table.

        Parameters
        ----------
        name : str
            Its name, which no table of the source has.
        sql : str
            A SELECT over :meth:`relation`.
        """
        self._defined[name.lower()] = f"({sql})"

    def relation(self, table: str, columns: Sequence[str] = ()) -> str:
        """How to name a table in a query.

        Parameters
        ----------
        table : str
            Name of the table, in any case.
        columns : sequence of str, default=()
            Columns that it must have.

        Returns
        -------
        str
            SQL.

        Raises
        ------
        FileNotFoundError
            If there is no such table.
        ValueError
            If it lacks a column.
        """
        relation, present = self._describe(table)
        self._check_columns(table, columns, present)
        return relation

    def register(self, name: str, frame: pd.DataFrame) -> None:
        """Make a table of a data frame.

        Parameters
        ----------
        name : str
            Its name; a table of that name is replaced.
        frame : DataFrame
            The rows.
        """
        self._connection.register("incoming", _to_arrow(frame, name))
        self.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM incoming", name)
        self._connection.unregister("incoming")

    def _guarded(self, what: str, run) -> Any:
        # DuckDB quotes cells in its errors, and chained errors are logged with their causes: so
        # ours are raised after the except clause is left.
        duckdb = import_duckdb()
        failure = ""
        try:
            return run()
        except duckdb.OutOfMemoryException:
            failure = "needs more memory than memory_limit allows: raise it"
        except (duckdb.Error, UnicodeDecodeError, OSError):
            failure = (
                "cannot be read to its end: it is truncated, damaged, not UTF-8 text, or has rows "
                "longer or shorter than its header"
            )
        raise ValueError(f"Table '{what}' {failure}.")

    def _describe(self, table: str) -> tuple[str, dict[str, tuple[str, str]]]:
        """How to name a table in SQL, and its columns."""
        key = table.lower()
        if key not in self._tables:
            relation = self._locate(table)
            if relation is None:
                raise FileNotFoundError(self._not_found(table))
            frame = self.query(f"DESCRIBE SELECT * FROM {relation}", table)
            pairs = zip(frame["column_name"], frame["column_type"], strict=True)
            # The byte-order mark of some exports would be part of the first name.
            columns = {
                name.lstrip("\ufeff").strip().lower(): (name, str(kind)) for name, kind in pairs
            }
            self._tables[key] = (relation, columns)
        return self._tables[key]

    def _not_found(self, table: str) -> str:
        part = f" It is part of {self.dataset}" + (f", at {self.url}." if self.url else ".")
        if self._frames or self._files:
            return f"No table '{table}' among those given.{part}"
        if self._database is not None:
            return f"No table '{table}' in '{self._database}'.{part}"
        wanted = ", ".join(f"{table}{suffix}" for suffix in SUFFIXES)
        folders = " or ".join(f"'{folder}'" for folder in self._folders)
        return f"No table '{table}' in {folders}: looked for {wanted} in upper or lower case.{part}"

    def _locate(self, table: str) -> str | None:
        key = table.lower()
        if key in self._tables:
            return self._tables[key][0]
        if key in self._defined:
            return self._defined[key]
        if self._database is not None:
            return self._in_database(table)
        if key in self._frames:
            return self._register_frame(key)
        if key in self._files:
            return _scan(*self._files[key])
        for folder in self._folders:
            present = {file.name.lower(): file for file in sorted(folder.iterdir())}
            for suffix in SUFFIXES:
                if (file := present.get(f"{key}{suffix}")) is not None:
                    return _scan(file)
        return None

    def _in_database(self, table: str) -> str | None:
        found = self.query(
            "SELECT table_schema, table_name FROM information_schema.tables "
            f"WHERE table_catalog = 'source' AND lower(table_name) = {literal(table.lower())}",
            table,
        )
        if len(found) > 1:
            raise ValueError(
                f"'{self._database}' has a table '{table}' in {len(found)} schemas: "
                f"{', '.join(sorted(found['table_schema']))}. Keep it in one."
            )
        if found.empty:
            return None
        schema, name = found.iloc[0]
        return f"source.{quoted(schema)}.{quoted(name)}"

    def _register_frame(self, key: str) -> str:
        name = f"frame {key}"
        self._connection.register(name, _to_arrow(self._frames[key], f"Table '{key}'"))
        return quoted(name)

    def _check_columns(self, table: str, names: Sequence[str], present) -> None:
        missing = [name for name in names if name.lower() not in present]
        if not missing:
            return
        hint = " Are its fields separated by commas?" if len(present) == 1 else ""
        at = f" The tables of {self.dataset} are at {self.url}." if self.url else ""
        raise ValueError(
            f"Table '{table}' lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {len(present)} others.{hint}{at}"
        )


def _to_arrow(frame: pd.DataFrame, where: str) -> pa.Table:
    """A data frame for DuckDB, whose own reading of pandas depends on the versions of both."""
    mixed = {
        str(name): column.map(lambda cell: cell if pd.isna(cell) else str(cell))
        for name, column in frame.items()
        if pd.api.types.is_object_dtype(column.dtype)
        and pd.api.types.infer_dtype(column, skipna=True).startswith("mixed")
    }
    failed = False
    try:
        return pa.Table.from_pandas(frame.assign(**mixed), preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError):
        failed = True
    assert failed
    raise ValueError(f"{where} has a column that is neither numbers, nor times, nor texts.")


def _scan(*files: Path) -> str:
    """SQL that reads a file, or several of parquet; patterns in names are taken literally."""
    paths = [literal("".join(f"[{c}]" if c in "*?[" else c for c in str(file))) for file in files]
    if all(file.name.lower().endswith(".parquet") for file in files):
        return f"read_parquet([{', '.join(paths)}], union_by_name = true)"
    (file,), (path,) = files, paths
    compression = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix.lower(), "none")
    return f"read_csv({path}, {_CSV_OPTIONS}, compression = '{compression}')"


def _convert(
    new: str, kind: Kind, given: tuple[str, str] | None, where: str, century: int | None
) -> list[str]:
    """SQL for one column."""
    assert kind in get_args(Kind)
    if given is None:
        name, sql_type = "NULL", "NULL"
    else:
        name, sql_type = quoted(given[0]), given[1]
    if kind == "time":
        return _convert_time(new, name, sql_type, where, century)
    is_text = sql_type in ("VARCHAR", "NULL") or sql_type.startswith("ENUM")
    if kind == "code" and not is_text:
        raise ValueError(
            f"{where}: codes must be texts, but they are {sql_type.lower()}. As numbers they have "
            "lost their leading zeros."
        )
    if kind in ("text", "code"):
        return [f"nullif(trim(CAST({name} AS VARCHAR)), '') AS {new}"]
    if kind == "key":
        whole = sql_type in ("DOUBLE", "FLOAT")
        cell = f"CAST({name} AS BIGINT)" if whole else name
        return [f"nullif(trim(CAST({cell} AS VARCHAR)), '') AS {new}"]
    if kind == "id":
        return [f"TRY_CAST({name} AS BIGINT) AS {new}"]
    number = f"TRY_CAST({name} AS DOUBLE)"
    return [f"CASE WHEN isfinite({number}) THEN {number} END AS {new}"]


def _convert_time(new: str, name: str, sql_type: str, where: str, century: int | None) -> list[str]:
    """SQL for a time: microseconds since 1970, whether unreadable, whether with a zone."""
    if sql_type == "NULL":
        return [
            f"CAST(NULL AS BIGINT) AS {new}",
            f"false AS {new}_unreadable",
            f"CAST(NULL AS BOOLEAN) AS {new}_zoned",
        ]
    if sql_type.startswith("TIMESTAMP WITH TIME ZONE"):
        zoned = f"CASE WHEN {name} IS NOT NULL THEN true END"
        return [
            f"epoch_us({name}) AS {new}",
            f"false AS {new}_unreadable",
            f"{zoned} AS {new}_zoned",
        ]
    if sql_type in _TIMESTAMPS or sql_type == "DATE":
        # A date has no zone to speak of.
        flag = "CAST(NULL AS BOOLEAN)" if sql_type == "DATE" else "false"
        return [
            f"epoch_us(CAST({name} AS TIMESTAMP)) AS {new}",
            f"false AS {new}_unreadable",
            f"CASE WHEN {name} IS NOT NULL THEN {flag} END AS {new}_zoned",
        ]
    if sql_type != "VARCHAR":
        raise ValueError(f"{where}: a time must be a timestamp or a text, not {sql_type.lower()}.")
    # Only the year first: 8/1/26 would pass for the year 8 otherwise.
    short = "NULL" if century is None else _short_year(name, century)
    iso = f"({name}[5] = '-')"
    clock = f"{name}[12:]"
    zoned = f"({name} LIKE '%Z' OR {clock} LIKE '%+%' OR {clock} LIKE '%-%')"
    time = (
        f"CASE WHEN NOT {iso} THEN {short} WHEN {zoned} "
        f"THEN epoch_us(TRY_CAST({name} AS TIMESTAMP WITH TIME ZONE)) "
        f"ELSE epoch_us(TRY_CAST({name} AS TIMESTAMP)) END"
    )
    return [
        f"{time} AS {new}",
        f"(nullif(trim({name}), '') IS NOT NULL AND ({time}) IS NULL) AS {new}_unreadable",
        f"CASE WHEN {iso} AND len({name}) > 10 THEN {zoned} END AS {new}_zoned",
    ]


def _short_year(name: str, century: int) -> str:
    """SQL for a time such as 10/23/64 21:09, as spreadsheets write it."""
    long_year = f"regexp_replace({name}, '^(\\d+/\\d+/)(\\d\\d)( |$)', '\\1{century}\\2 ')"
    formats = "['%m/%d/%Y %H:%M:%S', '%m/%d/%Y %H:%M', '%m/%d/%Y']"
    return f"epoch_us(try_strptime(trim({long_year}), {formats}))"
