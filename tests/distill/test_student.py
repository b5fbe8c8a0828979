"""A student starts as some of its teacher's layers, tensor for tensor."""

import numpy as np
import pytest
from model_cases import CASES, SMALL, batch_of, exact, model_of

import minidistil as md

SIZE = SMALL | {"L": 4}
BLOCK = {  # DistilBERT's names for the parts of a BERT layer
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
HEAD = {
    "cls.predictions.transform.dense": "vocab_transform",
    "cls.predictions.transform.LayerNorm": "vocab_layer_norm",
}


def from_bert(layers, vocab_transform):
    """{a student's name: what its BERT teacher calls the tensor it starts as}."""
    names = {"vocab_projector.bias": "cls.predictions.bias"}
    for part in ("word_embeddings.weight", "position_embeddings.weight", "LayerNorm.weight",
                 "LayerNorm.bias"):  # fmt: skip
        names[f"distilbert.embeddings.{part}"] = f"bert.embeddings.{part}"
    for kind in ("weight", "bias"):
        for i, j in enumerate(layers):
            for theirs, mine in BLOCK.items():
                name = f"distilbert.transformer.layer.{i}.{mine}.{kind}"
                names[name] = f"bert.encoder.layer.{j}.{theirs}.{kind}"
        for theirs, mine in HEAD.items() if vocab_transform else ():
            names[f"{mine}.{kind}"] = f"{theirs}.{kind}"
    return names


LISTS = [(0,), (3,), (0, 2), (3, 2, 1, 0), (1, 1, 1, 1, 1, 1), (0, 1, 2, 3), [2, 0], range(4)]


@pytest.mark.parametrize("vocab_transform", [False, True])
@pytest.mark.parametrize("layers", LISTS, ids=str)
def test_from_bert(layers, vocab_transform):
    teacher = model_of(CASES["bert-mlm"], SIZE)
    student = md.student_from(teacher, layers, vocab_transform=vocab_transform, seed=3)
    assert student.config.n_layers == len(layers)
    copied = from_bert(layers, vocab_transform)
    assert set(copied) <= set(student.params)
    for name, source in copied.items():
        np.testing.assert_array_equal(student.params[name], teacher.params[source], err_msg=name)
    fresh = md.from_config(student.config, seed=3)
    for name in set(student.params) - set(copied):
        assert name.startswith(("vocab_transform", "vocab_layer_norm"))
        np.testing.assert_array_equal(student.params[name], fresh.params[name], err_msg=name)


@pytest.mark.parametrize("vocab_transform", [False, True])
@pytest.mark.parametrize("layers", LISTS, ids=str)
def test_from_distilbert(layers, vocab_transform):
    teacher = model_of(CASES["distilbert-mlm"], SIZE)
    student = md.student_from(teacher, layers, vocab_transform=vocab_transform)
    for name, p in student.params.items():
        source = name
        if ".layer." in name:
            before, _, after = name.partition(".layer.")
            i, _, rest = after.partition(".")
            source = f"{before}.layer.{layers[int(i)]}.{rest}"
        same = np.array_equal(p, teacher.params[source])
        assert same == (vocab_transform or not name.startswith(("vocab_t", "vocab_l"))), name


def test_a_student_with_everything_is_its_teacher():
    """Once the token types, which it leaves behind, add nothing."""
    case = CASES["bert-mlm"]
    teacher, batch = model_of(case, SIZE), batch_of(case, SIZE)
    teacher.update({"bert.embeddings.token_type_embeddings.weight": np.zeros((2, SIZE["C"]))})
    student = md.student_from(teacher, range(4), vocab_transform=True)
    types = batch.pop("token_type_ids")
    theirs = exact(teacher).forward(**batch, token_type_ids=types).logits
    np.testing.assert_allclose(exact(student).forward(**batch).logits, theirs, atol=1e-12)
    step = md.distill_step(exact(student), exact(teacher), batch, md.DistillConfig(alpha_mlm=0))
    assert step.parts["ce"] == pytest.approx(0, abs=1e-12)
    assert step.parts["cos"] == pytest.approx(0, abs=1e-12)
    assert max(abs(g).max() for g in step.grads.values()) < 1e-10


def test_sizes_are_the_teachers():
    teacher = model_of(CASES["bert-mlm"], SIZE)
    t, s = teacher.config, md.student_from(teacher, (1,)).config
    assert (s.dim, s.n_heads, s.hidden_dim) == (SIZE["C"], SIZE["H"], SIZE["F"])
    assert (s.vocab_size, s.max_position_embeddings) == (SIZE["V"], SIZE["P"])
    assert (s.dropout, s.attention_dropout) == (
        t.hidden_dropout_prob,
        t.attention_probs_dropout_prob,
    )
    assert s == md.student_config(teacher, 1)


def test_the_teacher_keeps_its_parameters():
    teacher = model_of(CASES["bert-mlm"], SIZE)
    before = {name: p.copy() for name, p in teacher.params.items()}
    student = md.student_from(teacher, (1,))
    student.update({name: p + 1 for name, p in student.params.items()})
    for name, p in before.items():
        np.testing.assert_array_equal(teacher.params[name], p)


@pytest.mark.parametrize("name", ["bert-single", "distilbert-single"])
def test_a_classifier_hands_on_its_head(name):
    teacher = model_of(CASES[name], SIZE)
    student = md.student_from(teacher, (0, 3))
    assert student.task == "text-classification"
    assert student.config.id2label == teacher.config.id2label
    for kind in ("weight", "bias"):
        key = f"classifier.{kind}"
        np.testing.assert_array_equal(student.params[key], teacher.params[key])
        theirs = {"bert": "bert.pooler.dense", "distilbert": "pre_classifier"}[CASES[name].family]
        np.testing.assert_array_equal(
            student.params[f"pre_classifier.{kind}"], teacher.params[f"{theirs}.{kind}"]
        )


def test_backend_and_dtype_are_the_teachers():
    teacher = exact(model_of(CASES["distilbert-mlm"], SIZE))
    student = md.student_from(teacher, (0,))
    assert (student.dtype, student.ops.name) == ("float64", "numpy")


@pytest.mark.parametrize("layers", [(), (4,), (-1,), (0, 7), (1.0,), ("0",), (None,)], ids=str)
def test_layers_that_the_teacher_lacks(layers):
    teacher = model_of(CASES["bert-mlm"], SIZE)
    with pytest.raises(ValueError, match="must name some of the teacher's layers 0 to 3, not"):
        md.student_from(teacher, layers)


def test_the_published_choice_needs_twelve_layers():
    with pytest.raises(ValueError, match=r"0 to 3, not \[0, 2, 4, 7, 9, 11\]"):
        md.student_from(model_of(CASES["bert-mlm"], SIZE))


def test_another_epsilon_cannot_be_handed_on():
    teacher = model_of(CASES["bert-pretraining"], SIZE)
    with pytest.raises(ValueError, match="layer_norm_eps is 1e-12, the teacher's is 1e-05"):
        md.student_from(teacher, (0,))
