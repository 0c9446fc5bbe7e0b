"""The method against its equations in plain numpy, computed from the weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import erf, expit, softmax
from scipy.stats import norm
from sklearn.base import clone
from skorch.utils import to_numpy

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse._nn.chunk_pooling import ChunkAttention, pool_chunks
from sklearn_medfuse._nn.fusion import ModalityTokens, information_loss
from sklearn_medfuse._nn.masked_autoencoder import LabBatch, MaskedLabAutoencoder, random_masking


def dense(layer, x):
    return x @ to_numpy(layer.weight).T + to_numpy(layer.bias)


def normed(layer, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + layer.eps)
    return scaled * to_numpy(layer.weight) + to_numpy(layer.bias)


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def attended(block, x, context=None, visible=None):
    """Multi-head attention, head by head, and the feed-forward layer; both with a skip."""
    source = normed(block.norm_query, x) if context is None else normed(block.norm_context, context)
    q = dense(block.query, normed(block.norm_query, x))
    k, v = np.split(dense(block.key_value, source), 2, axis=-1)
    heads = []
    for q_h, k_h, v_h in zip(
        *(np.split(part, block.n_heads, axis=-1) for part in (q, k, v)), strict=True
    ):
        scores = q_h @ k_h.swapaxes(1, 2) / np.sqrt(q_h.shape[-1])
        if visible is not None:
            scores = np.where(visible[:, None, :], scores, -np.inf)
        heads.append(softmax(scores, axis=-1) @ v_h)
    x = x + dense(block.output, np.concatenate(heads, axis=-1))
    first, _, second = block.feed_forward
    return x + dense(second, gelu(dense(first, normed(block.norm_feed_forward, x))))


# The disentangled transformer


def equations(net, blocks, present):
    """Parts [f_A(S_A), f_B(S_B), …, S_C] and logits of rows, one row after the other."""
    parts, logits = [], []
    for row, here in enumerate(present):
        A = []
        for modality, block, there in zip(net.modalities, blocks, here, strict=True):
            tokens = dense(modality.project, block[row]) if there else to_numpy(modality.absent)
            A.append(tokens.reshape(1, net.n_tokens, net.d_model))
        # S_A = SelfAttn(A), S_B = SelfAttn(B)
        S = [attended(layer, own) for layer, own in zip(net.self_attention, A, strict=True)]
        # C = A ⊗ B, of every pair
        vectors = [dense(f, own.ravel()) for f, own in zip(net.kronecker.project, A, strict=True)]
        products = [
            np.kron(vectors[i], vectors[j]) for i in range(len(A)) for j in range(i + 1, len(A))
        ]
        C = dense(net.kronecker.joint, np.concatenate(products)).reshape(A[0].shape)
        # S_C = CrossAttn(query = C, key/value = S_A + S_B), of what is there
        counted = here if any(here) else [True] * len(A)
        total = sum(own for own, there in zip(S, counted, strict=True) if there)
        S_C = attended(net.cross_attention, C, context=total)
        # h = [f_A(S_A), f_B(S_B), S_C]
        h = []
        for f, tokens, own in zip(net.specific, A, S, strict=True):
            norm_, layer, _ = f.dense
            through = gelu(dense(layer, normed(norm_, own.mean(axis=1))))
            h.append(normed(f.norm, through + dense(f.skip, tokens.reshape(1, -1)))[0])
        h.append(normed(net.norm_shared, S_C.mean(axis=1))[0])
        parts.append(h)
        logits.append(dense(net.head, np.concatenate(h)))
    return [np.stack(part) for part in zip(*parts, strict=True)], np.stack(logits)


def test_input_tokens_are_pooled_by_learned_queries():
    """Token k is W x_k + b + position_k; a token that is NaN is not attended to."""
    rng = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = ModalityTokens(3, 8, 2, n_tokens=2, dropout=0.0, n_input_tokens=4)
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    layer.double().requires_grad_(False)
    block = rng.normal(size=(2, 4, 3))
    block[1, [0, 2]] = np.nan
    found = layer(torch.tensor(block), torch.ones(2, dtype=torch.bool))
    tokens = dense(layer.project, np.nan_to_num(block)) + to_numpy(layer.position)
    queries = np.stack([to_numpy(layer.queries)] * 2)
    visible = ~np.isnan(block).any(axis=2)
    expected = attended(layer.pool, queries, context=tokens, visible=visible)
    np.testing.assert_allclose(to_numpy(found), expected, atol=1e-9)


def linear_equation(skip, blocks, present):
    """β_0 + β_A·A + β_B·B of rows, or what a modality's absence adds."""
    logits = np.tile(to_numpy(skip.bias), (len(present), 1))
    start = 0
    for block, there in zip(blocks, present.T, strict=True):
        beta = to_numpy(skip.coef)[start : start + block.shape[1] + 1]
        start += len(beta)
        logits += np.where(there[:, None], block @ beta[:-1] / np.sqrt(block.shape[1]), beta[-1])
    return logits


