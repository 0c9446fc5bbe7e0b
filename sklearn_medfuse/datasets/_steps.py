"""The steps from tables to a cohort: run with a bar that shows how far they are, or cached."""

import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from ._cells import literal
from ._digests import frame_digest
from ._options import CohortOptions
from ._sources import Source
from ._step_cache import StepCache, fingerprint

# What no step depends on, or only by way of the stays.
_OF_NO_STEP = {
    "cache",
    "cache_max_bytes",
    "first_stay",
    "index_time",
    "memory_limit",
    "min_age",
    "min_coverage",
    "n_jobs",
    "n_labels",
    "note_order",
    "outcomes",
    "phenotypes",
    "require",
    "units",
    "verbose",
}
_OF_NOTES = {"drop_note_sections", "max_note_chars", "note_types"}
_OF_LABS = {"aggregate", "lab_names"}
# Step -> options that it does not depend on. One that is not named here is taken to matter.
_IRRELEVANT = {
    "diagnoses": _OF_NO_STEP | _OF_NOTES | _OF_LABS | {"without_stored_time"},
    "labs": _OF_NO_STEP | _OF_NOTES,
    "notes": _OF_NO_STEP | _OF_LABS,
}
_SECONDS_BETWEEN_LOOKS = 0.2


class Steps:
    """Runs steps that make a table in the query engine.

    Parameters
    ----------
    source : Source
        Where the tables are read and made.
    options : CohortOptions
        Say whether there is a cache, and whether progress is shown.
    everyone : DataFrame
        All stays of the source, with `stay_id`, `start` and `end`.

    Raises
    ------
    ValueError
        If there is a cache, and the source cannot tell whether its tables have changed.
    """

    def __init__(self, source: Source, options: CohortOptions, everyone: pd.DataFrame):
        self._source = source
        self._options = options
        self._everyone = self._stays = ""
        self._cache = None
        if options.cache is not None:
            if not source.has_signature:
                raise ValueError(
                    "cache needs files, a DuckDB file or data frames: a database server does not "
                    "tell whether its tables have changed. Leave cache=None."
                )
            self._cache = _open_cache(Path(options.cache), options.cache_max_bytes)
            self._everyone = frame_digest(everyone[["stay_id", "start", "end"]])

    def register_stays(self, stays: pd.DataFrame) -> None:
        """Take note of the stays that the steps to come are about.

        Parameters
        ----------
        stays : DataFrame
            Columns `stay_id`, `start` and `index_time`.
        """
        if self._cache is not None:
            self._stays = frame_digest(stays[["stay_id", "start", "index_time"]])

    def run(
        self,
        step: str,
        table: str,
        made: str,
        produce: Callable[[dict[str, int]], None],
        counts: dict[str, int],
        *inputs: Any,
    ) -> None:
        """Make a table, or take it from the cache.

        Parameters
        ----------
        step : {"diagnoses", "labs", "notes"}
            What it is.
        table : str
            The table of the source that it is made of.
        made : str
            Name of the table that is made.
        produce : callable
            Makes it, and writes its counts to the dict that it is given.
        counts : dict
            Gets the numbers of rows.
        *inputs : object
            What the table depends on beside the source's table, the options and the stays.
        """
        if self._cache is None:
            with self._shown(table):
                produce(counts)
            return
        key = self._key(step, table, inputs)
        name = f"{step}-{re.sub('[^a-z0-9]+', '_', table.lower())}"
        with self._shown(table):
            if self._restore(name, key, table, made, counts):
                return
            zones_before = dict(self._source.zones)
            own_counts: dict[str, int] = {}
            produce(own_counts)
        counts.update(own_counts)
        zones = {
            column: numbers
            for column, numbers in self._source.zones.items()
            if zones_before.get(column) != numbers
        }
        self._keep(name, key, table, made, {"counts": own_counts, "zones": zones})

    def _keep(self, name: str, key: str, table: str, made: str, told: dict[str, Any]) -> None:
        """Put a table into the cache; where that fails, the work goes on all the same."""
        assert self._cache is not None
        reason = "its rows could not be written"

        def write(file: Path) -> None:
            sql = f"COPY {made} TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd)"
            try:
                self._source.execute(sql, table)
            except ValueError:
                raise OSError(reason) from None

        try:
            self._cache.put(name, key, write, told)
        except OSError as error:
            warnings.warn(
                f"The result of table '{table}' could not be kept in cache "
                f"({error.strerror or reason}); the cohort is made all the same. Make room or give "
                "rights in that folder, or use cache=None.",
                UserWarning,
                stacklevel=2,
            )

    def _key(self, step: str, table: str, inputs: tuple) -> str:
        options = [
            (field.name, getattr(self._options, field.name))
            for field in fields(self._options)
            if field.name not in _IRRELEVANT[step]
        ]
        tables = (self._source.signature(table), self._source.century)
        return fingerprint(step, tables, self._everyone, self._stays, options, *inputs)

    def _restore(self, name: str, key: str, table: str, made: str, counts) -> bool:
        assert self._cache is not None
        with self._cache.find(name, key) as entry:
            if entry is None:
                return False
            self._source.execute(
                f"CREATE OR REPLACE TEMP TABLE {made} AS SELECT * FROM "
                f"read_parquet({literal(str(entry.file))})",
                table,
            )
        counts.update(entry.told["counts"])
        for column, numbers in entry.told["zones"].items():
            of_table, name = column.rsplit(".", 1)
            self._source.note_zones(of_table, name, *numbers)
        return True

    @contextmanager
    def _shown(self, table: str) -> Iterator[None]:
        """Show how much of the running queries is done, if that is wanted."""
        if not self._options.verbose:
            yield
            return
        from tqdm.auto import tqdm

        over = threading.Event()
        layout = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}"
        with tqdm(total=100, desc=table, bar_format=layout) as bar:

            def look() -> None:
                while not over.wait(_SECONDS_BETWEEN_LOOKS):
                    # A step has several queries; the bar never goes back.
                    bar.update(max(0.0, min(self._source.progress(), 99.0) - bar.n))

            looker = threading.Thread(target=look, daemon=True)
            looker.start()
            try:
                yield
                over.set()
                looker.join()
                bar.update(100 - bar.n)
            finally:
                over.set()
                looker.join()


def _open_cache(folder: Path, max_bytes: int | None) -> StepCache:
    try:
        return StepCache(folder, max_bytes)
    except OSError as error:
        problem = error.strerror
    raise ValueError(
        f"cache={str(folder)!r} cannot be made a folder for its owner alone ({problem}); name "
        "another one, or None."
    )
