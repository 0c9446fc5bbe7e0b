"""Can somebody who has the model and a stay tell whether the stay was trained on?

Half of the patients of the bundled ICU stays are members: encoders (labs, frozen notes, words) and
classifiers are fitted on their stays alone; then the halves change places. Two attacks ask of every
stay, with its true labels known, whether it is a member's:

- loss: the mean log loss of the stay's labels, low for members (Yeom et al. 2018);
- likelihood: the attacker knows half of the members and half of the others, fits a Gaussian to the
  logit of the true label's probability of either, for each label and value, and adds up the log
  ratios of the rest (as Carlini et al. 2022, without shadow models).

AUC 0.5 is a guess, 1.0 is certainty; beside it the share of members found where 1 % of the others
are accused. The lab encoder is attacked by its error on hidden results, too. A net trained until it
knows its rows by heart shows what the attacks can find, and members that are drawn at random, who
cannot be told, that the attacks do not see what is not there.

    python benchmarks/membership.py [--seeds 0 1 2]
"""

import argparse

import numpy as np
import pandas as pd
from common import load_stays
from scipy.special import logit
from scipy.stats import norm
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_medfuse import MEDFuseClassifier, make_medfuse_pipeline
from sklearn_medfuse.metrics import multilabel_report
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

SCALING = {"words": "block"}
FEWEST_TO_FIT = 5


def logistic(C):
    """Reference on the same vectors: an absent modality at the mean, columns standardised."""
    regression = OneVsRestClassifier(LogisticRegression(C=C, max_iter=2000))
    return make_pipeline(SimpleImputer(), StandardScaler(), regression)


def make_models(seed):
    """Name → unfitted classifier of encoded stays."""
    options = {"input_scaling": SCALING, "random_state": seed}
    by_heart = {"linear_weight": 0.0, "dropout": 0.0, "weight_decay": 0.0, "max_epochs": 60}
    return {
        "MEDFuse": MEDFuseClassifier(**options),
        "MEDFuse, linear_weight=0": MEDFuseClassifier(**options, linear_weight=0.0),
        "MEDFuse, sigmoid": MEDFuseClassifier(**options, calibration="sigmoid"),
        "logistic regression, C=0.003": logistic(0.003),
        "logistic regression, C=1": logistic(1.0),
        "MEDFuse by heart": MEDFuseClassifier(**options, **by_heart),
    }


def true_logits(y, probability):
    """Logit of the probability of what is true, (n_stays, n_labels)."""
    of_one = logit(np.clip(probability, 1e-7, 1 - 1e-7))
    return np.where(y == 1, of_one, -of_one)


def log_loss(confidence):
    """Mean log loss of each stay's labels."""
    return np.logaddexp(0, -confidence).mean(axis=1)


def likelihood_scores(y, confidence, member, patients, rng):
    """Log likelihood ratio of being a member; each patient is judged by what others have shown."""
    names = np.unique(patients)
    known_first = np.isin(patients, names[rng.permutation(len(names)) % 2 == 0])
    score = np.zeros(len(y))
    for known in (known_first, ~known_first):
        for label in range(y.shape[1]):
            for value in (0, 1):
                cell = y[:, label] == value
                sides = [confidence[known & cell & (member == side), label] for side in (1, 0)]
                if min(map(len, sides)) < FEWEST_TO_FIT:
                    continue
                judged = ~known & cell
                inside, outside = (
                    norm.logpdf(confidence[judged, label], side.mean(), side.std() + 0.05)
                    for side in sides
                )
                score[judged] += inside - outside
    return score


def found_at_one_percent(member, score):
    """Share of members found where 1 % of the others are accused."""
    false_rate, true_rate, _ = roc_curve(member, score)
    return true_rate[false_rate <= 0.01].max()


def attack(y, probability, member, patients, rng):
    """What both attacks find, and how well the model predicts on either side."""
    confidence = true_logits(y, probability)
    scores = {
        "loss": -log_loss(confidence),
        "likelihood": likelihood_scores(y, confidence, member, patients, rng),
    }
    row = {}
    for name, score in scores.items():
        row[f"{name} AUC"] = roc_auc_score(member, score)
        row[f"{name} found at 1 %"] = found_at_one_percent(member, score)
    for name, side in (("members", member == 1), ("others", member == 0)):
        report = multilabel_report(y[side], probability[side], metrics=("auroc",), n_bootstraps=0)
        row[f"AUROC {name}"] = report.loc["macro", "auroc"]
    return row


def attack_labs(encoder, labs, member):
    """Tell members by how well the encoder predicts their hidden results."""
    scale = pd.Series(encoder.scale_, encoder.feature_names_in_)
    error = np.full(len(labs), np.nan)
    for i in range(len(labs)):
        cells = encoder.reconstruct(labs.iloc[[i]])
        if len(cells):
            off = (cells["true"] - cells["predicted"]) / scale[cells["lab"]].to_numpy()
            error[i] = np.log1p(off.abs()).mean()
    there = ~np.isnan(error)
    return {
        "loss AUC": roc_auc_score(member[there], -error[there]),
        "loss found at 1 %": found_at_one_percent(member[there], -error[there]),
    }


def run(cohort, seed):
    """Yield (model, figures) of both halves of a seed."""
    y, patients = cohort.y.to_numpy(), np.asarray(cohort.groups)
    halves = MultilabelStratifiedGroupKFold(2, shuffle=True, random_state=seed)
    for inside, _ in halves.split(cohort.X, cohort.y, groups=patients):
        member = np.zeros(len(y), dtype=int)
        member[inside] = 1
        encode = make_medfuse_pipeline(
            cohort.lab_columns, cohort.note_column, views={"words": True}, random_state=seed
        ).named_steps["encode"]
        encode.fit(cohort.X.iloc[inside])
        Z = encode.transform(cohort.X)
        rng = np.random.default_rng(seed)
        for name, model in make_models(seed).items():
            probability = model.fit(Z.iloc[inside], y[inside]).predict_proba(Z)
            yield name, attack(y, probability, member, patients, rng)
            if name == "MEDFuse":
                drawn = np.isin(patients, rng.permutation(np.unique(patients))[::2]).astype(int)
                yield (
                    "MEDFuse, members drawn at random",
                    attack(y, probability, drawn, patients, rng),
                )
        labs = encode.named_transformers_["labs"]
        yield "MaskedLabEncoder alone", attack_labs(labs, cohort.X[cohort.lab_columns], member)


def main():
    """Print mean and range over seeds and halves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    cohort = load_stays()
    print(cohort, flush=True)
    rows = []
    for seed in options.seeds:
        for name, figures in run(cohort, seed):
            rows.append({"model": name, **figures})
        print(f"seed {seed} done", flush=True)
    table = pd.DataFrame(rows).groupby("model", sort=False)
    summary = table.mean().map("{:.3f}".format)
    for name in ("loss AUC", "likelihood AUC"):
        low, high = table[name].min(), table[name].max()
        summary[name] += [f" [{a:.3f}, {b:.3f}]" for a, b in zip(low, high, strict=True)]
    print(f"\nmean over {len(options.seeds)} seeds and both halves, least and most in brackets")
    print(summary.replace("nan", "").to_string())


if __name__ == "__main__":
    main()
