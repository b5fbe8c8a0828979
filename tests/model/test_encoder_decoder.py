"""The encoder–decoder: the same numbers as transformers, every gradient, folders both ways."""

import json

import numpy as np
import pytest
from model_cases import (
    ADAMW,
    STEPS,
    assert_same_formula,
    compare_array,
    compare_gradients,
    read,
    unpack,
)
from pair_cases import (
    CASES,
    END,
    LARGE,
    SMALL,
    START,
    batch_of,
    exact,
    fields,
    model_of,
    torch_model,
    torch_numbers,
)

import minidistil as md
from minidistil.model.seq2seq.seq2seq_model import shift_right
from minidistil.testing import rms
from minidistil.train import AdamW


def numbers(model, batch):
    """What `torch_numbers` gives, from a model of ours; changes the model."""
    out = model.forward(**batch, hidden_states=True)
    result = {f"grad.{name}": g for name, g in model.backward(out).items()}
    for name in ("encoder_hidden_states", "decoder_hidden_states"):
        result |= {f"{name}.{i}": x for i, x in enumerate(getattr(out, name))}
    for name in ("loss", "logits", "encoder_last_hidden_state"):
        result[name] = np.asarray(getattr(out, name))
    optimizer = AdamW(model.params, backend=model.ops.name, **ADAMW)
    for _ in range(STEPS):
        model.update(optimizer.step(model.gradients(batch).grads))
    return result | {f"after.{name}": p for name, p in model.params.items()}


def real(found, batch):
    """Outputs (B,T,·) and (B,U,·) where there are words; anything else as it is."""
    heard = batch.get("decoder_attention_mask")
    if heard is None:
        heard = (shift_right(batch["labels"], 0, START) != 0).astype(int)
    masks = {"encoder": batch["attention_mask"], "decoder": heard, "logits": heard}
    chosen = {}
    for name, x in found.items():
        mask = next((m for start, m in masks.items() if name.startswith(start)), None)
        chosen[name] = x if mask is None else x[mask == 1]
    return chosen


def check(case, size, reference, truth, params, batch):
    """The specification in float64 and both backends in float32 against PyTorch's numbers."""

    def ours(prepare, backend):
        model = model_of(case, size, backend=backend)
        model.update(params or {})
        return real(numbers(prepare(model), batch), batch)

    reference, truth = real(reference, batch), real(truth, batch)
    gradients = {name: x for name, x in truth.items() if name.startswith("grad.")}
    largest = max(rms(g) for g in gradients.values())
    for name, x in ours(exact, "numpy").items():
        if name in truth:
            assert_same_formula(name, x, truth[name], largest if name in gradients else None)
    for backend in ("numpy", "cpu"):
        mine = ours(lambda model: model, backend)
        assert set(truth) <= set(mine)
        grads = {name: x for name, x in mine.items() if name.startswith("grad.")}
        compare_gradients(grads, reference, truth)
        for name in set(truth) - set(grads):
            compare_array(name, mine[name], reference[name], truth[name])


@pytest.mark.parametrize("name", CASES)
def test_live(name):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    case, batch = CASES[name], batch_of(CASES[name])
    theirs = (
        torch_numbers(model_of(case), fields(case, LARGE), batch, dtype)
        for dtype in ("float32", "float64")
    )
    check(case, LARGE, *theirs, None, batch)


@pytest.mark.parametrize("name", CASES)
def test_stored(name):
    kinds = read(name)
    params, _ = unpack(kinds["weight"])
    check(CASES[name], SMALL, *unpack(kinds["out"]), params, kinds["in"])


@pytest.mark.parametrize("name", CASES)
def test_dropout_too_is_differentiated(name):
    """A step along the gradient changes the loss by its square; every dropout draws for itself."""
    case = CASES[name]
    model, batch = exact(model_of(case, SMALL)), batch_of(case, SMALL)
    out = model.forward(**batch, train=True, seed=5, step=1)
    grads = model.backward(out)
    assert out.loss != model.forward(**batch).loss
    rng = np.random.default_rng(0)
    step = {n: rng.normal(size=p.shape) for n, p in model.params.items()}
    slope = sum((grads[n] * d).sum() for n, d in step.items())
    before, h, losses = dict(model.params), 1e-5, []
    for sign in (1, -1):
        model.update({n: before[n] + sign * h * d for n, d in step.items()})
        losses.append(model.forward(**batch, train=True, seed=5, step=1).loss)
    # The padding's embedding is looked up but not trained, so its share of the slope is unknown.
    assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(slope, rel=1e-5)


def test_no_two_dropouts_share_a_place(monkeypatch):
    from minidistil.model import rows

    sites = []
    dropout_key = rows.DropoutState.dropout_key
    monkeypatch.setattr(
        rows.DropoutState,
        "dropout_key",
        lambda self, site, p: sites.append(dropout_key(self, site, p)) or sites[-1],
    )
    case = CASES["pair-bert"]
    model_of(case).forward(**batch_of(case), train=True)
    numbers = [d.site for d in sites]
    L = LARGE["L"]
    assert len(numbers) == len(set(numbers)) == 1 + 3 * L + 1 + 5 * L


