"""Students of every family, within it and across."""

import dataclasses

import numpy as np
import pytest
from model_cases import CASES, SMALL, Case, batch_of, exact, model_of

import minidistil as md
from minidistil.model.heads import CLASSIFIED
from minidistil.model.params import count, shapes

SIZE = SMALL | {"L": 4}
ALBERT = Case("albert", "fill-mask", {"num_hidden_groups": 2})
INNER = Case("albert", "fill-mask", {"inner_group_num": 2})


def teacher_of(name):
    cases = {"albert": ALBERT, "inner": INNER, "gpt2": CASES["gpt2-words"]}
    return model_of(cases.get(name) or CASES[f"{name}-mlm"], SIZE)


def canonical(model):
    return model.named_by_role()


def assert_started_as(student, teacher, layers, but=()):
    """Every parameter is the teacher's of the same role, those of layer i layers[i]'s.

    but: beginnings of the roles that are not.
    """
    mine, theirs = canonical(student), canonical(teacher)
    blocks = [a.config.architecture.blocks for a in (student, teacher)]
    source = {blocks[0][i]: blocks[1][j] for i, j in enumerate(layers)}
    for role, p in mine.items():
        if role.startswith("layer."):
            _, i, rest = role.split(".", 2)
            role = f"layer.{source[int(i)]}.{rest}"
        same = role in theirs and np.array_equal(p, theirs[role])
        assert same != role.startswith(tuple(but)), role


# ---------------------------------------------------------------- within a family


@pytest.mark.parametrize(
    ("name", "layers", "family"),
    [
        ("bert", (0, 3), "bert"),
        ("bert", (2, 1, 0, 3, 3), "bert"),
        ("distilbert", (1, 3), None),
        ("roberta", (0, 2), None),
        ("roberta", [3], "roberta"),
        ("albert", (0, 1, 1, 2, 3, 3), None),
        ("albert", (0, 2), None),
        ("albert", (2, 3), None),
        ("albert", (3,), None),
        ("inner", (0, 1, 2, 3), None),
        ("inner", (4, 1), None),
        ("gpt2", (0, 2), None),
    ],
)
def test_within_a_family(name, layers, family):
    teacher = teacher_of(name)
    student = md.student_from(teacher, layers, vocab_transform=True, family=family)
    assert type(student.config) is type(teacher.config)
    assert len(layers) == student.config.architecture.L
    assert_started_as(student, teacher, layers)
    half = md.student_from(teacher, layers, family=family, seed=3)
    assert_started_as(half, teacher, layers, but=() if name == "gpt2" else ["transform"])


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "inner", "distilbert"])
def test_a_student_with_every_layer_is_its_teacher(name):
    teacher = teacher_of(name)
    case = {"inner": INNER, "albert": ALBERT}.get(name) or CASES[f"{name}-mlm"]
    layers = range(teacher.config.architecture.L)
    student = md.student_from(
        teacher, layers, vocab_transform=True, family=teacher.config.model_type
    )
    assert student.config == dataclasses.replace(teacher.config, architectures=None)
    batch = batch_of(case, SIZE)
    step = md.distill_step(exact(student), exact(teacher), batch, md.DistillConfig(alpha_mlm=0))
    assert step.parts["ce"] == pytest.approx(0, abs=1e-12)
    assert step.parts["cos"] == pytest.approx(0, abs=1e-12)


def test_distilroberta_is_roberta_with_every_other_layer():
    teacher = model_of(CASES["roberta-mlm"], SMALL | {"L": 12})
    student = md.student_from(teacher)
    assert student.config.to_dict() == teacher.config.to_dict() | {"num_hidden_layers": 6}
    assert_started_as(student, teacher, (0, 2, 4, 7, 9, 11), but=["transform"])


@pytest.mark.parametrize("task", CLASSIFIED)
@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "distilbert"])
def test_the_head_of_a_task_is_handed_on(family, task):
    teacher = model_of(Case(family, task, {"labels": 2}), SIZE)
    student = md.student_from(teacher, (0, 3), family=family)
    assert student.task == task
    assert student.config.id2label == teacher.config.id2label
    assert_started_as(student, teacher, (0, 3))


# ---------------------------------------------------------------- across families


