"""Do odd labs, notes and labels end in a right result or in a ValueError or TypeError of ours?

    python benchmarks/hardening_storms.py --examples 1000

Each example goes through a whole pipeline, fit to predict_proba, and labs alone through
`MaskedLabEncoder`. Counted is how it ended; an end of another kind is printed with its message.
"""

import argparse
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from sklearn.base import clone

sys.path.insert(0, str(Path(__file__).parent))
from hardening_common import save_tiny_bert
from hardening_strategies import LABS, NAME, NOTE, VALUE, lab_matrix, stays
from hardening_targets import note_encoder

from sklearn_medfuse import MaskedLabEncoder, make_medfuse_pipeline

LAB_NET = {"d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 1, "device": "cpu"}
FUSE = {"d_model": 8, "n_heads": 2, "n_estimators": 1, "max_epochs": 1, "device": "cpu"}
# scikit-learn looks at tables through narwhals
OURS = ("/sklearn_medfuse/", "/sklearn/", "/narwhals/")


def tiny_pipeline(model):
    """A pipeline of the tiny model in a folder."""
    return make_medfuse_pipeline(
        LABS,
        NOTE,
        lab_encoder=MaskedLabEncoder(4, n_factors=2, **LAB_NET),
        note_encoder=note_encoder(model),
        random_state=0,
        **FUSE,
    )


def through_pipeline(pipe, X, y, X_new):
    """Fit, predict, and say what is wrong with the result; None where nothing is."""
    pipe = clone(pipe).fit(X, y)
    probabilities, predicted = pipe.predict_proba(X_new), pipe.predict(X_new)
    shape = np.shape(y)
    width = shape[1] if len(shape) == 2 and shape[1] > 1 else len(pipe["medfuse"].classes_)
    if probabilities.shape != (len(X_new), width) or len(predicted) != len(X_new):
        return f"shape {probabilities.shape} of {len(X_new)} stays and labels of shape {shape}"
    if not (np.isfinite(probabilities).all() and (abs(probabilities - 0.5) <= 0.5 + 1e-9).all()):
        return "probabilities that are none"
    return None


def through_encoder(X):
    """Fit, embed, impute, and say what is wrong with the result; None where nothing is."""
    encoder = MaskedLabEncoder(4, n_factors=2, random_state=0, **LAB_NET).fit(X)
    embedding, filled = encoder.transform(X), encoder.impute(X)
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    if embedding.shape != (n, 4) or np.isinf(embedding).any():
        return "an embedding that is none"
    dense = filled.toarray() if hasattr(filled, "toarray") else np.asarray(filled, dtype=float)
    return None if dense.shape[0] == n and not np.isnan(dense).any() else "gaps after impute"


def end_of(function, *args):
    """How a call ended: (kind, detail); kinds that begin with a capital are failures."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # for their place
        warnings.simplefilter("error", RuntimeWarning)
        try:
            problem = function(*args)
            end = ("result", "") if problem is None else ("WRONG RESULT", problem)
        except (ValueError, TypeError) as error:
            end = _of_error(error)
        except RuntimeWarning as error:
            end = ("RUNTIME WARNING", _where(error))
        except Exception as error:
            end = ("OTHER ERROR", _where(error))
    for warning in caught:
        if _tells(str(warning.message)):
            return "WARNING TELLS DATA", str(warning.message)[:300]
    return end


def _of_error(error):
    each = error
    while each is not None:
        if _tells(str(each)):
            return "ERROR TELLS DATA", _where(each)
        # what Python prints, and reports of errors send on
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    if any(place in last for place in OURS):
        return f"refused, {type(error).__name__}", ""
    return "FOREIGN ERROR", _where(error)


def _tells(message):
    return NAME in message or str(VALUE) in message or "31337" in message


def _where(error):
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        f"{Path(f.filename).name}:{f.lineno}" for f in frames if "sklearn_medfuse/" in f.filename
    ]
    last = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__} at {' '.join(ours[-3:])} … {last}: {str(error)[:200]}"


def storm(strategy, function, n_examples, seed_of_draws=0):
    """Ends of so many examples: a Counter of kinds, and an example's detail of each failure."""
    ends, details = Counter(), {}

    @seed(seed_of_draws)
    @settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(example):
        kind, detail = end_of(function, example)
        ends[kind] += 1
        if kind.isupper():
            details.setdefault((kind, detail), 0)
            details[kind, detail] += 1

    run()
    return ends, details


def main():
    """Run both storms and print how the examples ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        pipe = tiny_pipeline(save_tiny_bert(folder))
        storms = {
            "pipeline": (stays(), lambda example: through_pipeline(pipe, *example)),
            "labs alone": (lab_matrix(), through_encoder),
        }
        for name, (strategy, function) in storms.items():
            ends, details = storm(strategy, function, options.examples, options.seed)
            print(name, dict(ends.most_common()), flush=True)
            failed += sum(details.values())
            for (kind, detail), count in sorted(details.items(), key=lambda item: -item[1]):
                print(f"  {count:4} {kind}: {detail}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