def cross_entropy(logits, y):
    p = expit(logits)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()


def gaussian_log_q(critic, x, y):
    """Log q(y | x) of one pair."""
    hidden = gelu(dense(critic.body[0], x))
    log_variance = 4 * np.tanh(dense(critic.log_variance, hidden) / 4)
    return norm.logpdf(y, dense(critic.mean, hidden), np.exp(log_variance / 2)).sum()


def vclub(critic, x, y):
    """E_p(x,y)[log q(y|x)] - E_p(x) E_p(y)[log q(y|x)], pair by pair."""
    rows = range(len(x))
    log_q = np.array([[gaussian_log_q(critic, x[i], y[j]) for j in rows] for i in rows])
    return np.diag(log_q).mean() - log_q.mean()


def untrained(widths, y, **params):
    """A net of the classifier, in float64, with weights away from their initial symmetry."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(len(y), sum(widths)))
    modalities = {f"modality {m}": width for m, width in enumerate(widths)}
    classifier = MEDFuseClassifier(
        modalities=modalities, d_model=8, n_heads=2, n_tokens=2, dropout=0.0, n_estimators=2
    ).set_params(max_epochs=1, precision="float64", random_state=0, **params)
    net = clone(classifier).fit(X, y).net_
    net.module_.double().requires_grad_(True)
    blocks = np.split(X, np.cumsum(widths)[:-1], axis=1)
    return net, blocks


ABSENCES = {
    2: [[1, 1], [1, 0], [0, 1], [0, 0], [1, 1], [1, 1], [1, 0]],
    3: [[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 1, 0]],
}


@pytest.mark.parametrize("widths", [(3, 5), (3, 5, 4)])
@pytest.mark.parametrize("all_present", [True, False])
@pytest.mark.parametrize("w", [0, 0.25])
def test_parts_logits_bound_and_loss_are_those_of_the_paper(widths, all_present, w):
    y = np.random.default_rng(1).integers(0, 2, (7, 3))
    y[:2] = [[0, 1, 0], [1, 0, 1]]
    net, blocks = untrained(widths, y, mi_weight=0.7, linear_weight=w)
    present = np.array(ABSENCES[len(widths)], dtype=bool) | all_present
    tensors = [torch.tensor(np.where(present[:, [m]], own, np.nan)) for m, own in enumerate(blocks)]
    weight = torch.ones(7, dtype=torch.float64)
    X = {"present": torch.tensor(present), "row_weight": weight}
    X["cell_weight"] = weight[:, None].expand(7, 3)
    target = torch.tensor(y, dtype=torch.float64)
    part = SimpleNamespace(blocks=tensors, X=X, y=target, share=1.0, weight_share=1.0)
    if w:
        net.module_.linear.coef.normal_(generator=torch.Generator().manual_seed(2))
        linear = linear_equation(net.module_.linear, blocks, present)
    members = net.module_.forward_parts(tensors, X["present"])
    loss, prediction, logits = net.loss_of(part, members)

    expected_prediction, expected_information, mean_logits = 0.0, 0.0, 0.0
    for m, (fusion, critic) in enumerate(zip(net.module_.fusion, net.module_.critic, strict=True)):
        h, expected_logits = equations(fusion, blocks, present)
        for found, expected in zip(members[m].vectors(), h, strict=True):
            np.testing.assert_allclose(to_numpy(found), expected, atol=1e-9)
        np.testing.assert_allclose(to_numpy(logits[m]), expected_logits, atol=1e-9)
        mean_logits = mean_logits + expected_logits / 2
        alone = cross_entropy(expected_logits, y)
        if w:
            mixed = cross_entropy((1 - w) * expected_logits + w * linear, y)
            expected_prediction += (alone + mixed) / 2
        else:
            expected_prediction += alone
        bound = vclub(critic, np.hstack(h[:-1]), h[-1])
        found = net.module_.mutual_information(members)[m].item()
        assert found == pytest.approx(bound, abs=1e-9)
        expected_information += max(bound, 0.0)
    assert prediction.item() == pytest.approx(expected_prediction)
    # A prediction is (1 - w) · the mean of the members + w · the linear part
    expected_logits = (1 - w) * mean_logits + (w * linear if w else 0)
    found = to_numpy(net.module_(tensors, X["present"]))
    np.testing.assert_allclose(found, expected_logits, atol=1e-9)
    # λ weighs the bound in nats
    assert loss.item() == pytest.approx(expected_prediction + 0.7 * expected_information)


def test_l_mi_is_the_sum_of_what_is_above_zero_in_nats():
    assert information_loss(torch.tensor([3.0, -5.0, 1.0])).item() == 4


# The masked autoencoder


def lab_net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MaskedLabAutoencoder(6, 3, d_model=8, n_heads=2, dropout=0.0, n_factors=2, n_layers=2)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        for model in (net.prior.of_values, net.prior.of_scores):
            torch.nn.init.normal_(model.loadings)
            torch.nn.init.normal_(model.mean)
            torch.nn.init.uniform_(model.noise, 0.2, 1.0)
        net.prior.values_at.copy_(torch.randn(6, 57).sort(dim=1).values)
    return net.double().requires_grad_(False)


def lab_table(seed=0, shape=(5, 6)):
    """Standardised values and scores, NaN where not measured; a row with few and one with all."""
    rng = np.random.default_rng(seed)
    value = rng.normal(size=shape) * 2
    value[rng.random(shape) < 0.3] = np.nan
    value[0], value[1] = np.nan, rng.normal(size=6)
    value[0, [1, 4]] = 0.5, -1.5
    value[1, 3] = 9.0  # Beyond the quadratic part of the loss
    return value, np.tanh(value)


def packed(value, score, cells):
    """A batch of the cells (bool like value) that holds garbage in its padding."""
    width = cells.sum(axis=1).max()
    lab = np.zeros((len(value), width), dtype=np.int64)
    parts = np.full((2, len(value), width), np.nan)
    measured = np.zeros((len(value), width), dtype=bool)
    for row in range(len(value)):
        at = np.flatnonzero(cells[row])
        lab[row, : len(at)], measured[row, : len(at)] = at, True
        parts[:, row, : len(at)] = value[row, at], score[row, at]
    return LabBatch(*(torch.tensor(part) for part in (lab, *parts, measured)))


def factors_of(model, lab, z):
    """E[f] and covariance of the factors, given the visible cells."""
    W, psi = to_numpy(model.loadings[-1])[lab], to_numpy(model.noise)[lab]
    covariance = np.linalg.inv(np.eye(W.shape[1]) + W.T @ np.diag(1 / psi) @ W)
    return covariance @ W.T @ ((z - to_numpy(model.mean[-1])[lab]) / psi), covariance


def linear_prediction(prior, lab, value, score, asked):
    """Mean of what Gaussian factors of values and of ranks predict, and E[f] of both."""
    f, _ = factors_of(prior.of_values, lab, value)
    W, mu = to_numpy(prior.of_values.loadings[-1]), to_numpy(prior.of_values.mean[-1])
    of_values = mu[asked] + W[asked] @ f
    g, covariance = factors_of(prior.of_scores, lab, score)
    W, mu = to_numpy(prior.of_scores.loadings[-1]), to_numpy(prior.of_scores.mean[-1])
    psi = to_numpy(prior.of_scores.noise)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    at, of_scores = np.linspace(-3.5, 3.5, 57), []
    for j in asked:
        deviation = np.sqrt(W[j] @ covariance @ W[j] + psi[j])
        curve = np.interp(mu[j] + W[j] @ g + nodes * deviation, at, to_numpy(prior.values_at[j]))
        of_scores.append(weights @ curve / weights.sum())
    return (of_values + of_scores) / 2, np.concatenate([f, g])


def predict_row(net, lab, value, score, asked):
    """Both predictions of the labs `asked` from the visible cells of one row."""
    linear, known = linear_prediction(net.prior, lab, value, score, asked)
    first = to_numpy(net.summary_token) + dense(net.factor_token, known)
    angle = 2 * np.pi * score[:, None] * to_numpy(net.tokens.frequencies)
    tokens = to_numpy(net.tokens.identity.weight)[lab] + dense(
        net.tokens.periodic, np.hstack([np.sin(angle), np.cos(angle)])
    )
    tokens = tokens + value[:, None] * to_numpy(net.tokens.direction.weight)[lab]
    tokens = tokens + score[:, None] * to_numpy(net.tokens.score_direction.weight)[lab]
    tokens = np.vstack([first, tokens])[None]
    for block in net.encoder:
        tokens = attended(block, tokens)
    tokens = normed(net.norm, tokens)
    summary = dense(net.summarise, np.concatenate([tokens[0, 0], known]))
    query = to_numpy(net.query.weight)[asked][None]
    for block in net.decoder:
        query = attended(block, query, context=tokens)
    norm_, to_value = net.head
    value = linear + dense(to_value, normed(norm_, query))[0, :, 0]
    offset = to_numpy(net.offset.weight)[asked, 0]
    return value, to_numpy(net.loadings.weight)[asked] @ summary + offset


def huber(error):
    size = np.abs(error)
    return np.where(size < 4, error**2 / 2, 4 * (size - 2))


def test_the_masked_autoencoder_learns_from_hidden_cells_alone():
    net = lab_net()
    value, score = lab_table()
    measured = ~np.isnan(value)
    generator = torch.Generator().manual_seed(0)
    whole = packed(value, score, measured)
    visible, hidden = random_masking(whole, torch.full((5,), 0.75), generator)
    total, count, predictions = 0.0, 0, []
    for row in range(5):
        seen, asked = (to_numpy(part.lab[row][part.measured[row]]) for part in (visible, hidden))
        assert sorted([*seen, *asked]) == np.flatnonzero(measured[row]).tolist()
        found = predict_row(net, seen, value[row, seen], score[row, seen], asked)
        predictions.append(found)
        total += (huber(found[0] - value[row, asked])).sum()
        total += 0.5 * huber(found[1] - value[row, asked]).sum()
        count += len(asked)
    assert net(visible, hidden).item() == pytest.approx(total / count)
    # Hidden values reach the loss only, those that nobody measured nothing
    poisoned = hidden._replace(value=hidden.value * 0 + 1e6, score=hidden.score * np.nan)
    for batch in (hidden, poisoned):
        both = net.forward_decoder(net.forward_encoder(visible), batch.lab)
        for row, expected in enumerate(predictions):
            for found, own in zip(both, expected, strict=True):
                found = to_numpy(found[row][hidden.measured[row]])
                np.testing.assert_allclose(found, own, atol=1e-9)


# Chunk pooling


@pytest.mark.parametrize("how", ["mean", "weighted", "max", "attention"])
def test_chunks_are_pooled_by_their_equation(how):
    rng = np.random.default_rng(0)
    chunks, tokens = rng.normal(size=(7, 4)), rng.integers(1, 500, 7).astype(float)
    note = np.array([2, 0, 2, 0, 2, 3, 0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = ChunkAttention(4, 5).double().requires_grad_(False)
        torch.nn.init.normal_(attention.score.weight)
    arguments = torch.tensor(chunks), torch.tensor(note), 4
    found = (
        attention(*arguments)
        if how == "attention"
        else pool_chunks(*arguments, torch.tensor(tokens), how)
    )
    assert found[1].isnan().all()
    for each in (0, 2, 3):
        own = chunks[note == each]
        score = np.tanh(dense(attention.hidden, own)) @ to_numpy(attention.score.weight)[0]
        expected = {
            "mean": own.mean(axis=0),
            "weighted": tokens[note == each] @ own / tokens[note == each].sum(),
            "max": own.max(axis=0),
            "attention": softmax(score) @ own,
        }
        np.testing.assert_allclose(to_numpy(found[each]), expected[how])