def test_a_bert_from_a_distilbert_and_back():
    teacher = teacher_of("distilbert")
    bert = md.student_from(teacher, (3, 0), vocab_transform=True, family="bert")
    assert bert.config.type_vocab_size == 2
    assert_started_as(bert, teacher, (3, 0), but=["embeddings.type"])
    again = md.student_from(bert, (1, 0), vocab_transform=True)
    assert again.config.model_type == "distilbert"
    assert_started_as(again, teacher, (0, 3))


def test_an_albert_gives_its_block_to_every_layer_of_a_bert():
    teacher = teacher_of("albert")
    student = md.student_from(teacher, (0, 1, 3), vocab_transform=True, family="bert")
    assert student.config.hidden_act == teacher.config.hidden_act == "gelu_new"
    narrow = ["embeddings.", "transform", "transform_norm"]  # E channels there, C here
    assert_started_as(student, teacher, (0, 1, 3), but=narrow)
    batch = batch_of(ALBERT, SIZE)
    assert np.isfinite(md.distill_step(student, teacher, batch, md.DistillConfig()).loss)


def test_a_bert_gives_each_group_of_an_albert_one_layer():
    teacher = teacher_of("bert")
    student = md.student_from(teacher, (2, 2, 0, 0), vocab_transform=True, family="albert")
    assert student.config.num_hidden_groups == 2
    assert student.config.embedding_size == SIZE["C"]
    assert_started_as(student, teacher, (2, 2, 0, 0), but=["embeddings.mapping"])
    batch = batch_of(CASES["bert-mlm"], SIZE)
    assert np.isfinite(md.distill_step(student, teacher, batch, md.DistillConfig()).loss)


@pytest.mark.parametrize(("name", "family"), [("bert", "roberta"), ("roberta", "bert")])
def test_positions_move_between_a_bert_and_a_roberta(name, family):
    """Every layer and the whole head: the same answers, where padding is on the right."""
    teacher = model_of(Case(name, "fill-mask"), SIZE)
    student = md.student_from(teacher, range(4), vocab_transform=True, family=family)
    a, b = (m.config.architecture for m in (student, teacher))
    assert a.longest == b.longest and a.P != b.P
    ids = np.random.default_rng(1).integers(2, SIZE["V"], (3, a.longest))
    mask = (np.arange(a.longest) < np.array([[a.longest], [4], [1]])).astype(int)
    ids[mask == 0] = teacher.config.pad_token_id
    mine, theirs = (exact(m).forward(ids, mask).logits for m in (student, teacher))
    np.testing.assert_allclose(mine, theirs, atol=1e-12)
    assert_started_as(student, teacher, range(4), but=["embeddings.position", "embeddings.type"])


@pytest.mark.parametrize(("name", "family"), [("bert", "roberta"), ("roberta", "bert")])
def test_a_classifier_has_other_names_in_a_roberta(name, family):
    teacher = model_of(Case(name, "text-classification", {"labels": 3}), SIZE)
    student = md.student_from(teacher, range(4), family=family)
    ids = np.random.default_rng(1).integers(2, SIZE["V"], (3, 7))
    mine, theirs = (exact(m).forward(ids).logits for m in (student, teacher))
    np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_a_body_gives_a_model_of_words():
    student = md.student_from(model_of(CASES["gpt2-body"], SIZE), (3, 0))
    assert student.task == "text-generation"
    assert_started_as(student, model_of(CASES["gpt2-body"], SIZE), (3, 0))


# ---------------------------------------------------------------- other sizes


def test_fewer_heads_and_less_width():
    teacher = teacher_of("bert")
    fewer = dataclasses.replace(teacher.config, num_hidden_layers=2, num_attention_heads=1)
    student = md.student_from(teacher, (0, 2), vocab_transform=True, config=fewer)
    assert student.config.num_attention_heads == 1
    assert_started_as(student, teacher, (0, 2))
    narrow = dataclasses.replace(fewer, hidden_size=6)
    student = md.student_from(teacher, (0, 2), vocab_transform=True, config=narrow, seed=4)
    fresh = canonical(md.from_config(narrow, seed=4))
    for role, p in canonical(student).items():  # how frequent words are does not ask for a width
        expected = (canonical(teacher) if role == "decoder.bias" else fresh)[role]
        np.testing.assert_array_equal(p, expected, err_msg=role)
    batch = batch_of(CASES["bert-mlm"], SIZE)
    losses = md.DistillConfig(alpha_cos=0)
    assert np.isfinite(md.distill_step(student, teacher, batch, losses).loss)
    with pytest.raises(ValueError, match="agree in the hidden size: 6 against 9"):
        md.distill_step(student, teacher, batch, md.DistillConfig())


