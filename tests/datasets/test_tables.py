import gzip

import pandas as pd
import pytest

from sklearn_medfuse.datasets._tables import TableFolder

CANARY = "Canary-4711"
COLUMNS = {"id": "integer", "value": "number", "name": "text"}
FRAME = pd.DataFrame(
    {"id": [1, 2, 3], "value": [0.5, None, -1.0], "name": ["a", None, "NA"], "more": 0}
)


def folder(path):
    return TableFolder(path, "the demo", "https://example.org/demo")


def causes(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def assert_silent(error, *secrets):
    """Neither an error nor what it was raised from shows a cell."""
    text = " ".join(f"{cause} {cause.args}" for cause in causes(error))
    assert not any(secret in text for secret in secrets)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_reads_every_form_alike(tmp_path, suffix, upper):
    name = f"table{suffix}".upper() if upper else f"Table{suffix}"
    frame = FRAME.rename(columns=str.upper) if upper else FRAME
    if suffix == ".parquet":
        frame.to_parquet(tmp_path / name)
    else:
        frame.to_csv(tmp_path / name, index=False, compression="gzip" if "gz" in suffix else None)
    result = folder(tmp_path).read("table", COLUMNS)
    assert list(result) == list(COLUMNS)
    assert result["id"].tolist() == [1, 2, 3]
    assert result["value"].isna().tolist() == [False, True, False]
    assert result["value"].dtype == float
    assert result["name"].isna().tolist() == [False, True, False]
    assert result["name"].iloc[2] == "NA"


def test_wrong_path_names_the_source(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist.*https://example.org/demo"):
        folder(tmp_path / "nowhere").read("table", COLUMNS)
    file = tmp_path / "table.csv"
    file.write_text("id\n")
    with pytest.raises(FileNotFoundError, match="is a file, not a folder"):
        folder(file).read("table", COLUMNS)


def test_missing_table_names_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"table\.csv, table\.csv\.gz, table\.parquet") as e:
        folder(tmp_path).read("table", COLUMNS)
    assert "https://example.org/demo" in str(e.value)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_columns_are_named(tmp_path, suffix):
    frame = FRAME.drop(columns=["value", "name"]).assign(more=CANARY)
    if suffix == ".csv":
        frame.to_csv(tmp_path / "table.csv", index=False)
    else:
        frame.to_parquet(tmp_path / "table.parquet")
    with pytest.raises(ValueError, match=r"'table' lacks the columns value, name") as error:
        folder(tmp_path).read("table", COLUMNS)
    assert_silent(error.value, CANARY)


def test_wrong_delimiter_is_hinted_at(tmp_path):
    FRAME.to_csv(tmp_path / "table.csv", index=False, sep=";")
    with pytest.raises(ValueError, match="separated by commas"):
        folder(tmp_path).read("table", COLUMNS)


def test_empty_file(tmp_path):
    (tmp_path / "table.csv").write_text("")
    with pytest.raises(ValueError, match="'table' is empty"):
        folder(tmp_path).read("table", COLUMNS)


def test_header_alone_is_an_empty_table(tmp_path):
    FRAME.iloc[:0].to_csv(tmp_path / "table.csv", index=False)
    result = folder(tmp_path).read("table", COLUMNS)
    assert result.shape == (0, 3)
    assert result.dtypes.astype(str).tolist()[:2] == ["int64", "float64"]


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("value", CANARY, r"column 'value': 1 of 3 cells are not numbers, the first in data row 2"),
        ("id", CANARY, r"column 'id': 1 of 3 cells are missing or not whole numbers"),
        ("id", None, r"column 'id': 1 of 3 cells are missing or not whole numbers"),
        ("id", "1.5", r"column 'id': 1 of 3 cells are missing or not whole numbers"),
    ],
)
def test_wrong_cells_are_counted_and_not_shown(tmp_path, column, cell, message):
    frame = FRAME.astype(object)
    frame.loc[1, column] = cell
    frame.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(ValueError, match=message) as error:
        folder(tmp_path).read("table", COLUMNS)
    assert_silent(error.value, CANARY)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_gzip(tmp_path, keep):
    rows = "".join(f"{row},1,{CANARY}{row}\n" for row in range(5000))
    packed = gzip.compress(("id,value,name\n" + rows).encode())
    (tmp_path / "table.csv.gz").write_bytes(packed[: int(len(packed) * keep)])
    with pytest.raises(ValueError, match=r"'table' cannot be read.*Get it again from") as error:
        folder(tmp_path).read("table", COLUMNS)
    assert_silent(error.value, CANARY)


@pytest.mark.parametrize("name", ["table.csv.gz", "table.parquet"])
def test_damaged_files(tmp_path, name):
    (tmp_path / name).write_bytes(CANARY.encode() * 10)
    with pytest.raises(ValueError, match="'table' cannot be read") as error:
        folder(tmp_path).read("table", COLUMNS)
    assert_silent(error.value, CANARY)


def test_bytes_that_are_not_utf8(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"id,value,name\n1,1," + CANARY.encode() + b"\xff\n")
    with pytest.raises(ValueError, match="not UTF-8") as error:
        folder(tmp_path).read("table", COLUMNS)
    assert_silent(error.value, CANARY)


def test_rows_with_too_many_fields(tmp_path):
    (tmp_path / "table.csv").write_text(f"id,value,name\n1,1,a\n2,1,b,{CANARY}\n")
    with pytest.raises(ValueError, match="'table' cannot be read") as error:
        folder(tmp_path).read("table", COLUMNS)
    assert_silent(error.value, CANARY)
