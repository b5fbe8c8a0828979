"""What `Model` promises: padding, batches that do not fit, parameters, dropout."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import CASES, SMALL, batch_of, exact, model_of

import minidistil as md
from minidistil.model import task_loss
from minidistil.model.rows import pack

BACKENDS = ["numpy", "cpu"]
BOTH = ["bert-mlm", "distilbert-mlm"]
EVERYTHING = {"hidden_states": True, "attentions": True, "taps": ("layer.0.lin1", "layer.1.scores")}


def setting(name, backend="cpu", **options):
    case = CASES[name]
    return model_of(case, SMALL, backend=backend, **options), batch_of(case, SMALL)


def arrays(out):
    """Every array of an Output, by name."""
    found = {"last_hidden_state": out.last_hidden_state}
    for name in ("logits", "pooler_output", "seq_relationship_logits"):
        if getattr(out, name) is not None:
            found[name] = getattr(out, name)
    for name in ("hidden_states", "attentions"):
        found |= {f"{name}.{i}": x for i, x in enumerate(getattr(out, name) or ())}
    return found | (out.taps or {})


def cut(x, B, T):
    """The first B sequences of an output; its first T columns where it has columns."""
    x = x[:B]
    if x.ndim == 4:
        return x[:, :, :T, :T]
    return x[:, :T] if x.ndim == 3 else x


# ---------------------------------------------------------------- padding


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", BOTH)
def test_padding_holds_zeros(name, backend):
    model, batch = setting(name, backend)
    empty = batch["attention_mask"] == 0
    for key, x in arrays(model.forward(**batch, **EVERYTHING)).items():
        if x.ndim == 4:
            assert not x.swapaxes(1, 2)[empty].any(), key
            assert not x.transpose(0, 3, 1, 2)[empty].any(), key
        else:
            assert not x[empty].any(), key
            assert x[~empty].any(axis=-1).all(), key


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_what_lies_under_padding_changes_nothing(data):
    """Any mask, any ids beneath it, any number of further columns: the same bits."""
    model, batch = setting(data.draw(st.sampled_from(BOTH)), data.draw(st.sampled_from(BACKENDS)))
    B, T = batch["input_ids"].shape
    bits = st.lists(st.integers(0, 1), min_size=T, max_size=T).filter(any)
    mask = np.array([data.draw(bits) for _ in range(B)])
    more = data.draw(st.integers(0, SMALL["P"] - T))
    garbage = data.draw(st.integers(-5, 10**9))
    plain = batch | {"attention_mask": mask}
    plain.pop("labels")
    dirty = {
        key: np.pad(np.where(mask == 1, x, fill), ((0, 0), (0, more)), constant_values=fill)
        for key, x, fill in [
            (k, x, 0 if k == "attention_mask" else garbage) for k, x in plain.items()
        ]
    }
    expected, got = (arrays(model.forward(**b, **EVERYTHING)) for b in (plain, dirty))
    for key, x in expected.items():
        np.testing.assert_array_equal(cut(got[key], B, T), x, err_msg=key)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", [n for n in CASES if "choice" not in n])
def test_a_batch_may_be_split(name, train):
    """Sequences do not see each other; dropout follows a sequence's number in the global batch."""
    model, batch = setting(name)
    model = exact(model)
    batch = {key: x for key, x in batch.items() if key not in task_loss.LABELS}
    how = {"train": train, "seed": 3, "step": 4, **EVERYTHING}
    whole = arrays(model.forward(**batch, first_sequence=100, **how))
    for first, last in ((0, 1), (1, 3), (3, 4)):
        part = {key: x[first:last] for key, x in batch.items()}
        out = arrays(model.forward(**part, first_sequence=100 + first, **how))
        for key, x in whole.items():
            np.testing.assert_allclose(out[key], x[first:last], atol=1e-12, err_msg=key)


