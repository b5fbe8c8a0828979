"""Where what is inside the models, and what is learnt of it, differs from the code that we learnt
from: layers, embeddings, attention, first weights.

Another part of `test_known_differences.py`, which see.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import term_cases
from distill_cases import STUDENT, pair
from model_cases import CASES, SMALL, batch_of, exact, model_of

import minidistil as md
from minidistil.cli.distill import PAPER
from minidistil.distill.objectives import (
    FeatureMapTransfer,
    HiddenMSE,
    ModelStates,
    PatientMSE,
    pairs_of,
)

OPS = md.backend("numpy", "float64")


def draw(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape)


def shown(L=2, C=8, N=5, seed=0, texts=1):
    """What a model of L layers shows: texts of N tokens, every layer's vectors at a level of its
    own."""
    hidden = tuple(draw(texts * N, C, seed=seed + i) + i for i in range(L + 1))
    rows = SimpleNamespace(bounds=N * np.arange(texts + 1))
    return ModelStates(hidden, {}, rows, SimpleNamespace(L=L, C=C, H=2))


# ---------------------------------------------------------------- what layers learn


def test_every_layer_is_told_the_mean_of_all_of_them():
    """MobileBERT's run_pretraining.py averages `teacher_hiddens`, the list, for `teacher_hidden`,
    one of it: a student's layer is drawn to the mean of every layer of the teacher, the embeddings
    with them. A student that has become its teacher still has a loss. Ours has none."""
    seen = shown()
    means = np.stack(seen.hidden).mean(axis=-1)  # (L+1,N)
    theirs = np.mean([(means - h.mean(axis=-1)) ** 2 for h in seen.hidden[1:]])
    assert theirs > 0.5
    assert FeatureMapTransfer().forward(seen, seen, {}, OPS)[0] == 0


def test_one_layer_at_a_time():
    """MobileBERT's layer_wise_learning_rate opens a layer for steps/L steps, makes it 0.1 after
    them, and as a gate asks for more than 0.5: one layer learns, the others not at all, and in step
    0 not even the first. Ours learn all the time; only the weights' sum is shared: each is over L.
    """
    steps, L = 12, 3

    def gate(layer, step):
        start = steps // L * layer
        return float(start < step <= start + steps // L)

    theirs = [sum(gate(layer, step) for layer in range(L)) for step in range(steps + 1)]
    assert theirs == [0.0] + [1.0] * steps
    student, teacher, config = term_cases.prepared("feature-maps")
    grads = md.distill_step(student, teacher, term_cases.batch(), config).grads
    for i in (0, 1):
        assert grads[f"bert.encoder.layer.{i}.output.LayerNorm.weight"].any()


def test_a_kl_that_is_a_cross_entropy():
    """What MobileBERT's code calls kl_divergence is −Σ t·ln s: the teacher's entropy stays in it,
    and a perfect student's loss is not 0. Ours has both, under their names."""
    q, k = draw(5, 6), draw(5, 6, seed=1)
    how = {"target_q": q, "target_k": k, "bounds": np.array([0, 5]), "n_heads": 2}
    weights = np.array([1 / 10])
    theirs, ours = (
        OPS.relation.forward(q, k, **how, weights=weights, measure=m) for m in ("ce", "kl")
    )
    assert theirs[0] > 0.5 and ours[0] == pytest.approx(0, abs=1e-12)


def test_a_sum_that_is_a_mean():
    """PKD's paper sums the squared distances of [CLS] vectors over texts and layers (eq. 7); its
    code takes the mean over texts, layers and channels, and a weight β of 500 to make up for it:
    with 32 texts, 5 layers and 768 channels the two are 122,880 apart. Ours is the code's."""
    mine, theirs = shown(seed=3, texts=4), shown(L=4, seed=9, texts=4)
    term = PatientMSE(layers="uniform")
    first = mine.rows.bounds[:-1]
    unit = [
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for i, j in ((1, 2), (2, 4))
        for x in (mine.hidden[i][first], theirs.hidden[j][first])
    ]
    paper = sum(((a - b) ** 2).sum() for a, b in zip(unit[::2], unit[1::2], strict=True))
    assert paper / term.forward(mine, theirs, {}, OPS)[0] == pytest.approx(4 * 2 * 8)


