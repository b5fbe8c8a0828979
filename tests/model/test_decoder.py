"""GPT-2: nobody sees the future, the layout on disk, gradients with dropout, bad configs."""

import json

import numpy as np
import pytest
from model_cases import CASES, SMALL, batch_of, exact, model_of
from test_backward import check_function

import minidistil as md
from minidistil.config import Gpt2Config
from minidistil.model import decoder
from minidistil.model.context import Context
from minidistil.model.encoder import scope
from minidistil.model.rows import DropoutState, pack
from minidistil.model.taps import PLAIN, SQUARE
from minidistil.testing import check_backward

OPS, WORDS = md.backend("numpy"), CASES["gpt2-words"]


@pytest.mark.parametrize("dropped", [False, True])
def test_block_and_embeddings(dropped):
    model, batch = exact(model_of(WORDS, SMALL)), batch_of(WORDS, SMALL)
    a, p = model.config.architecture, model.canonical()
    rows = pack(batch["input_ids"], batch["attention_mask"], None, a)
    dropout_state = DropoutState(5, 7, rows.sequence, rows.column) if dropped else None
    context = Context(a, rows.bounds, OPS, dropout_state)
    check_function(
        lambda x, p: decoder.block(x, p, context.of_block(1)),
        lambda dy, cache: decoder.block_backward(dy, cache, OPS),
        scope(p, "layer.1"),
        np.random.default_rng(1).normal(size=(len(rows.ids), a.C)),
    )
    check_function(
        lambda p: decoder.embed(rows, p, context),
        lambda dy, cache: decoder.embed_backward(dy, cache, OPS),
        scope(p, "embeddings"),
    )


@pytest.mark.parametrize("part", [*PLAIN, *SQUARE])
def test_gradients_into_taps(part):
    """What a tap hands out is differentiated by what is sent into it."""
    model, batch = exact(model_of(WORDS, SMALL)), batch_of(WORDS, SMALL)
    names, name = list(model.params), f"layer.1.{part}"
    square = np.tri(batch["input_ids"].shape[1], dtype=bool)

    def forward(*params):
        model.update(dict(zip(names, params, strict=True)))
        out = model.forward(batch["input_ids"], batch["attention_mask"], taps=(name,))
        y = out.taps[name]
        return np.where(square, y, 0) if part in SQUARE else y, out

    def backward(dy, out):
        grads = model.backward(out, dtaps={name: dy})
        return [grads[n] for n in names]

    check_backward(forward, backward, list(model.params.values()), np.random.default_rng(2))


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_later_token_changes_nothing_before_it(backend):
    model, batch = model_of(WORDS, backend=backend), batch_of(WORDS)
    ids = batch["input_ids"]
    other = ids.copy()
    other[:, 9:] = (ids[:, 9:] + 1) % model.config.vocab_size
    one, two = (model.forward(x).logits for x in (ids, other))
    np.testing.assert_array_equal(one[:, :9], two[:, :9])
    assert (one[:, 9:] != two[:, 9:]).all()


def test_the_loss_of_labelled_rows_alone_is_the_same():
    model, batch = model_of(WORDS), batch_of(WORDS)
    step, out = model.gradients(batch), model.forward(**batch)
    assert step.loss == pytest.approx(out.loss, rel=1e-6)
    for name, g in model.backward(out).items():
        np.testing.assert_allclose(step.grads[name], g, atol=1e-5)


def test_there_must_be_a_next_word():
    model = model_of(WORDS)
    ids, mask = np.ones((2, 3), np.int64), np.array([[1, 0, 1], [1, 0, 0]])
    with pytest.raises(ValueError, match="no label has a token before it"):
        model.forward(ids, mask, labels=np.where(mask, ids, -100))


def test_folders_go_there_and_back(tmp_path):
    model, batch = model_of(WORDS), batch_of(WORDS)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [
        "GPT2LMHeadModel"
    ]
    again = md.from_pretrained(tmp_path)
    assert again.task == "text-generation"
    for name, p in model.params.items():
        np.testing.assert_array_equal(p, again.params[name])
    transformers, torch = map(pytest.importorskip, ("transformers", "torch"))
    theirs, found = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not found["missing_keys"] and not found["unexpected_keys"]
    ids = torch.tensor(batch["input_ids"][:1])
    logits = theirs(ids).logits.detach().numpy()
    np.testing.assert_allclose(model.forward(ids.numpy()).logits, logits, atol=1e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    np.testing.assert_array_equal(
        md.from_pretrained(tmp_path / "theirs").forward(ids.numpy()).logits,
        model.forward(ids.numpy()).logits,
    )


def test_sums_start_smaller():
    """What adds to the sum starts with a standard deviation of 0.02/√(2L), all else with 0.02."""
    params = md.from_config(Gpt2Config(n_embd=96, n_head=4, n_layer=8, vocab_size=99)).params
    for name, p in params.items():
        if name.endswith("weight") and p.ndim == 2:
            expected = 0.02 / (4 if "c_proj" in name else 1)
            assert p.std() == pytest.approx(expected, rel=0.05), name


@pytest.mark.parametrize("field", ["scale_attn_weights", "scale_attn_by_inverse_layer_idx"])
def test_another_scale_is_refused(field):
    with pytest.raises(ValueError, match="scaled by 1/√D alone"):
        Gpt2Config(**{field: field != "scale_attn_weights"})