def test_gradients_of_micro_batches_add_up():
    model, batch = setting("distilbert-body")
    model = exact(model)
    how = {"train": True, "seed": 3, "step": 4}
    u = np.random.default_rng(0).normal(size=(*batch["input_ids"].shape, SMALL["C"]))

    def gradients(rows):
        part = {key: x[rows] for key, x in batch.items()}
        out = model.forward(**part, first_sequence=rows.start, **how)
        return model.backward(out, dlast_hidden_state=u[rows])

    whole, one, two = (gradients(slice(*r)) for r in ((0, 4), (0, 2), (2, 4)))
    for key, g in whole.items():
        np.testing.assert_allclose(one[key] + two[key], g, atol=1e-12, err_msg=key)


# ---------------------------------------------------------------- dropout


@pytest.mark.parametrize("name", ["bert-single", "roberta-single", "distilbert-single"])
def test_dropout_is_a_function_of_seed_step_and_sequence(name):
    model, batch = setting(name)
    batch.pop("labels")

    def logits(**how):
        return model.forward(**batch, **how).logits

    place = {"train": True, "seed": 1, "step": 2, "first_sequence": 3}
    first = logits(**place)
    np.testing.assert_array_equal(first, logits(**place))
    for change in ({"train": False}, {"seed": 9}, {"step": 9}, {"first_sequence": 9}):
        assert (first != logits(**place | change)).all()
    np.testing.assert_array_equal(logits(seed=1), logits(step=8))
    specification = model.with_ops(md.backend("numpy")).forward(**batch, **place).logits
    np.testing.assert_allclose(first, specification, atol=1e-5)


def test_where_the_families_drop(monkeypatch):
    """BERT drops the attention's output before the residual, DistilBERT does not."""
    sites = {}
    for name in BOTH:
        model, batch = setting(name, "numpy")
        seen = sites.setdefault(name, [])
        real = model.ops.dropout.forward
        with monkeypatch.context() as patch:
            patch.setattr(
                model.ops.dropout,
                "forward",
                lambda x, key, real=real, seen=seen: (
                    seen.append(key.site),
                    real(x, key=key),
                )[1],
            )
            model.forward(**batch, train=True)
        assert len(set(seen)) == len(seen)
    L = SMALL["L"]
    assert len(sites["bert-mlm"]) == 1 + 2 * L
    assert len(sites["distilbert-mlm"]) == 1 + L