def test_one_projection_where_the_paper_has_two():
    """TinyBERT's paper projects hidden states by W_h and embeddings by W_e (eq. 8, 9); its code has
    one fit_dense, with a bias, for all of them. Ours is the code's, or one for every layer."""
    small, large = SimpleNamespace(L=2, C=8), SimpleNamespace(L=4, C=12)
    code = HiddenMSE().shapes(small, large)
    assert code == {"project.weight": (12, 8), "project.bias": (12,)}
    each = HiddenMSE(projection="each").shapes(small, large)
    assert [n for n in each if n.endswith("weight")] == [f"project.{i}.weight" for i in range(3)]


def test_layers_counted_from_0_and_from_1():
    """TinyBERT's attentions are a list without the embeddings, its hidden states one with them, and
    its code says (i+1)·k − 1 for the one and i·k for the other. Both are our i ← i·k, from 1."""
    M, N = 4, 12
    k = N // M
    attentions = [(i + 1, (i * k + k - 1) + 1) for i in range(M)]
    hidden = [(i, i * k) for i in range(M + 1)]
    assert pairs_of("uniform", M, N) == tuple(attentions)
    assert pairs_of("uniform", M, N, embeddings=True) == tuple(hidden)


# ---------------------------------------------------------------- where a student begins


def test_the_lower_half_of_a_large_teacher():
    """extract.py copies layers 0, 2, 4, 7, 9 and 11 whatever the teacher's depth, and its default
    is roberta-large: of 24 layers nothing above the 12th arrives. Ours takes those of 12, and of
    any other depth every other one."""
    theirs = (0, 2, 4, 7, 9, 11)
    assert max(theirs) < 24 // 2
    assert PAPER[12] == theirs and 24 not in PAPER


def test_half_a_head_is_copied():
    """extract_distilbert.py always copies the decoder of the masked-LM head, its first layer and
    norm only with --vocab_transform. This one we share, and the option."""
    teacher = pair(size=SMALL, backend="numpy")[0]
    plain, whole = (md.student_from(teacher, (0, 1), vocab_transform=v) for v in (False, True))
    first = "cls.predictions.transform.dense.weight", "vocab_transform.weight"
    last = "cls.predictions.bias", "vocab_projector.bias"
    for student, same in ((plain, False), (whole, True)):
        for theirs, ours, expected in ((*first, same), (*last, True)):
            found = np.array_equal(teacher.params[theirs], student.params[ours])
            assert found is expected


# ---------------------------------------------------------------- networks


def test_no_dropout_behind_attention():
    """BERT drops values behind attention's last layer, DistilBERT does not: whoever writes one as
    the other trains another model, and sees it in no evaluation."""
    bert, distilbert = (model_of(CASES[f"{n}-mlm"], SMALL) for n in ("bert", "distilbert"))
    assert bert.config.architecture.drops_attention_output
    assert not distilbert.config.architecture.drops_attention_output


def test_two_functions_called_gelu():
    """x·Φ(x), and its tanh approximation, which GPT-2 has and BERT has not: up to 4.7e-4 apart for
    each value, which eleven more layers make visible."""
    x = np.linspace(-5, 5, 2001)[None]
    erf, tanh = (OPS.gelu.forward(x, approximate=a)[0] for a in ("none", "tanh"))
    assert abs(erf - tanh).max() == pytest.approx(4.7e-4, abs=1e-5)


def test_two_epsilons():
    """LayerNorm's ε is 1e-12 in BERT and DistilBERT, 1e-5 in RoBERTa's and GPT-2's checkpoints and
    in PyTorch's own LayerNorm: a vector of size 1e-3 comes out three times smaller."""
    x, one = draw(1, 768, scale=1e-3), np.ones(768)
    theirs, ours = (OPS.layernorm.forward(x, one, 0 * one, eps=e)[0] for e in (1e-5, 1e-12))
    assert (ours**2).mean() ** 0.5 == pytest.approx(1)
    assert (theirs**2).mean() ** 0.5 == pytest.approx(0.3, abs=0.01)
    assert model_of(STUDENT, SMALL).config.architecture.eps == 1e-12


