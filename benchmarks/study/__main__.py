"""The study: MEDFuse, its parts and its peers on one cohort, resumable, with a page of tables.

Each model is chosen among as many candidates by the same search within two thirds of the hospitals
(patients, where the source tells no hospital) and predicts the last third, in a process of its own,
so that its memory can be told; what was predicted is kept as parquet and not predicted again. The
tables are FOLDER/results.rst, or stand between the marks of the page that --page names.

    python benchmarks/study --page docs/results.rst             # the bundled ICU stays
    python benchmarks/study --hospital FOLDER --folder artifacts/hospital --page docs/results.rst
    python benchmarks/study --mimic3 PATH --model ruslanmv/Medical-Llama3-8B --fine-tuning lora

FOLDER is for its owner alone and holds the cohort: with data of patients keep it where they are.
"""

import argparse
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from models import PACKAGES, model_names
from report import write_page
from settings import Settings, open_cohort, prediction_files, read_cohort


def parse(arguments=None):
    """Read the command line into folder, settings, seeds, names of models and page."""
    parser = argparse.ArgumentParser(prog="benchmarks/study", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("artifacts/study"))
    parser.add_argument("--mimic3", default=None, help="folder or database with MIMIC-III's tables")
    parser.add_argument("--index-time", default="48h", help="time of prediction, for --mimic3")
    parser.add_argument("--hospital", default=None, help="folder with clinosim's tables")
    parser.add_argument("--text", default=Settings.text, help="column of --hospital's notes")
    parser.add_argument("--model", default=None, help="note model by hub id, folder or GGUF file")
    parser.add_argument(
        "--fine-tuning", choices=["lora", "full"], default=None, help="tune the note model too"
    )
    parser.add_argument("--max-epochs", type=int, default=None, help="epochs of fine-tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 2, 3])
    parser.add_argument("--n-splits", type=int, default=3)
    parser.add_argument("--n-candidates", type=int, default=8, help="of each search; 1: none")
    parser.add_argument("--page", type=Path, default=None, help="where the tables are put")
    parser.add_argument("--models", nargs="+", default=None, help="parts of names of models")
    options = parser.parse_args(arguments)
    settings = Settings(**{own.name: getattr(options, own.name) for own in fields(Settings)})
    page = options.page or options.folder / "results.rst"
    return options.folder, settings, options.seeds, options.models, page


def chosen_models(settings, wanted):
    """Names of the models to run, and of those that lack a package."""
    known = model_names(settings)
    for part in wanted or ():
        if not any(part in name for name in known):
            raise SystemExit(f"No model has a name with {part!r}: {', '.join(known)}.")
    names = [name for name in known if wanted is None or any(part in name for part in wanted)]
    needed = {name: PACKAGES[name] for name in names if name in PACKAGES}
    lacking = {name: package for name, package in needed.items() if find_spec(package) is None}
    return [name for name in names if name not in lacking], lacking


def run(folder, name, seed, n_splits):
    """Predict the folds that are not there yet, in a new process."""
    if all(file.exists() for file in prediction_files(folder, name, seed, n_splits)):
        return True
    one_model = Path(__file__).with_name("one_model.py")
    done = subprocess.run([sys.executable, one_model, folder, name, str(seed)], check=False)
    return done.returncode == 0


def main(arguments=None):
    """Run what is missing, then write the tables."""
    folder, settings, seeds, wanted, page = parse(arguments)
    open_cohort(folder, settings)
    names, lacking = chosen_models(settings, wanted)
    for name, package in lacking.items():
        print(f"left out: {name}, as {package} is not installed", flush=True)
    failed = []
    for seed in seeds:
        for name in names:
            print(f"seed {seed}: {name}", flush=True)
            if not run(folder, name, seed, settings.n_splits):
                failed.append(f"{name}, seed {seed}")
    left_out = [f"{name} ({package} not installed)" for name, package in lacking.items()]
    write_page(page, folder, read_cohort(folder), settings, seeds, names, left_out + failed)
    print(f"tables: {page}")
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}. Run the same command to try again.")


if __name__ == "__main__":
    main()
