import stat

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("duckdb")

from sklearn_medfuse.datasets._sources import Source


def test_what_memory_cannot_hold_goes_to_disk_encrypted_for_the_owner_alone():
    rows = np.arange(1_000_000)
    frame = pd.DataFrame({"id": rows, "text": [f"a patient's note {i}" for i in rows]})
    with Source({"notes": frame}, "tables", memory_limit="24MB") as source:
        scan = source.scan("notes", ["id", "text"])
        source.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {scan}", "notes")
        folder = source._spill
        files = [file for file in folder.iterdir() if file.stat().st_size]
        assert sum(file.stat().st_size for file in files) > 1_000_000
        assert not any(b"a patient's note" in file.read_bytes() for file in files)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        total = source.query("SELECT sum(id) AS n, max(text) AS text FROM kept", "notes")
    assert total["n"].iloc[0] == rows.sum()
    assert total["text"].iloc[0] == frame["text"].max()
    assert not folder.exists()