def test_micro_batches_draw_what_the_whole_batch_draws():
    case = CASES["pair-distilbert"]
    model, batch = model_of(case), batch_of(case)
    whole = model.forward(**batch, train=True).logits
    half = model.forward(**{n: x[2:] for n, x in batch.items()}, train=True, first_sequence=2)
    np.testing.assert_allclose(half.logits, whole[2:], atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_transformers_loads_what_is_saved(name, tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    case = CASES[name]
    model, batch = model_of(case), batch_of(case)
    model.save_pretrained(tmp_path)
    theirs, said = transformers.EncoderDecoderModel.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not said["missing_keys"] and not said["unexpected_keys"]
    assert theirs.config.decoder_start_token_id == START and theirs.config.eos_token_id == END
    again = md.from_pretrained(tmp_path, task="translation")
    assert again.forward(**batch).loss == model.forward(**batch).loss


@pytest.mark.parametrize("name", CASES)
def test_what_transformers_saves_is_loaded(name, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    case = CASES[name]
    model = model_of(case)
    torch_model(model, fields(case, LARGE)).save_pretrained(tmp_path)
    loaded = md.from_pretrained(tmp_path)
    assert loaded.task == "text2text-generation"
    assert set(loaded.params) == set(model.params)
    for n, p in loaded.params.items():
        np.testing.assert_array_equal(p, model.params[n], err_msg=n)


def test_a_folder_that_does_not_fit_is_refused(tmp_path):
    model = model_of(CASES["pair-distilbert"])
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"decoder": config["decoder"] | {"num_hidden_layers": 3}}, r"decoder.*missing bert\."),
        ({"encoder": config["encoder"] | {"vocab_size": 60}}, "expected"),
        ({"decoder": config["decoder"] | {"is_decoder": False}}, "is_decoder must be true"),
        ({"encoder": {"model_type": "t5"}}, "encoder.model_type must be bert or distilbert"),
        ({"decoder_start_token_id": None}, "decoder_start_token_id is missing"),
        ({"eos_token_id": 99}, "eos_token_id must be a word"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            md.from_pretrained(tmp_path)


def test_a_batch_that_does_not_fit_is_refused():
    case = CASES["pair-distilbert"]
    model, batch = model_of(case), batch_of(case)
    without = {n: x for n, x in batch.items() if n != "labels"}
    with pytest.raises(ValueError, match="a target is needed"):
        model.forward(**without)
    with pytest.raises(ValueError, match="needs labels"):
        model.gradients(without | {"decoder_input_ids": batch["labels"].clip(1)})
    with pytest.raises(ValueError, match="4 sources but 3 targets"):
        model.forward(**without, labels=batch["labels"][:3])
    holed = batch["labels"].copy()
    holed[0, 1] = -100
    with pytest.raises(ValueError, match="lies on padding"):
        model.forward(**without, labels=holed)
    with pytest.raises(ValueError, match="keep=True"):
        model.backward(model.forward(**batch, keep=False))


def test_gradients_of_the_encoders_output_arrive():
    case = CASES["pair-distilbert"]
    model, batch = exact(model_of(case)), batch_of(case)
    out = model.forward(**batch)
    d = np.random.default_rng(0).normal(size=out.encoder_last_hidden_state.shape)
    grads = model.backward(out, dencoder_last_hidden_state=d)
    assert not any(g.any() for n, g in grads.items() if n.startswith("decoder."))
    body = md.Model(
        model.config.encoder, "feature-extraction",
        {c.removeprefix("encoder."): x for c, x in model.canonical().items()
         if c.startswith("encoder.")}, model.ops,
    )  # fmt: skip
    alone = body.forward(batch["input_ids"], batch["attention_mask"])
    for n, g in body.backward(alone, dlast_hidden_state=d).items():
        np.testing.assert_allclose(grads[f"encoder.{n}"], g, atol=1e-5, err_msg=n)


def test_both_halves_start_as_a_pretrained_model():
    bert = md.from_config(
        md.BertConfig(vocab_size=31, hidden_size=12, num_hidden_layers=3, num_attention_heads=2,
                      intermediate_size=16, max_position_embeddings=10)
    )  # fmt: skip
    small = md.from_config(
        md.DistilBertConfig(vocab_size=31, dim=8, n_layers=2, n_heads=2, hidden_dim=12)
    )
    pair = md.encoder_decoder_from(small, bert, start=START, eos=END, decoder_layers=(2, 0))
    p, q = pair.params, bert.params
    for mine, theirs in (
        ("bert.encoder.layer.0.attention.self.query.weight",
         "bert.encoder.layer.2.attention.self.query.weight"),
        ("bert.encoder.layer.1.output.dense.weight", "bert.encoder.layer.0.output.dense.weight"),
        ("bert.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.weight"),
    ):  # fmt: skip
        np.testing.assert_array_equal(p[f"decoder.{mine}"], q[theirs])
    word = "embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(p[f"encoder.{word}"], small.params[f"distilbert.{word}"])
    assert p["enc_to_dec_proj.weight"].shape == (12, 8)
    assert pair.config.decoder.num_hidden_layers == 2
    with pytest.raises(ValueError, match=r"layers 0 to 2, not \[3\]"):
        md.encoder_decoder_from(small, bert, start=START, eos=END, decoder_layers=(3,))
