"""A tapped block computes what the plain block does, bit for bit, forward and backward."""

import numpy as np
import pytest
from model_cases import CASES, SMALL, batch_of, model_of

from minidistil.model import decoder, encoder, network, tapped_block
from minidistil.model.context import Context
from minidistil.model.encoder import scope
from minidistil.model.rows import DropoutState
from minidistil.model.taps import PLAIN

NAMES = pytest.mark.parametrize("name", ["bert-mlm", "roberta-mlm", "distilbert-mlm", "gpt2-words"])
BACKENDS = pytest.mark.parametrize("backend", ["numpy", "cpu"])


def setting(name, backend):
    """A model, its rows and a Context with dropout."""
    model, batch = model_of(CASES[name], SMALL, backend=backend), batch_of(CASES[name], SMALL)
    rows = model.pack_batch(batch)
    state = DropoutState(5, 7, rows.sequence, rows.column)
    return model, rows, Context(model.config.architecture, rows.bounds, model.ops, state)


def flat(cache):
    """The arrays and numbers of nested tuples, in order."""
    if isinstance(cache, tuple | list):
        return [x for part in cache for x in flat(part)]
    return [cache]


@NAMES
@BACKENDS
def test_a_block(name, backend):
    model, rows, context = setting(name, backend)
    a, ops, taps = context.architecture, context.ops, {}
    plain = decoder if a.causal else encoder
    forward, backward = (
        (tapped_block.decoder_block, tapped_block.decoder_block_backward)
        if a.causal
        else (tapped_block.encoder_block, tapped_block.encoder_block_backward)
    )
    p, context = scope(model.canonical(), "layer.1"), context.of_block(1)
    x, dy = np.random.default_rng(1).normal(size=(2, len(rows.ids), a.C)).astype(np.float32)
    y, cache = plain.block(x, p, context)
    tapped, tapped_cache = forward(x, p, context, taps)
    np.testing.assert_array_equal(tapped, y)
    assert set(taps) == set(PLAIN)
    for one, other in zip(flat(cache), flat(tapped_cache), strict=True):
        np.testing.assert_array_equal(one, other)
    dx, d = plain.block_backward(dy, cache, ops)
    dx_tapped, d_tapped = backward(dy, tapped_cache, ops, {})
    np.testing.assert_array_equal(dx_tapped, dx)
    assert d_tapped.keys() == d.keys()
    for parameter, grad in d.items():
        np.testing.assert_array_equal(d_tapped[parameter], grad, err_msg=parameter)


@NAMES
@BACKENDS
def test_a_model(name, backend):
    """Taps in one layer and gradients of zero into another change no number."""
    model, rows, context = setting(name, backend)
    args = model.canonical(), rows, model.config, model.task, context.dropout_state, model.ops
    taps = {"layer.0": {}}
    result, cache = network.forward(*args)
    tapped, tapped_cache = network.forward(*args, network.ForwardOptions(taps=taps))
    np.testing.assert_array_equal(tapped.logits, result.logits)
    for one, other in zip(tapped.hidden, result.hidden, strict=True):
        np.testing.assert_array_equal(one, other)
    dlogits = np.random.default_rng(1).normal(size=result.logits.shape).astype(np.float32)
    d = network.Cotangents((None,) * len(result.hidden), logits=dlogits)
    grads = network.backward(d, cache, model.ops)
    zeros = {"layer.1": {"q": np.zeros_like(result.hidden[0])}}
    for parameter, grad in network.backward(d, tapped_cache, model.ops, zeros).items():
        np.testing.assert_array_equal(grad, grads[parameter], err_msg=parameter)
