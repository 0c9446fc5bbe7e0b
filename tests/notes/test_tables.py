"""Notes and labels in tables of pandas, polars and Arrow give the same vectors and names."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline

from sklearn_medfuse import NaiveBayesNoteEncoder, NoteCleaner, NoteWordEncoder

NOTES = ["acute heart failure", None, "acute renal failure", "no heart failure", " "] * 4
FRAME = pd.DataFrame({"note": NOTES, "plan": ["rest", None, None, "dialysis", None] * 4})
Y = pd.DataFrame({"heart": [1, 0, 0, 1, 0] * 4, "renal": [0, 1, 1, 0, 0] * 4})


def in_two_chunks(frame):
    halves = (pa.Table.from_pandas(half, preserve_index=False) for half in (frame[:7], frame[7:]))
    return pa.concat_tables(halves)


TABLES = {
    "polars": pl.from_pandas,
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "record batch": lambda frame: pa.RecordBatch.from_pandas(frame, preserve_index=False),
    "chunked": in_two_chunks,
}
COLUMNS = {
    "polars": pl.Series("note", NOTES),
    "polars without a name": pl.Series(NOTES),
    "polars categories": pl.Series("note", NOTES, dtype=pl.Categorical),
    "arrow": pa.array(NOTES),
    "arrow dictionary": pa.array(NOTES).dictionary_encode(),
    "chunked": pa.chunked_array([NOTES[:7], NOTES[7:]]),
}


@pytest.fixture(params=["language model", "words", "naive Bayes", "cleaner"])
def encoder(request, note_encoder):
    if request.param == "language model":
        return note_encoder()
    if request.param == "words":
        return NoteWordEncoder(2, random_state=0)
    return NaiveBayesNoteEncoder(random_state=0) if request.param[0] == "n" else NoteCleaner()


@pytest.mark.parametrize("columns", [["note"], ["note", "plan"]], ids=["one", "two"])
@pytest.mark.parametrize("kind", TABLES)
def test_a_table_gives_what_pandas_gives(encoder, kind, columns):
    frame, table = FRAME[columns], TABLES[kind](FRAME[columns])
    expected = encoder.fit_transform(frame, Y)
    transformed = encoder.transform(frame)
    assert_array_equal(encoder.transform(table), transformed)
    assert_array_equal(encoder.fit_transform(table, TABLES[kind](Y)), expected)
    assert encoder.feature_names_in_.tolist() == columns
    assert_array_equal(encoder.transform(frame), transformed)


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_gives_what_pandas_gives(encoder, kind):
    expected = encoder.fit_transform(FRAME["note"], Y)
    assert_array_equal(encoder.fit_transform(COLUMNS[kind], Y), expected)
    named = getattr(COLUMNS[kind], "name", None) == "note"
    assert hasattr(encoder, "feature_names_in_") == named


def test_absent_notes_stay_absent():
    absent = [note is None or note == " " for note in NOTES]
    for column in COLUMNS.values():
        vectors = NoteWordEncoder(2, random_state=0).fit_transform(column)
        assert np.isnan(vectors).all(axis=1).tolist() == absent


def test_another_name_than_in_fit_is_refused(encoder):
    encoder.fit(TABLES["polars"](FRAME[["note"]]), Y)
    with pytest.raises(ValueError, match=r"X has the text columns \['plan'\]"):
        encoder.transform(TABLES["arrow"](FRAME[["plan"]]))


def test_polars_output(encoder):
    expected = encoder.fit_transform(FRAME, Y)
    encoder.set_output(transform="polars")
    found = encoder.fit_transform(TABLES["polars"](FRAME), Y)
    assert isinstance(found, pl.DataFrame)
    assert found.columns == encoder.get_feature_names_out().tolist()
    assert_array_equal(found.to_numpy(), expected)


def test_polars_passes_from_step_to_step():
    steps = (
        ColumnTransformer([("clean", NoteCleaner(), "note")]),
        NoteWordEncoder(2, random_state=0),
    )
    pipe = make_pipeline(*steps)
    expected = pipe.fit_transform(FRAME)
    pipe.set_output(transform="polars")
    assert_array_equal(pipe.fit_transform(TABLES["polars"](FRAME)).to_numpy(), expected)


def test_labels_and_groups_of_polars_and_arrow_fine_tune(note_encoder):
    groups = np.arange(len(NOTES)) // 2
    expected, *found = (
        note_encoder(fine_tuning="lora", max_epochs=1, random_state=0)
        .fit(FRAME[["note"]], y, groups=g)
        .validation_loss_
        for y, g in [
            (Y, groups),
            (pl.from_pandas(Y), pl.Series(groups)),
            (TABLES["arrow"](Y), pa.array(groups)),
        ]
    )
    assert found == [expected, expected]


def test_other_values_than_text_are_refused_and_not_shown():
    with pytest.raises(TypeError, match="X holds a int instead of text in row 0") as caught:
        NoteCleaner().fit(pl.Series([4711]))
    assert "4711" not in str(caught.value)
