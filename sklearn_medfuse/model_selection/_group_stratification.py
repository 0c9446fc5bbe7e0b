"""Spread groups over folds so that every label's positives are even: arrays in, folds out."""

import numpy as np

# Local improvement is bounded by work, not by rounds: about a second on one core. A large cohort
# of small groups reaches the bound early, but there the greedy step alone is already even.
_IMPROVEMENT_BUDGET = 300_000_000


def assign_folds(label_counts, group_sizes, n_folds, rng=None):
    """Choose a fold for every group.

    Iterative stratification (Sechidis et al. 2011) over groups instead of rows, then single moves
    and swaps of groups for as long as they make the folds more even.

    Parameters
    ----------
    label_counts : ndarray of shape (n_groups, n_labels)
        Positive rows of each label in each group.

    group_sizes : ndarray of shape (n_groups,)
        Rows of each group.

    n_folds : int
        Number of folds.

    rng : RandomState or None, default=None
        Decides the order of groups and of folds. None takes the largest groups first.

    Returns
    -------
    fold : ndarray of shape (n_groups,)
        The fold of each group.
    """
    order = np.arange(len(group_sizes)) if rng is None else rng.permutation(len(group_sizes))
    counts = np.column_stack([label_counts, group_sizes])[order].astype(float)

    fold = _iterative_stratification(counts, n_folds, largest_first=rng is None)
    _fill_empty_folds(fold, counts, n_folds)
    _improve(fold, _as_shares(counts), n_folds)
    if rng is not None:
        fold = rng.permutation(n_folds)[fold]

    original = np.empty_like(fold)
    original[order] = fold
    return original


def _iterative_stratification(counts, n_folds, largest_first):
    """Assign the groups of the rarest label first, each to the fold that lacks the label most.

    The last column of `counts` holds the rows of each group. It breaks ties between folds, and
    places the groups that have no positive label at all.
    """
    wanted = np.tile(counts.sum(axis=0) / n_folds, (n_folds, 1))
    remaining = counts.sum(axis=0)
    fold = np.full(len(counts), -1)

    while (fold < 0).any():
        labels = np.flatnonzero(remaining[:-1] > 0)
        rarest = labels[np.argmin(remaining[labels])] if len(labels) else -1
        members = np.flatnonzero((fold < 0) & (counts[:, rarest] > 0))
        if largest_first:
            members = members[np.lexsort((-counts[members, -1], -counts[members, rarest]))]
        for group in members:
            # lexsort's last key is the first criterion
            fold[group] = np.lexsort((-wanted[:, -1], -wanted[:, rarest]))[0]
            wanted[fold[group]] -= counts[group]
            remaining -= counts[group]
    return fold


def _fill_empty_folds(fold, counts, n_folds):
    """Give every empty fold the smallest group of the fold with most groups, in place.

    One label whose positives all lie in a few huge groups can leave a fold without any group.
    """
    for empty in np.setdiff1d(np.arange(n_folds), fold):
        members = np.flatnonzero(fold == np.argmax(np.bincount(fold, minlength=n_folds)))
        fold[members[np.argmin(counts[members, -1])]] = empty


def _as_shares(counts):
    """Scale each column to sum to one, so that rare and frequent labels weigh the same.

    Fold sizes weigh as much as all labels together.
    """
    totals = counts.sum(axis=0)
    shares = counts[:, totals > 0] / totals[totals > 0]
    shares[:, -1] *= np.sqrt(max(1, shares.shape[1] - 1))
    return shares


def _improve(fold, shares, n_folds):
    """Move or swap groups, in place, for as long as the folds become more even.

    Unevenness is :math:`\\sum_f \\lVert r_f \\rVert^2`, where :math:`r_f` is what fold f holds
    beyond its :math:`1/k` of every column. Giving fold b the change d that fold a loses alters it
    by :math:`2 d (r_b - r_a) + 2 d d`; d is one group's shares for a move, the difference of two
    groups' shares for a swap.
    """
    residual = np.zeros((n_folds, shares.shape[1]))
    np.add.at(residual, fold, shares)
    residual -= shares.sum(axis=0) / n_folds
    n_groups = np.bincount(fold, minlength=n_folds)
    squared = np.einsum("ij,ij->i", shares, shares)

    visits_left = _IMPROVEMENT_BUDGET // shares.size
    unchanged = 0
    group = 0
    while visits_left > 0 and unchanged < len(shares):
        change, target, partner = _best_change(group, fold, shares, squared, residual, n_groups)
        if change < -1e-12:
            _exchange(group, target, partner, fold, shares, residual, n_groups)
            unchanged = 0
        else:
            unchanged += 1
        group = (group + 1) % len(shares)
        visits_left -= 1


def _best_change(group, fold, shares, squared, residual, n_groups):
    """Find the move or swap of one group that lowers the unevenness most.

    Returns the change of unevenness, the group's new fold and, for a swap, the partner (else -1).
    """
    own = fold[group]
    difference = residual - residual[own]
    toward = difference @ shares[group]

    move = 2 * (toward + squared[group])
    move[own] = np.inf
    if n_groups[own] == 1:  # a fold is never emptied
        move[:] = np.inf
    target = int(np.argmin(move))

    partner_toward = np.einsum("ij,ij->i", shares, difference[fold])
    distance = squared + squared[group] - 2 * (shares @ shares[group])
    swap = 2 * (toward[fold] - partner_toward + distance)
    swap[fold == own] = np.inf
    partner = int(np.argmin(swap))

    if swap[partner] < move[target]:
        return swap[partner], int(fold[partner]), partner
    return move[target], target, -1


def _exchange(group, target, partner, fold, shares, residual, n_groups):
    """Carry out the move (partner -1) or swap that `_best_change` found, in place."""
    own = fold[group]
    change = shares[group].copy()
    if partner >= 0:
        change -= shares[partner]
        fold[partner] = own
    else:
        n_groups[own] -= 1
        n_groups[target] += 1
    fold[group] = target
    residual[own] -= change
    residual[target] += change