def test_rates_of_zero_leave_training_and_evaluation_the_same():
    model, batch = setting("bert-single")
    config = dataclasses.replace(
        model.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    still = md.from_config(config, model.task)
    still.update(dict(model.params))
    a, b = (still.forward(**batch, train=train).logits for train in (False, True))
    np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- batches that do not fit

B, T, V = 4, SMALL["P"] - 2, SMALL["V"]


def with_(x, where, value):
    x = np.array(x)
    x[where] = value
    return x


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"input_ids": lambda b: with_(b["input_ids"], (0, 1), V)}, f"{V} is outside the vocab"),
        ({"input_ids": lambda b: with_(b["input_ids"], (0, 1), -1)}, "-1 is outside the vocab"),
        ({"input_ids": lambda b: b["input_ids"] * 1.0}, "integers, not float64"),
        ({"input_ids": lambda b: b["input_ids"][0]}, "must be (B,T)"),
        ({"input_ids": lambda b: b["input_ids"][:0]}, "must be (B,T)"),
        ({"input_ids": lambda b: np.ones((1, SMALL["P"] + 1), int), "attention_mask": None},
         f"{SMALL['P'] + 1} tokens do not fit {SMALL['P']} positions"),
        ({"attention_mask": lambda b: b["attention_mask"][:, :-1]}, "must have the shape"),
        ({"attention_mask": lambda b: b["attention_mask"] * 2}, "0 (padding) and 1 (token)"),
        ({"attention_mask": lambda b: with_(b["attention_mask"], 2, 0)}, "sequence 2 of 4 is all"),
        ({"token_type_ids": lambda b: np.full((B, T), 2)}, "2 is outside the token types of 2"),
        ({"token_type_ids": lambda b: np.zeros((B, T + 1), int)}, "must have the shape"),
        ({"labels": lambda b: np.full((B, T), -100)}, "labels are -100"),
        ({"labels": lambda b: with_(b["labels"], (3, 2), 1)}, "label 1 at (3,2) lies on padding"),
        ({"labels": lambda b: with_(b["labels"], (0, 0), V)}, f"label {V} is outside the vocab"),
        ({"labels": lambda b: with_(b["labels"], (0, 0), -1)}, "label -1 is outside the vocab"),
        ({"labels": lambda b: b["labels"][0]}, "labels must be integers (B,T)"),
        ({"labels": lambda b: b["labels"] * 1.0}, "labels must be integers (B,T)"),
        ({"next_sentence_label": lambda b: np.zeros(B, int)}, "has no head for these labels"),
        ({"taps": lambda b: ["layer.9.q"]}, "no tap 'layer.9.q'"),
    ],
    ids=lambda x: "" if isinstance(x, dict) else x,
)  # fmt: skip
def test_bad_batch(changes, words):
    model, batch = setting("bert-mlm")
    batch |= {key: change and change(batch) for key, change in changes.items()}
    if batch["attention_mask"] is None:
        batch = {"input_ids": batch["input_ids"]}
    with pytest.raises(ValueError) as caught:
        model.forward(**batch)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, labels, words",
    [
        ("bert-single", [0, 1, 2, 3], "label 3 is outside the 3 classes"),
        ("bert-single", [0, 1, 2, -1], "label -1 is outside the 3 classes"),
        ("bert-single", [0, 1], "labels must be 4 integers"),
        ("bert-single", [0.0, 1.0, 1.0, 0.0], "labels must be (4, 3)"),
        ("bert-single", [-100] * 4, "-100"),
        ("distilbert-multi", [0, 1, 1, 0], "labels must be (4, 4)"),
        ("distilbert-regression", [0.5, 0.1], "labels must be (4, 1)"),
        ("bert-body", [0, 1, 1, 0], "has no head for these labels"),
        ("distilbert-body", [0, 1, 1, 0], "has no head for these labels"),
        ("bert-pretraining", [0, 1, 1, 0], "labels must be integers (B,T)"),
    ],
)
def test_labels_that_do_not_fit_the_task(name, labels, words):
    model, batch = setting(name)
    with pytest.raises(ValueError) as caught:
        model.forward(**batch | {"labels": np.array(labels)})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "name", ["bert-single", "bert-body", "bert-pretraining", "roberta-single", "distilbert-single"]
)
def test_a_head_that_reads_column_0_needs_it(name):
    model, batch = setting(name)
    batch["attention_mask"][2, 0] = 0
    with pytest.raises(
        ValueError, match="reads column 0, which attention_mask hides in sequence 2"
    ):
        model.forward(**batch)


def test_distilbert_leaves_token_types_of_zero_alone():
    """Tokenizers hand them out whether or not the model has them."""
    model, batch = setting("distilbert-mlm")
    expected = model.forward(**batch).logits
    zeros = np.zeros_like(batch["input_ids"])
    np.testing.assert_array_equal(model.forward(**batch, token_type_ids=zeros).logits, expected)
    with pytest.raises(ValueError, match="no token types"):
        model.forward(**batch, token_type_ids=zeros + 1)


def test_integers_of_any_width_and_masks_of_any_kind():
    model, batch = setting("bert-mlm")
    expected = model.forward(**batch)
    for ids, mask in ((np.int32, bool), (np.uint8, np.float32), (np.uint16, np.int8)):
        narrow = batch | {
            "input_ids": batch["input_ids"].astype(ids),
            "attention_mask": batch["attention_mask"].astype(mask),
        }
        assert model.forward(**narrow).loss == expected.loss
    lists = {key: x.tolist() for key, x in batch.items()}
    assert model.forward(**lists).loss == expected.loss


