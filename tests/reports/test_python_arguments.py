"""Reports on wrong arguments in Python: every public function says the rule and the value in a
ValueError or a TypeError, and changes nothing; models and optimisers are copied and pickled."""

import copy
import pickle
import reprlib

import numpy as np
import pytest
from image_cases import model_of as image_model
from model_cases import CASES, SMALL, batch_of, model_of
from pair_cases import CASES as PAIRS
from pair_cases import SMALL as SMALL_PAIR
from pair_cases import model_of as pair_model

import minidistil as md
from minidistil.model.sentence.sentence_model import SENTENCES

NAN, INF = float("nan"), float("inf")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
NO_NUMBERS = ("1", None, NAN, True, 1j, [1.0])


def small(name="distilbert-mlm"):
    return model_of(CASES[name], SMALL, backend="numpy")


def refused(call, *args, **options):
    """The message of a call that is refused, one line with a rule."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    python_s = ("not supported between", "unhashable", "object is not", "unsupported operand")
    assert not any(words in message for words in python_s), message
    return message


# ---------------------------------------------------------------- models


MODELS = {
    "texts": small,
    "images": lambda: image_model("vit", "image-classification", backend="numpy"),
    "pairs": lambda: pair_model(PAIRS["pair-bert"], SMALL_PAIR, backend="numpy"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_update_changes_nothing_when_it_raises(kind):
    """Was: objects became NaN, complex numbers their real part, 1e300 infinity; and the arrays
    before a bad one were taken.
    Right: all arrays are looked at before the first is taken."""
    model = MODELS[kind]()
    first, second = list(model.params)[:2]
    before = {name: x.copy() for name, x in model.params.items()}
    good, shape = np.ones_like(before[first]), before[second].shape
    for bad in (np.full(shape, 1j), np.full(shape, None), np.full(shape, "a"), np.full(shape, True),
                np.full(shape, 1e300), np.ones((*shape, 1)), [[1], [1, 2]], None):  # fmt: skip
        refused(model.update, {first: good, second: bad})
        assert all(np.array_equal(x, before[name]) for name, x in model.params.items())
    for bad in (None, [1], {"nowhere": good}, "ab"):
        refused(model.update, bad)
    model.update({first: good.tolist()})
    assert np.array_equal(model.params[first], good)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", MODELS)
def test_a_copy_learns_apart(kind, copied):
    """Was: copy.copy shared the dictionaries of parameters, so that both models learnt.
    Right: an update of one leaves the other alone."""
    model = MODELS[kind]()
    other, name = copied(model), next(iter(model.params))
    before = model.params[name].copy()
    other.update({name: before + 1})
    assert np.array_equal(model.params[name], before)
    assert np.array_equal(other.params[name], before + 1)
    model.update({name: before + 2})
    assert np.array_equal(other.params[name], before + 1)
    assert type(other) is type(model) and other.ops is model.ops and other.task == model.task


def test_a_copy_computes_with_its_own_parameters():
    """Was: copies had one set of parameters to compute with.
    Right: what is packed for the kernels is apart as well."""
    model, batch = small(), batch_of(CASES["distilbert-mlm"], SMALL)
    other, before = copy.copy(model), model.forward(batch["input_ids"]).logits
    other.update({name: 0 * x for name, x in other.params.items()})
    assert np.array_equal(model.forward(batch["input_ids"]).logits, before)
    assert not other.forward(batch["input_ids"]).logits.any()


@pytest.mark.parametrize("name", ["seed", "step", "first_sequence"])
@pytest.mark.parametrize("value", [-1, 1.5, "1", None, True, NAN, 2**32])
def test_seeds_and_steps(name, value):
    """Was: −1 and 2**32 drew the masks of another seed, True those of 1; None was a TypeError of
    Python's.
    Right: whole numbers of 32 bits, in every kind of model."""
    ids = batch_of(CASES["distilbert-mlm"], SMALL)["input_ids"]
    options = {"train": True, name: value}
    assert "whole number from 0" in refused(small().forward, ids, **options)
    model = image_model("vit", "image-classification", backend="numpy")
    size = model.config.image_size
    pixels = np.zeros((1, model.config.num_channels, size, size), np.float32)
    assert "whole number from 0" in refused(model.forward, pixels, **options)


def test_ids_masks_and_labels():
    """Was: ragged lists, objects, NaN and labels that are no numbers reached NumPy's own errors.
    Right: the rule, with the dtype or the shape that came."""
    model, ids = small(), batch_of(CASES["distilbert-mlm"], SMALL)["input_ids"]
    for bad in (None, "ab", 1, ids.astype(float), ids.astype(bool), ids.astype(object), ids[0],
                [[1], [1, 2]], ids + 99, ids - 99, ids.astype(np.uint64) + 2**63):  # fmt: skip
        assert "input_ids" in refused(model.forward, bad)
    for bad in ("ab", ids * 0 + 2, ids * 0.5 + 0.5, ids * NAN, ids[:1], ids.astype(str)):
        assert "attention_mask" in refused(model.forward, ids, bad)
    for bad in ("ab", ids * 1.0, ids[:1], ids * 0 + 99, ids * 0 - 5, ids * 0 - 100):
        assert "label" in refused(model.forward, ids, labels=bad)
    for bad in (3, [3], "layer.0.q", ["nowhere"]):
        assert "tap" in refused(model.forward, ids, taps=bad)
    out = model.forward(ids)
    for bad in (out.logits * 1j, out.logits.astype(object), out.logits[:1], "a"):
        assert "dlogits" in refused(model.backward, out, dlogits=bad)
    assert "what forward gave" in refused(model.backward, None)


def test_labels_of_classifiers():
    """Was: NaN among regression labels, and 2 among multi-label ones, were learnt.
    Right: finite numbers; of several labels 0 to 1."""
    ids = batch_of(CASES["distilbert-single"], SMALL)["input_ids"]
    B, K = len(ids), 3
    wrong = [np.full((B, K), NAN), np.full((B, K), 1j), [None] * B, "ab", np.zeros((B, K + 1))]
    for kind, more in (
        ("multi_label_classification", [np.full((B, K), 2.0), np.full((B, K), -1)]),
        ("regression", [np.full((B, K), INF)]),
        ("single_label_classification", [np.full(B, 99), np.full(B, -1), np.zeros(B)]),
    ):
        config = small("distilbert-single").config.with_labels(K, kind)
        model = md.from_config(config, "text-classification", backend="numpy")
        for bad in wrong + more:
            assert "labels" in refused(model.forward, ids, labels=bad).replace("label ", "labels ")


# ---------------------------------------------------------------- made and read

WRONG = {
    "task": (3, [], "cooking"),
    "backend": (3, None, [], "abacus"),
    "dtype": (3, [], "float16"),
    "seed": (-1, 1.5, "a", None, True),
}


@pytest.mark.parametrize("name", [*WRONG, "num_labels", "problem_type", "max_bytes"])
def test_arguments_of_from_pretrained_and_from_config(tmp_path, name):
    """Was: a seed of "a" or −1 passed where nothing was drawn, a list was "unhashable".
    Right: the rule, before the folder is read."""
    model = small()
    model.save_pretrained(tmp_path)
    others = {"num_labels": ("3", True, 2.5, 0, -1), "problem_type": (3, [], "guess"),
              "max_bytes": (0, -1, "a", 1.5, NAN)}  # fmt: skip
    for value in (WRONG | others)[name]:
        if name != "max_bytes":
            refused(md.from_pretrained, tmp_path, **{name: value})
        if name in (*WRONG, "max_bytes"):
            refused(md.from_config, model.config, **{name: value})
    for value in (None, 3, "x", {}):
        assert "config must be a config" in refused(md.from_config, value)


@pytest.mark.parametrize("value", [None, 3, "", b"x", []], ids=repr)
def test_what_is_no_folder(value, monkeypatch, tmp_path):
    """Was: "" was the folder that the caller stood in; others were TypeErrors of pathlib's.
    Right: a name or a path."""
    monkeypatch.chdir(tmp_path)
    small().save_pretrained(".")
    for call in (md.from_pretrained, md.load_tokenizer, lambda x: md.pipeline("fill-mask", (x,)),
                 small().save_pretrained):  # fmt: skip
        assert reprlib.repr(value) in refused(call, value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_arguments_of_pipelines(tmp_path):
    """Was: top_k −1 left the last label out; True was 1.
    Right: whole numbers from 1 up; a task is one of the table."""
    model = small("distilbert-single")
    model.save_pretrained(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(18))]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    for task in (None, 3, [], "cooking"):
        assert "task must be one of" in refused(md.pipeline, task, tmp_path)
    predict = md.pipeline("text-classification", tmp_path, backend="numpy")
    for top_k in (0, -1, 1.5, "a", True):
        assert "top_k must be" in refused(predict, "w1", top_k=top_k)
    for share in (2, -1, NAN, "a"):
        assert "out_of_scope must be" in refused(predict, "w1", out_of_scope=share)
    for inputs in (None, 3, [], [3], [None], b"x"):
        refused(predict, inputs)
    assert "there is no folder" in refused(md.pipeline, "fill-mask", [])


def test_arguments_of_students():
    """Was: AttributeError for what is no model or no config.
    Right: TypeError with what is wanted."""
    model = small()
    for bad in (None, 3, "x", model.config):
        assert "the teacher must be a model" in refused(md.student_from, bad)
        assert "the teacher must be a model" in refused(md.student_config, bad, 2)
    for options in ({"layers": None}, {"layers": [0.5]}, {"layers": "0"}, {"layers": []},
                    {"seed": 1.5}, {"seed": None}, {"family": 3}, {"family": []}, {"config": {}},
                    {"vocab_transform": "no"}, {"decoder_layers": 3}):  # fmt: skip
        assert next(iter(options)) in refused(md.student_from, model, **{"layers": (0,)} | options)
    for n in (0, -1, 1.5, "a", None, True):
        assert "n_layers must be" in refused(md.student_config, model, n)
    assert "must be a model" in refused(md.encoder_decoder_from, None, start=2, eos=3)


@pytest.mark.parametrize("name", ["temperature", "alpha_ce", "alpha_mlm", "alpha_hard"])
@pytest.mark.parametrize("value", [*NO_NUMBERS, INF, -1])
def test_numbers_of_a_distill_config(name, value):
    """Was: TypeErrors of Python's, and True was 1.
    Right: the rule."""
    assert f"{name} must be" in refused(md.DistillConfig, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("restrict_ce_to_mask", "no"), ("hard_targets", 1), ("convention", []), ("convention", 3),
     ("temperature_by", 3), ("terms", 3), ("terms", (3,)), ("vary", "x=1"), ("vary", (3,))],
)  # fmt: skip
def test_the_rest_of_a_distill_config(name, value):
    """Was: "no" was true, and a term of 3 failed in the first step.
    Right: the rule, when the config is made."""
    refused(md.DistillConfig, **{name: value})


def test_arguments_of_a_step_and_of_training():
    """Was: AttributeError and KeyError.
    Right: what is wanted, and what came."""
    teacher = small()
    student, config = md.student_from(teacher, layers=(0,)), md.DistillConfig()
    ids = batch_of(CASES["distilbert-mlm"], SMALL)["input_ids"]
    batch = {"input_ids": ids, "labels": ids}
    for bad in (None, 3, [], {}, {"labels": ids}):
        assert "batch" in refused(md.distill_step, student, teacher, bad, config)
    assert "DistillConfig" in refused(md.distill_step, student, teacher, batch, None)
    assert "teacher must be" in refused(md.distill_step, student, None, batch, config)
    assert "student must be" in refused(md.distill_step, None, teacher, batch, config)
    assert "seed must be" in refused(
        md.distill_step, student, teacher, batch, config, train=True, seed=None
    )
    steps = md.TrainConfig(steps=1)
    assert "data must have" in refused(md.train, teacher, None, steps)
    assert "TrainConfig" in refused(md.train, teacher, [], None)
    for options in ({"lr": "a"}, {"lr": None}, {"betas": 0.9}, {"betas": ("a", 1)}, {"eps": True},
                    {"warmup": None}, {"seed": -1}, {"seed": None}, {"backend": 3}, {"steps": True},
                    {"schedule": []}, {"optimizer": 3}):  # fmt: skip
        assert next(iter(options)) in refused(md.TrainConfig, **{"steps": 1} | options)


# ---------------------------------------------------------------- losses and the optimiser


@pytest.mark.parametrize("loss", [md.losses.kl_divergence, md.losses.cosine, md.losses.mse])
def test_arguments_of_losses(loss):
    """Was: IndexError for 0-d inputs; a mask of 2 or 0.5 counted as 1, of words as all.
    Right: arrays of real numbers with an axis; masks of 0 and 1."""
    for bad in (1.0, "ab", None, X + 1j, X.astype(object), X[:0], X[:, :0], [[1], [1, 2]]):
        refused(loss, bad, bad)
    for mask in ([2, 1], [0.5, 1], [NAN, 1], ["a", "b"], [1], [[1, 1]], [-1, 1]):
        assert "mask" in refused(loss, X, X, mask=np.array(mask))
    for mask in ([1, 0], [True, False], [1.0, 0.0]):
        assert loss(X, X[::-1], mask=np.array(mask))[1][1].any() == 0
    assert np.isfinite(loss(X[0], X[0])[0])  # one row needs no batch


def test_the_other_arguments_of_losses():
    """Was: temperature True was 1 and infinity gave NaN; scale "no" was true.
    Right: the rule."""
    for value in (*NO_NUMBERS, INF, 0, -1):
        assert "temperature must be" in refused(md.losses.kl_divergence, X, X, temperature=value)
        assert "temperature must be" in refused(md.losses.soft_targets, X, X, temperature=value)
    for value in ("none", 3, ["mean"], None):
        assert "reduction must be" in refused(md.losses.kl_divergence, X, X, reduction=value)
        assert "reduction must be" in refused(md.losses.mse, X, X, reduction=value)
    assert "scale must be" in refused(md.losses.kl_divergence, X, X, scale="no")
    assert "convention must be" in refused(md.losses.soft_targets, X, X, convention=[])
    for labels in (0, [0.0, 1.0], [True, False], [9, 0], [-1, 0], [0], [-100, -100], None):
        refused(md.losses.cross_entropy, X, labels)
    for index in ("a", 0.5, None, True):
        assert "ignore_index" in refused(md.losses.cross_entropy, X, [0, 1], ignore_index=index)
    refused(md.losses.cross_entropy, 1.0, 0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lr", (*NO_NUMBERS[:1], *NO_NUMBERS[1:], INF, -1)),
        ("eps", (*NO_NUMBERS, INF, -1)),
        ("weight_decay", (*NO_NUMBERS, INF, -1)),
        ("betas", (0.9, (0.9,), ("a", "b"), (1.0, 0.9), (NAN, 0.9), None, (0.9, 0.99, 0.9))),
        ("decay", ("a", 3, [3], ["nowhere"])),
        ("backend", ("abacus", None, [])),
    ],
)
def test_arguments_of_adamw(name, values):
    """Was: lr "1", NaN or −1 and one beta were taken, and the first step failed or went astray.
    Right: the rule, when the optimiser is made."""
    for value in values:
        assert name in refused(md.AdamW, {"a": X}, **{name: value})
    for params in (None, [X], {"a": "b"}, {"a": np.ones(3, int)}, {"a": np.array([None])}):
        assert "param" in refused(md.AdamW, params)


def test_gradients_and_states_of_adamw():
    """Was: AttributeError for a list, a half-taken state for one that does not fit.
    Right: the rule, and the optimiser is what it was."""
    optimizer = md.AdamW({"a": X}, backend="numpy")
    for bad in ("x", None, X + 1j, X.astype(object), X.astype(int), [1], X[:1]):
        assert "gradient 'a'" in refused(optimizer.step, {"a": bad})
    for bad in (None, [1], {"b": X}):
        assert "gradient" in refused(optimizer.step, bad)
    for lr in ("1", NAN, -1, True):
        assert "lr must be" in refused(optimizer.step, {"a": X}, lr=lr)
    state = optimizer.state()
    for bad in (None, {}, state | {"t": "x"}, state | {"t": -1}, state | {"v": {"a": X[:1]}},
                state | {"v": {"b": X}}, state | {"m": {"a": X + 1j}}):  # fmt: skip
        refused(optimizer.load, bad)
    assert optimizer.t == 0 and not optimizer.m["a"].any() and not optimizer.v["a"].any()


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy,
                                   lambda o: pickle.loads(pickle.dumps(o))])  # fmt: skip
def test_adamw_is_copied_and_pickled(backend, again):
    """Was: TypeError: cannot pickle 'mappingproxy' object.
    Right: the copy's next step has the same bits, and leaves the first one alone."""
    model = model_of(CASES["distilbert-body"], SMALL, backend=backend)
    grads = {name: np.sin(x + 1) for name, x in model.params.items()}
    optimizer = md.AdamW(model.params, lr=0.01, backend=backend)
    optimizer.step(grads)
    other = again(optimizer)
    mine, theirs = optimizer.step(grads), other.step(grads)
    assert all(np.array_equal(mine[name], theirs[name]) for name in grads)
    other.step(grads)
    assert optimizer.t == 2 and other.t == 3
    name = next(iter(grads))
    assert not np.array_equal(optimizer.m[name], other.m[name])


def test_a_sentence_model_is_copied_with_its_pooling():
    """Was: untested. Right: the pooling goes with the copy."""
    model = md.from_config(small().config, SENTENCES, backend="numpy")
    assert copy.deepcopy(model).pooling == model.pooling
