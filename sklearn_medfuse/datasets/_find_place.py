"""What kind of place tables are given in: folders, a database, or one by one."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from ._postgres import PostgresPlace
from ._postgres_url import is_database_url
from ._table_places import DATABASE_SUFFIXES, DuckDBFile, Folders, GivenTables


def find_place(where, schemas: Sequence[str], dataset: str, url: str):
    """The place of tables that was meant.

    Parameters
    ----------
    where : path-like, sequence of path-like, or mapping of str to DataFrame or path-like
        See `Source`.
    schemas : sequence of str
        Schemas of a database in which to look for tables first.
    dataset, url : str
        Name of the data set and where to get it, for errors.

    Returns
    -------
    LocalPlace or PostgresPlace
        Not yet opened, where it is a file.

    Raises
    ------
    FileNotFoundError
        If a path is not there, or is a file that is no database.
    NotADirectoryError
        If one of several paths is no folder.
    """
    at = f", which is at {url}" if url else ""
    remedy = (
        f"Give the folder, the DuckDB file or the PostgreSQL URL with the tables of {dataset}{at}."
    )
    if isinstance(where, Mapping):
        return GivenTables(where)
    given = [where] if isinstance(where, str | PathLike) else list(where)
    if any(is_database_url(one) for one in given):
        return PostgresPlace(given, schemas)
    paths = [Path(path) for path in given]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"'{path}' does not exist. {remedy}")
        if len(paths) > 1 and not path.is_dir():
            raise NotADirectoryError(f"'{path}' is no folder, and a database stands alone.")
    if len(paths) == 1 and paths[0].is_file():
        if paths[0].suffix.lower() not in DATABASE_SUFFIXES:
            raise FileNotFoundError(
                f"'{paths[0]}' is a file, neither a folder nor a DuckDB database "
                f"({', '.join(DATABASE_SUFFIXES)}). {remedy}"
            )
        return DuckDBFile(paths[0], schemas)
    return Folders(paths)
