"""The URL of a PostgreSQL database, of which no error and no repr shows the password."""

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# Two letters at least: C:/ is a disk.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_POSTGRES = re.compile(r"postgres(ql)?(\+\w+)?", re.IGNORECASE)
_FORM = "postgresql://user@host:5432/database?schema=name"
# Seconds to wait for a server; libpq would wait for minutes.
_PATIENCE = 30


def is_database_url(where: Any) -> bool:
    """Whether a place of tables is given as a URL.

    Parameters
    ----------
    where : object
        A path or a URL.

    Returns
    -------
    bool
        True for all that begins as a URL does, so that none is taken for a path and told in errors.
    """
    return isinstance(where, str | os.PathLike) and bool(_SCHEME.match(os.fspath(where)))


@dataclass(frozen=True)
class DatabaseURL:
    """A database and the schemas in which to look for tables.

    Attributes
    ----------
    uri : str
        What libpq gets. It may hold a password and is no part of the repr.
    schemas : tuple of str
        Names in the parameter `schema` of the URL, in that order.
    shown : str
        Name of the database, host and port, for errors.
    """

    uri: str = field(repr=False)
    schemas: tuple[str, ...]
    shown: str


def parse_url(given: Any) -> DatabaseURL:
    """Read a URL of the form postgresql://user@host:port/database?schema=one,two.

    Parameters
    ----------
    given : object
        The URL; anything that :func:`is_database_url` lets pass.

    Returns
    -------
    DatabaseURL
        Its parts.

    Raises
    ------
    TypeError
        If it was put in a path, which has taken a slash away.
    ValueError
        If it is of another kind of database, or cannot be read.
    """
    if not isinstance(given, str):
        raise TypeError("A database URL must be a str: a path has taken one of its slashes away.")
    found = _SCHEME.match(given)
    scheme = found[1] if found else ""
    if not _POSTGRES.fullmatch(scheme) or not given.startswith(f"{scheme}://"):
        raise ValueError(f"A database URL must be of the form {_FORM}, not begin with '{scheme}:'.")
    # The parser quotes what it does not understand, which may be a part of the password.
    try:
        parts = urlsplit(given)
        host, port = parts.hostname, parts.port
        query = parse_qs(parts.query)
    except ValueError:
        parts = None
    if parts is None or any(mark.isspace() for mark in given):
        raise ValueError(
            f"The database URL cannot be read: it must be of the form {_FORM}, with special "
            "characters of user and password in percent-encoding, or with the password in "
            "PGPASSWORD or ~/.pgpass instead."
        )
    kept = [part for part in parts.query.split("&") if part and not part.startswith("schema=")]
    if "connect_timeout" not in query:
        kept.append(f"connect_timeout={_PATIENCE}")
    named = [name.strip() for value in query.get("schema", []) for name in value.split(",")]
    at = f"{host or query.get('host', ['localhost'])[0]}:{port or query.get('port', ['5432'])[0]}"
    return DatabaseURL(
        uri=f"postgresql://{parts.netloc}{parts.path}?{'&'.join(kept)}",
        schemas=tuple(name for name in named if name),
        shown=f"database '{unquote(parts.path[1:])}' at {at}",
    )