# ---------------------------------------------------------------- outputs


def test_keep_false_keeps_nothing():
    model, batch = setting("distilbert-mlm")
    out = model.forward(**batch, keep=False)
    assert out.kept is None
    assert out.loss == model.forward(**batch).loss
    with pytest.raises(ValueError, match="keep=True"):
        model.backward(out)


@pytest.mark.parametrize("name", ["bert-body", "bert-pretraining", "distilbert-single"])
def test_outputs_belong_to_the_caller(name):
    """Writing over all of them changes neither backward nor the model."""
    model, batch = setting(name)
    out, fresh = (model.forward(**batch, **EVERYTHING) for _ in range(2))
    for x in arrays(out).values():
        x[...] = 1e3
    words = {}
    if name == "bert-body":
        words["dpooler_output"] = np.ones_like(out.pooler_output)
    for key, g in model.backward(fresh, **words).items():
        np.testing.assert_array_equal(model.backward(out, **words)[key], g, err_msg=key)


@pytest.mark.parametrize("name", [n for n in CASES if "body" not in n])
def test_gradients_is_forward_and_backward(name):
    model, batch = setting(name)
    model = exact(model)
    how = {"train": True, "seed": 2, "step": 3, "first_sequence": 4}
    out = model.forward(**batch, **how)
    step = model.gradients(batch, **how)
    assert step.loss == pytest.approx(out.loss, rel=1e-12)
    for key, g in model.backward(out).items():
        np.testing.assert_allclose(step.grads[key], g, atol=1e-12, err_msg=key)
    for name in task_loss.LABELS:
        batch.pop(name, None)
    with pytest.raises(ValueError, match="needs labels"):
        model.gradients(batch)


def test_parts_of_the_pretraining_loss():
    model, batch = setting("bert-pretraining")
    labels, sentence = batch.pop("labels"), batch.pop("next_sentence_label")
    both = model.forward(**batch, labels=labels, next_sentence_label=sentence).loss
    one = model.forward(**batch, labels=labels).loss
    other = model.forward(**batch, next_sentence_label=sentence).loss
    assert both == pytest.approx(one + other, rel=1e-6)


def test_float64_is_float64_throughout():
    model, batch = setting("bert-single", "numpy")
    model = exact(model)
    out = model.forward(**batch, **EVERYTHING)
    assert {x.dtype for x in arrays(out).values()} == {np.dtype(np.float64)}
    assert {g.dtype for g in model.backward(out).values()} == {np.dtype(np.float64)}


# ---------------------------------------------------------------- positions


def test_positions_are_columns_but_roberta_counts_ids_that_are_not_padding():
    ids, mask = np.array([[5, 6, 1, 7, 1], [1, 1, 8, 9, 6]]), np.ones((2, 5), np.int64)
    mask[1, 2] = 0  # the mask has no say in it
    for name, expected in (
        ("roberta-mlm", [2, 3, 1, 4, 1, 1, 1, 3, 4]),
        ("bert-mlm", [0, 1, 2, 3, 4, 0, 1, 3, 4]),
    ):
        a = model_of(CASES[name], SMALL).config.architecture
        np.testing.assert_array_equal(pack(ids, mask, None, a).position, expected)


def test_roberta_has_fewer_positions_than_rows_of_the_table():
    model, T = model_of(CASES["roberta-mlm"], SMALL), SMALL["P"] - 2
    assert model.config.architecture.longest == T
    ids = np.full((1, T + 1), 5)
    with pytest.raises(ValueError, match=f"{T + 1} tokens do not fit {T} positions"):
        model.forward(ids)
    ids[0, 3] = 1  # padding takes none of them
    assert model.forward(ids).logits.shape == (1, T + 1, SMALL["V"])
    with pytest.raises(ValueError, match="max_position_embeddings 2 leaves no position behind"):
        md.RobertaConfig(max_position_embeddings=2)