def test_a_bias_goes_with_its_weight():
    teacher = teacher_of("bert")
    config = dataclasses.replace(teacher.config, num_hidden_layers=1, intermediate_size=5)
    student = md.student_from(teacher, (2,), vocab_transform=True, config=config)
    assert_started_as(student, teacher, (2,), but=["layer.2.lin"])


@pytest.mark.parametrize("positions", [5, 30])
def test_tables_are_taken_over_as_far_as_both_reach(positions):
    teacher = teacher_of("bert")
    config = dataclasses.replace(
        teacher.config, num_hidden_layers=1, max_position_embeddings=positions, type_vocab_size=1
    )
    student = canonical(md.student_from(teacher, (0,), config=config, seed=3))
    fresh, given = canonical(md.from_config(config, seed=3)), canonical(teacher)
    for role in ("embeddings.position.weight", "embeddings.type.weight"):
        n = min(len(student[role]), len(given[role]))
        np.testing.assert_array_equal(student[role][:n], given[role][:n])
        np.testing.assert_array_equal(student[role][n:], fresh[role][n:])


def test_labels_are_the_teachers():
    teacher = model_of(CASES["bert-single"], SIZE)
    config = dataclasses.replace(teacher.config, num_labels=2, id2label=None, num_hidden_layers=1)
    student = md.student_from(teacher, (1,), config=config)
    assert student.config.id2label == teacher.config.id2label
    assert_started_as(student, teacher, (1,))


def test_tinybert_has_as_many_parameters_as_published():
    config = md.BertConfig(hidden_size=312, num_hidden_layers=4, intermediate_size=1200)
    assert count(shapes(config, "feature-extraction")) == 14_350_248


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("name", "layers", "options", "words"),
    [
        ("bert", (0,), {"family": "electra"}, "family must be one of bert, roberta, albert, dist"),
        ("roberta", (0,), {"family": "distilbert"}, "eps is 1e-12, the teacher's is 1e-05: give"),
        ("bert", (0, 1, 1), {"family": "albert"}, r"layer 1 of this albert shares .*\[0, 1, 1\]"),
        ("albert", (0, 2, 3), {}, "layer 1 of this albert shares its parameters with an earlier"),
        ("inner", (0, 1, 2), {}, "runs its layers in groups of 2, which 3 layers do not fill"),
        ("bert", (0,), {"config": {"vocab_size": 24}}, "share a vocabulary, not have 24 and 23"),
        ("bert", (0,), {"config": {"layer_norm_eps": 1e-3}}, "the student's layer_norm_eps is"),
        ("bert", (0,), {"config": {"hidden_act": "relu"}}, "activation is relu, the teacher's"),
        ("bert", 0, {}, "the teacher's layers 0 to 3, not 0"),
        ("bert", (True,), {}, r"the teacher's layers 0 to 3, not \[True\]"),
        ("bert", (0,), {"decoder_layers": (0,)}, "are an encoder–decoder's, and the teacher is"),
        ("bert", (0, 1), {"config": {}}, r"config has 1 layers, but 2 are named: \[0, 1\]"),
        ("gpt2", (0,), {"family": "bert"}, "a bert cannot start as a gpt2: one reads from left"),
        ("bert", (0,), {"family": "gpt2"}, "a gpt2 cannot start as a bert: one reads from left"),
        ("bert", (0,), {"config": {}, "family": "albert"}, "family is 'albert', but config is a"),
    ],
)  # fmt: skip
def test_what_cannot_be_handed_on(name, layers, options, words):
    teacher = teacher_of(name)
    if "config" in options:
        changes = {"num_hidden_layers": 1, **options["config"]}
        options = options | {"config": dataclasses.replace(teacher.config, **changes)}
    with pytest.raises(ValueError, match=words):
        md.student_from(teacher, layers, **options)