def test_gamma_moves_before_its_gradient_is_used():
    """A BERT written from scratch updates γ inside the backward, and then multiplies by the new one
    for dx: every layer below learns from a model that was not there. Ours hands gradients out, and
    parameters are read-only."""
    x, gamma, beta, dy = draw(4, 6), 1 + draw(6, seed=1), draw(6, seed=2), draw(4, 6, seed=3)
    dx, dgamma, _ = OPS.layernorm.backward(dy, OPS.layernorm.forward(x, gamma, beta, eps=1e-12)[1])
    moved = OPS.layernorm.forward(x, gamma - 0.1 * dgamma, beta, eps=1e-12)[1]
    assert abs(OPS.layernorm.backward(dy, moved)[0] - dx).max() > 0.05
    with pytest.raises(ValueError, match="read-only"):
        model_of(STUDENT, SMALL).params["vocab_layer_norm.weight"][0] = 2


def test_a_tied_table_learns_twice():
    """The word table looks words up and, tied, scores them. Who adds up only the look-ups gives a
    word that no text has no gradient; it has one, for every word is scored."""
    model, batch = model_of(STUDENT, SMALL), batch_of(STUDENT, SMALL)
    unseen = np.setdiff1d(np.arange(1, SMALL["V"]), batch["input_ids"])
    assert len(unseen)
    out = model.forward(**batch)
    grads = model.backward(out)["distilbert.embeddings.word_embeddings.weight"]
    assert (abs(grads[unseen]).max(axis=1) > 1e-6).all()


def test_a_shared_layer_learns_at_each_of_its_turns():
    """ALBERT's layers are one, used L times: its gradient is the sum of those that L layers with
    the same weights would have. Who keeps the last one only has a share of it."""
    shared = exact(model_of(CASES["albert-mlm"]._replace(extra={"num_hidden_groups": 1}), SMALL))
    apart = exact(model_of(CASES["albert-mlm"]._replace(extra={"num_hidden_groups": 2}), SMALL))
    group = "albert.encoder.albert_layer_groups.{}."
    apart.update({n: shared.params[n.replace(group.format(1), group.format(0))]
                  for n in apart.params})  # fmt: skip
    batch = batch_of(CASES["albert-mlm"], SMALL)
    whole, parts = (m.backward(m.forward(**batch)) for m in (shared, apart))
    name = f"{group.format(0)}albert_layers.0.ffn.weight"
    first, last = (parts[name.replace(group.format(0), group.format(i))] for i in (0, 1))
    np.testing.assert_allclose(whole[name], first + last, rtol=1e-9, atol=1e-12)
    assert abs(whole[name] - last).max() > 0.1 * abs(whole[name]).max()


def test_padding_has_something_to_say():
    """transformers computes a vector for every padded column, which is not zero and which a loss
    without a mask counts. Ours are zeros, and real tokens have the same bits with and without."""
    model, batch = model_of(STUDENT, SMALL), batch_of(STUDENT, SMALL)
    ids, mask = batch["input_ids"][:, :6], np.ones((4, 6), np.int64)
    wide, longer = (np.pad(x, ((0, 0), (0, 3))) for x in (ids, mask))
    table = model.params["distilbert.embeddings.word_embeddings.weight"]
    assert table[0].any()  # what theirs starts from in a padded column
    narrow, padded = model.forward(ids, mask).logits, model.forward(wide, longer).logits
    np.testing.assert_array_equal(padded[:, :6], narrow)
    assert not padded[:, 6:].any()


def test_types_for_a_model_that_has_one():
    """run_squad_w_distillation.py sends token_type_ids to every model but DistilBERT. RoBERTa's
    table has one row, and a 1 is an index too far. Ours go to models with several alone."""
    case = CASES["roberta-mlm"]
    teacher, student, batch = pair(case, case, SMALL, "numpy")
    types = np.ones_like(batch["input_ids"])
    with pytest.raises(IndexError):
        teacher.params["roberta.embeddings.token_type_embeddings.weight"][types]
    with_types, without = (
        md.distill_step(student, teacher, given, md.DistillConfig()).loss
        for given in (batch | {"token_type_ids": types}, batch)
    )
    assert with_types == without
