"""The published tables of eICU in a database, as `TableFolder` reads them from files."""

from collections.abc import Mapping

import pandas as pd

from ._cells import quoted
from ._sources import Source
from ._tables import convert


class TableDatabase:
    """A database with one published data set.

    Parameters
    ----------
    source : Source
        The open database.
    """

    def __init__(self, source: Source):
        self._source = source

    def read(self, table: str, columns: Mapping[str, str]) -> pd.DataFrame:
        """Read some columns of one table.

        Parameters
        ----------
        table : str
            Published name of the table, in any case.
        columns : mapping of str to {"integer", "number", "text"}
            As in `TableFolder`.

        Returns
        -------
        DataFrame
            Exactly `columns`, in that order, under lower-case names.

        Raises
        ------
        FileNotFoundError
            If the table is not there.
        ValueError
            If a column is missing, or a cell is not of its kind.
        """
        scan = self._source.scan(table, list(columns))
        parts = ", ".join(
            f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" if kind == "text" else quoted(name)
            for name, kind in columns.items()
        )
        frame = self._source.query(f"SELECT {parts} FROM {scan}", table)
        return pd.DataFrame(
            {name: convert(frame[name], kind, table) for name, kind in columns.items()}
        )
