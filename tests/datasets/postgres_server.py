"""A PostgreSQL server of the tests' own, and the made tables in it."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest

SUPERUSER, PASSWORD = "keeper", "s3cret-pass"
# Types that differ from what a data frame would suggest, as the scripts of mimic-code, eicu-code
# and OHDSI declare them
TYPES = {
    "iserror": "char(1)",
    "icd9_code": "varchar(10)",
    "icd_code": "char(7)",
    "icd_version": "smallint",
    "chartdate": "date",
    "value": "varchar(200)",
    "valueuom": "varchar(20)",
    "category": "varchar(50)",
    "anchor_age": "smallint",
    "hospital_expire_flag": "smallint",
    "ref_range_lower": "numeric",
    "value_as_number": "numeric",
    "visit_start_date": "date",
    "visit_end_date": "date",
    "measurement_date": "date",
    "note_date": "date",
    "death_date": "date",
    "edregtime": "timestamp(0)",
}


def server_programs():
    """The folder of initdb and pg_ctl, or a skip."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").is_file():
            return folder
    found = shutil.which("initdb")
    if found is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    return Path(found).resolve().parent


class Server:
    """A server in a folder of its own on a free loopback port."""

    def __init__(self):
        programs = server_programs()
        # The server refuses to be root
        self._as = []
        if os.getuid() == 0:
            known = any(user.pw_name == "postgres" for user in pwd.getpwall())
            if shutil.which("setpriv") is None or not known:
                pytest.skip("no setpriv or no user postgres, as whom root starts the server")
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        self._control = str(programs / "pg_ctl")
        # Not pytest's own folder, which other users may not enter
        self.folder = Path(tempfile.mkdtemp(prefix="medfuse-postgres-"))
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
            shutil.chown(secret, "postgres", "postgres")
        self._run(
            str(programs / "initdb"),
            *("-D", self.folder / "data", "-U", SUPERUSER, "-A", "scram-sha-256"),
            *("--pwfile", secret, "-E", "UTF8", "--locale=C", "--no-sync"),
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = "-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self.log = self.folder / "log"
        self._run(
            *(self._control, "start", "-w", "-D", self.folder / "data", "-l", self.log),
            *("-o", f"-p {self.port} {options} -c log_statement=all"),
        )
        # One for all tests, as each costs three hundred files
        self.execute("CREATE DATABASE made", database="postgres")

    def _run(self, *command):
        done = subprocess.run(
            [*self._as, *map(str, command)], cwd="/", capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self):
        self._run(self._control, "stop", "-m", "immediate", "-D", self.folder / "data")
        shutil.rmtree(self.folder)

    def url(self, database="made", user=SUPERUSER, password=PASSWORD, **parameters):
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}?{query}"

    def execute(self, *statements, database="made"):
        """Run statements, each on its own, as `CREATE DATABASE` must be."""
        import adbc_driver_postgresql.dbapi as adbc

        with (
            adbc.connect(self.url(database), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)

    def fill(self, schemas, database="made"):
        """Fill a database: schema -> table -> data frame; returns its URL."""
        import adbc_driver_postgresql.dbapi as adbc

        with (
            adbc.connect(self.url(database, client_encoding="UTF8")) as connection,
            connection.cursor() as cursor,
        ):
            for schema, frames in schemas.items():
                cursor.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
                for table, frame in frames.items():
                    _fill_table(cursor, schema, table, frame)
            connection.commit()
        return self.url(database)


def _fill_table(cursor, schema, table, frame):
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    nameless = [i for i, of in enumerate(rows.schema) if pa.types.is_null(of.type)]
    for i in nameless:
        rows = rows.set_column(i, rows.schema[i].name, rows.column(i).cast(pa.string()))
    cursor.adbc_ingest("incoming", rows, mode="create", temporary=True)
    parts = [
        f'"{name}"::{TYPES[name.lower()]} AS "{name}"' if name.lower() in TYPES else f'"{name}"'
        for name in map(str, frame.columns)
    ]
    cursor.execute(f'CREATE TABLE "{schema}"."{table}" AS SELECT {", ".join(parts)} FROM incoming')
    cursor.execute("DROP TABLE incoming")
