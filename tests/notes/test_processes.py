"""Processes that fine-tune together end with one adapter, that of the same steps in one process."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.notes._fine_tuning import Processes

N_PROCESSES = 2
# The launcher takes PartialState's word for what a process runs on: here a part of the CPU
LAUNCHER = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(N_PROCESSES)]
LAUNCHER += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCHER += ["--main_process_port", "0"]

START = """
import pickle, sys
from pathlib import Path
from accelerate import PartialState

state = PartialState(cpu=True)
folder = Path(sys.argv[1])
encoder, notes, y, groups = pickle.loads((folder / "fit.pickle").read_bytes())
found = {}
"""
WATCHED_FIT = """
from sklearn_medfuse._checkpoint import Checkpoint
from sklearn_medfuse.notes._fine_tuning import Training

found = {"saves": 0}
save = Checkpoint.save

def watched_save(self, state):
    found["saves"] += 1
    save(self, state)

Checkpoint.save = watched_save
encoder.fit(notes, y, groups=groups)
Checkpoint.save = save
found["encoder"] = encoder
"""
INTERRUPTED_FIT = """
run_epoch = Training.run_epoch

def stop(self, epoch, bar):
    if epoch == 2:
        raise KeyboardInterrupt
    run_epoch(self, epoch, bar)

# Only the main process sees the folder
again = pickle.loads((folder / "fit.pickle").read_bytes())[0]
again.set_params(checkpoint_dir=folder / f"resumed {state.process_index}")
Training.run_epoch = stop
try:
    again.fit(notes, y, groups=groups)
except KeyboardInterrupt:
    found["files"] = len(list((folder / f"resumed {state.process_index}").glob("*")))
epochs = []
Training.run_epoch = lambda self, epoch, bar: (
    epochs.append(epoch) or run_epoch(self, epoch, bar)
)
again.fit(notes, y, groups=groups)
Training.run_epoch = run_epoch
found["epochs"], found["resumed"] = epochs, again
"""
UNSEEDED_FIT = """
again = pickle.loads((folder / "fit.pickle").read_bytes())[0]
again.set_params(random_state=None, checkpoint_dir=None, max_epochs=1).fit(notes, y, groups=groups)
found["unseeded"] = again
"""
OTHER_NOTES = """
again = pickle.loads((folder / "fit.pickle").read_bytes())[0]
try:
    again.fit(notes[state.process_index :], y[state.process_index :])
except ValueError as error:
    found["message"] = str(error)
"""
END = """
(folder / f"found {state.process_index}").write_bytes(pickle.dumps(found))
"""


def launch(folder, program, inputs):
    """Run a program in processes that join; give what each has found."""
    (folder / "fit.pickle").write_bytes(pickle.dumps(inputs))
    (folder / "program.py").write_text(START + program + END)
    command = [sys.executable, "-m", *LAUNCHER, str(folder / "program.py"), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, timeout=900, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    files = [folder / f"found {rank}" for rank in range(N_PROCESSES)]
    return [SimpleNamespace(**pickle.loads(file.read_bytes())) for file in files]


@pytest.fixture(scope="session")
def steady_bert(tiny_bert, tmp_path_factory):
    """Path of a random BERT without dropout, which would draw other units in each process."""
    folder = tmp_path_factory.mktemp("steady_bert") / "model"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="session")
def stays():
    """Forty-five notes, two labels that a word in them tells, fifteen groups."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (45, 2))
    notes = [f"{'zzz' if a else 'aaa'} and {'qqq' if b else 'bbb'}" for a, b in y]
    return notes, y, np.repeat(np.arange(15), 3)


@pytest.fixture(scope="session")
def tuned_encoder(steady_bert):
    def make(**params):
        defaults = {"fine_tuning": "lora", "random_state": 0, "learning_rate": 1e-2}
        # 36 notes to train on: 5 batches, so that the last step has one for the first process only
        defaults |= {"batch_size": 8, "validation_fraction": 0.2}
        defaults |= {"max_epochs": 4, "device": "cpu", "dtype": "float32"}
        return LLMNoteEncoder(steady_bert, **defaults | params)

    return make


@pytest.fixture(scope="session")
def launched(tuned_encoder, stays, tmp_path_factory):
    """What two processes find; they are launched once for all tests."""
    folder = tmp_path_factory.mktemp("launched")
    program = WATCHED_FIT + INTERRUPTED_FIT + UNSEEDED_FIT + OTHER_NOTES
    inputs = (tuned_encoder(checkpoint_dir=folder / "run"), *stays)
    found = launch(folder, program, inputs)
    return SimpleNamespace(main=found[0], other=found[1], left=list((folder / "run").iterdir()))


@pytest.fixture(scope="session")
def alone(tuned_encoder, stays):
    """One process that takes as many notes per step."""
    notes, y, groups = stays
    return tuned_encoder(gradient_accumulation=N_PROCESSES).fit(notes, y, groups=groups)


@pytest.mark.slow
def test_both_processes_end_with_the_same_adapter(launched):
    main, other = launched.main.encoder, launched.other.encoder
    assert main.tuned_data_ == other.tuned_data_
    assert main.validation_loss_ == other.validation_loss_


@pytest.mark.slow
def test_the_result_is_that_of_one_process_with_as_many_notes_per_step(
    launched, alone, tuned_encoder, stays
):
    notes = stays[0]
    found, expected = launched.main.encoder, alone
    np.testing.assert_allclose(found.validation_loss_, expected.validation_loss_, rtol=1e-4)
    np.testing.assert_allclose(found.transform(notes), expected.transform(notes), atol=1e-4)
    frozen = tuned_encoder(fine_tuning=None).fit_transform(notes)
    assert np.abs(expected.transform(notes) - frozen).max() > 1e-2


@pytest.mark.slow
def test_only_the_main_process_writes_checkpoints(launched):
    assert (launched.main.saves, launched.other.saves) == (4, 0)
    assert launched.left == []


@pytest.mark.slow
def test_interrupted_processes_go_on_from_the_main_ones_checkpoint(launched):
    assert (launched.main.files, launched.other.files) == (1, 0)
    for found in (launched.main, launched.other):
        assert found.epochs == [2, 3]
        assert found.resumed.tuned_data_ == launched.main.encoder.tuned_data_
        assert found.resumed.validation_loss_ == launched.main.encoder.validation_loss_


@pytest.mark.slow
def test_without_a_random_state_they_draw_the_same(launched):
    assert launched.main.unseeded.tuned_data_ == launched.other.unseeded.tuned_data_


@pytest.mark.slow
def test_processes_with_other_notes_are_refused(launched):
    for found in (launched.main, launched.other):
        assert "were not given the same model, notes" in found.message


def test_processes_that_were_not_joined_are_warned(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.warns(UserWarning, match="PartialState"):
        processes = Processes()
    assert (processes.size, processes.is_main) == (1, True)
