"""Every backward of the models is the transpose of its forward's derivative, in float64."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from model_cases import CASES, SMALL, batch_of, exact, model_of

import minidistil as md
from minidistil.model import encoder, heads, network
from minidistil.model.context import Context
from minidistil.model.rows import DropoutState, pack
from minidistil.model.taps import PLAIN, SQUARE
from minidistil.testing import check_backward

OPS = md.backend("numpy")
FAMILIES = ["bert-mlm", "roberta-mlm", "albert-mlm", "distilbert-mlm"]
TRAINING = {"train": True, "seed": 5, "step": 7, "first_sequence": 11}


def setting(name, dropped):
    """A model in float64, its rows for a batch with holes, a Context with dropout or without."""
    model, batch = exact(model_of(CASES[name], SMALL)), batch_of(CASES[name], SMALL)
    a = model.config.architecture
    types = batch.get("token_type_ids")
    rows = pack(batch["input_ids"], batch["attention_mask"], types, a)
    dropout_state = DropoutState(5, 7, rows.sequence, rows.column) if dropped else None
    return model, rows, Context(a, rows.bounds, OPS, dropout_state)


def check_function(forward, backward, params, x=None):
    """check_backward of a pure function of `params` (a dict) and, unless None, of x."""
    names, first = list(params), [] if x is None else [x]

    def forward_(*args):
        p = dict(zip(names, args[len(first) :], strict=True))
        return forward(*args[: len(first)], p)

    def backward_(dy, cache):
        result = backward(dy, cache)
        *dx, d = result if first else (result,)
        return [*dx, *(d[name] for name in names)]

    check_backward(forward_, backward_, [*first, *params.values()], np.random.default_rng(3))


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_that_are_released_give_the_same_gradients_and_hold_nothing(name):
    model, rows, _ = setting(name, False)
    given = model.canonical(), rows, model.config, "fill-mask", None, OPS
    grads = []
    for release in (False, True):
        result, cache = network.forward(*given)
        d = network.Cotangents((None,) * len(result.hidden), logits=np.ones_like(result.logits))
        grads.append(network.backward(d, cache, OPS, release=release))
        _, blocks = cache.body
        assert [block is None for block in blocks.caches] == [release] * len(blocks.group_of)
    for key, x in grads[0].items():
        np.testing.assert_array_equal(x, grads[1][key])


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings(name, dropped):
    model, rows, context = setting(name, dropped)
    check_function(
        lambda p: encoder.embed(rows, p, model.config.pad_token_id, context),
        lambda dy, cache: encoder.embed_backward(dy, cache, OPS),
        encoder.scope(model.canonical(), "embeddings"),
    )


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("name", [*FAMILIES, "bert-pretraining", "distilbert-body"])
def test_block(name, dropped):
    model, rows, context = setting(name, dropped)
    x = np.random.default_rng(1).normal(size=(len(rows.ids), context.architecture.C))
    check_function(
        lambda x, p: encoder.block(x, p, context.of_block(1)),
        lambda dy, cache: encoder.block_backward(dy, cache, OPS),
        encoder.scope(model.canonical(), "layer.1"),
        x,
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_masked_lm_head(name):
    model, rows, context = setting(name, False)
    x = np.random.default_rng(1).normal(size=(len(rows.ids), context.architecture.C))
    check_function(
        lambda x, p: heads.mlm_transform(x, p, context),
        lambda dy, cache: heads.mlm_transform_backward(dy, cache, OPS),
        {n: p for n, p in model.canonical().items() if n.startswith("transform")},
        x,
    )


@pytest.mark.parametrize(
    "name", ["bert-single", "roberta-single", "distilbert-single", "distilbert-regression"]
)
def test_pooler_and_classifier(name):
    model, rows, context = setting(name, True)
    context = context._replace(
        architecture=dataclasses.replace(context.architecture, classifier_dropout=0.4)
    ).of_rows(rows.bounds[:-1])
    x = np.random.default_rng(1).normal(size=(len(rows.ids), context.architecture.C))
    heads_ = model.heads

    def forward(x, p):
        pooled, pool = heads.pool(x, p, heads_[0], context)
        logits, classify = heads.classify(pooled, p, heads.CLASSIFIERS[heads_[1]], context)
        return logits, (pool, classify)

    def backward(dy, cache):
        pool, classify = cache
        dpooled, d = heads.classify_backward(dy, classify, OPS)
        dx, dpool = heads.pool_backward(dpooled, pool, OPS)
        return dx, d | dpool

    check_function(
        forward, backward, {n: p for n, p in model.canonical().items() if n.startswith(heads_)}, x
    )


# ---------------------------------------------------------------- whole models


def check_model(name, pick, differentiate, **options):
    """check_backward over all parameters.

    pick: Output -> array; differentiate: (backward, u) -> gradients; backward takes cotangents.
    """
    model, batch = exact(model_of(CASES[name], SMALL)), batch_of(CASES[name], SMALL)
    names = list(model.params)

    def forward(*args):
        model.update(dict(zip(names, args, strict=True)))
        out = model.forward(**batch, **options)
        return pick(out), out

    def backward(u, out):
        grads = differentiate(partial(model.backward, out), u)
        assert list(grads) == names
        return [grads[n] for n in names]

    args = list(model.params.values())
    check_backward(forward, backward, args, np.random.default_rng(8), tol=1e-6)


@pytest.mark.parametrize("options", [{}, TRAINING], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    "name, output",
    [
        ("bert-mlm", "logits"),
        ("bert-mlm", "last_hidden_state"),
        ("bert-pretraining", "seq_relationship_logits"),
        ("bert-body", "pooler_output"),
        ("albert-pretraining", "seq_relationship_logits"),
        ("roberta-single", "logits"),
        ("bert-single", "logits"),
        ("distilbert-mlm", "logits"),
        ("distilbert-body", "last_hidden_state"),
        ("distilbert-single", "logits"),
    ],
)
def test_output(name, output, options):
    check_model(
        name,
        lambda out: getattr(out, output),
        lambda backward, u: backward(**{f"d{output}": u}),
        **options,
    )


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if "body" not in n])
def test_loss(name):
    check_model(
        name,
        lambda out: out.loss,
        lambda backward, u: {n: u * g for n, g in backward().items()},
        **TRAINING,
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("part", PLAIN + SQUARE)
def test_tap(part, name):
    tap = f"layer.1.{part}"
    check_model(
        name,
        lambda out: out.taps[tap],
        lambda backward, u: backward(dtaps={tap: u}),
        taps=[tap],
        **TRAINING,
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_everything_at_once(name):
    """Cotangents into every hidden state, two taps and the logits add up."""
    taps = ("layer.0.scores", "layer.1.q")
    shapes = []

    def pick(out):
        arrays = [out.logits, *out.hidden_states, *(out.taps[t] for t in taps)]
        shapes[:] = [x.shape for x in arrays]
        return np.concatenate([x.ravel() for x in arrays])

    def differentiate(backward, u):
        ends = np.cumsum([np.prod(s) for s in shapes])
        logits, *hidden, s, q = (
            x.reshape(shape) for x, shape in zip(np.split(u, ends[:-1]), shapes, strict=True)
        )
        return backward(dlogits=logits, dhidden_states=hidden, dtaps={taps[0]: s, taps[1]: q})

    check_model(name, pick, differentiate, hidden_states=True, taps=taps, **TRAINING)


def test_both_doors_to_the_last_hidden_state_add_up():
    case = CASES["distilbert-body"]
    model, batch = exact(model_of(case, SMALL)), batch_of(case, SMALL)
    out = model.forward(**batch)
    u = np.random.default_rng(0).normal(size=out.last_hidden_state.shape)
    both = model.backward(out, dlast_hidden_state=u, dhidden_states=[None, None, 2 * u])
    once = model.backward(out, dlast_hidden_state=3 * u)
    for name, grad in once.items():
        np.testing.assert_allclose(both[name], grad, rtol=1e-9, atol=1e-12)


def test_cotangents_that_do_not_fit_are_refused():
    case = CASES["distilbert-mlm"]
    model, batch = model_of(case, SMALL), batch_of(case, SMALL)
    B, T = batch["input_ids"].shape
    C, F, H, V = (SMALL[letter] for letter in "CFHV")
    out = model.forward(**batch)
    wrong = {
        "dlogits": np.zeros((B, T, V - 1)),
        "dlast_hidden_state": np.zeros((B, C)),
        "dhidden_states": [None, None],
    }
    for name, dy in wrong.items():
        with pytest.raises(ValueError, match=name):
            model.backward(out, **{name: dy})
    for name, shape in {
        "layer.0.q": (B, T, F),
        "layer.0.lin1": (B, T, C),
        "layer.1.scores": (B, H, T, T - 1),
    }.items():
        with pytest.raises(ValueError, match=name):
            model.backward(out, dtaps={name: np.zeros(shape)})
    for name in ("layer.2.q", "layer.0.z", "embeddings.q"):
        with pytest.raises(ValueError, match="no tap"):
            model.backward(out, dtaps={name: np.zeros((B, T, C))})
        with pytest.raises(ValueError, match="no tap"):
            model.forward(**batch, taps=[name])
    with pytest.raises(ValueError, match=r"dpooler_output.*no such output"):
        model.backward(out, dpooler_output=np.zeros((B, C)))
    with pytest.raises(ValueError, match="needs a cotangent"):
        model.backward(model.forward(batch["input_ids"], batch["attention_mask"]))
