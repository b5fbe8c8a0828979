"""Labels: what is a class, what is none, and what is said about it."""

import json
import math

import numpy as np
import pytest
from labelled_models import QUICK, TEXTS, model_folder, ran, rows

from minidistil.config import DistilBertConfig
from minidistil.data import examples, train_wordpiece
from minidistil.data.batches import Batching
from minidistil.data.label_values import MULTI, REGRESSION, SINGLE, keep_labelled, label_numbers
from minidistil.tasks.extractive_summarization.data import documents_of
from minidistil.tasks.multiple_choice.data import choice_of, choices_of
from minidistil.tasks.question_answering.data import squad
from minidistil.tasks.sentence_embedding.data import SentencePairs
from minidistil.tasks.text_classification.data import LabelledText

ABC = ("a", "b", "c")


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS, 80, min_frequency=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A classifier whose classes are words."""
    return model_folder(tmp_path_factory.mktemp("labels") / "model", names=("bad", "good"))


def labelled(labels):
    return [(TEXTS[i % len(TEXTS)], None, label) for i, label in enumerate(labels)]


# ------------------------------------------------------- several classes


@pytest.mark.parametrize("names", [ABC, ("0", "1", "2")])
@pytest.mark.parametrize(
    "labels",
    [
        [[1, 0, 1], [0, 0, 0], [0, 1, 0]],
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[True, False, True], [False, False, False], [False, True, False]],
        ["1,0,1", "0,0,0", "0,1,0"],
        ["[1, 0, 1]", "[0, 0, 0]", "[0, 1, 0]"],
        list(np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])),
    ],
)
@pytest.mark.filterwarnings("ignore:labels are numbers")
def test_a_row_of_zeros_and_ones(tokenizer, labels, names):
    """Was: [1,0,1] had the classes called "0" and "1", twice the one.
    Right: classes 1 and 3, as transformers reads a row of floats for BCEWithLogitsLoss."""
    wanted = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert label_numbers(labels, MULTI, names).tolist() == wanted
    data = LabelledText(labelled(labels), tokenizer, Batching(99), problem_type=MULTI)
    assert data.names == ("0", "1", "2") and data.labels.tolist() == wanted


def test_rows_that_do_not_fit():
    """Was: a row for three classes gave a model of five its classes "0" and "1".
    Right: both numbers in one line; lists of names stay what they were."""
    with pytest.raises(ValueError, match=r"rows of 3 numbers, 0 or 1, where there are 2 classes"):
        label_numbers([[1, 0, 1]], MULTI, ("a", "b"))
    with pytest.raises(ValueError, match=r"example 0: .* names a class twice; where labels are ro"):
        label_numbers([[1, 0, 1], [1, 0]], MULTI, ("0", "1"))
    assert label_numbers([["a"], "b, c", [], ""], MULTI, ABC).tolist() == [
        [1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]
    ]  # fmt: skip
    assert label_numbers([["0", "1"], ["1"]], MULTI, ("0", "1")).tolist() == [[1, 1], [0, 1]]


def test_a_list_holds_nothing_that_is_no_class():
    """Was: [["a"]], [null] and [1, -1] had classes called "['a']", "None" and "-1".
    Right: refused by name."""
    for label in ([["a"]], [None, "a"], [math.nan], ["a", "-"], [{"a": 1}]):
        with pytest.raises(ValueError, match=r"example 0: .* holds a value that names no class"):
            label_numbers([label], MULTI, ABC)
    with pytest.raises(ValueError, match="holds -1, which is no class"):
        label_numbers([[1, -1]], MULTI, ("-1", "1"))


# ------------------------------------------------------- no class at all


@pytest.mark.parametrize("none", ["", " ", None, math.nan, "-", "NaN", "null", np.float32("nan")])
def test_what_is_no_class_is_refused_or_left_out(tokenizer, none):
    """Was: "", NaN and "-" became classes of their own, and NaN of "nan" at that.
    Right: refused with the first and their number, or left out and counted."""
    labels = ["a", none, "b", none]
    with pytest.raises(
        ValueError, match=r"example 1 has no label .*, as 2 of 4 examples have.*--skip"
    ):
        LabelledText(labelled(labels), tokenizer, Batching(99))
    with pytest.warns(UserWarning, match="2 of 4 examples have no label; left out"):
        kept = keep_labelled(labelled(labels))
    assert [label for *_, label in kept] == ["a", "b"]
    number = r"example 1( has no label|: regression needs a finite number as label)"
    with pytest.raises(ValueError, match=number):
        LabelledText(labelled([1, none, 2.5]), tokenizer, Batching(99), problem_type=REGRESSION)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 1, -1, 2], None),
        (["1", "0", "-1"], None),
        ([-1, -1], None),
        ([1, 2, 3, -1], None),
        ([-1, 1, 1], ("-1", "1")),
        (["x", "-1"], ("-1", "x")),
    ],
)
def test_minus_one_beside_other_numbers(tokenizer, labels, classes):
    """Was: −1, by which GLUE and SNLI mark an example without a label, was a class.
    Right: none beside numbers from 0 on; a class beside 1 alone, or beside words."""
    if classes is None:
        with pytest.raises(ValueError, match=r"has no label but '?-1'?, as"):
            LabelledText(labelled(labels), tokenizer, Batching(99))
    else:
        assert LabelledText(labelled(labels), tokenizer, Batching(99)).names == classes


def test_minus_one_of_a_model_that_knows_it_or_of_a_number():
    """Was: as it should be, and stays.
    Right: a model may call a class "-1"; a number may be −1."""
    assert label_numbers([0, -1], SINGLE, ("-1", "0")).tolist() == [1, 0]
    assert label_numbers([0, -1], REGRESSION, ()).tolist() == [0, -1]


@pytest.mark.parametrize(
    "label", [["a"], [1, 0], {"a": 1}, '["a", "b"]', "[1, 0, 1]", '{"a": 1}', b"a", ()]
)
def test_lists_and_objects_are_no_class(label):
    """Was: one class was called "['a']", another "{'a': 1}".
    Right: refused, with the problem type that takes several."""
    with pytest.raises(ValueError, match=r"a label is a name or a number, not .*multi_label"):
        label_numbers([label], SINGLE, ABC)


def test_a_number_of_json_has_one_name():
    """Was: 1 and 1.0 were two classes.
    Right: the same number; a text is what is written."""
    assert label_numbers([1, 1.0, np.int64(0), 0], SINGLE, ("0", "1")).tolist() == [1, 1, 0, 0]


def test_two_classes_of_one_name():
    """Was: every label of that name was the last such class.
    Right: refused by name."""
    with pytest.raises(ValueError, match="two classes are called 'a'"):
        label_numbers(["a"], SINGLE, ("a", "b", "a"))


def test_half_of_a_surrogate_pair_is_no_name():
    """Was: it was a class, which no terminal prints.
    Right: refused, as it is in a text."""
    with pytest.raises(ValueError, match="example 0: the label holds half of a surrogate pair"):
        label_numbers(["\ud800"], SINGLE, ABC)


# ------------------------------------------------------- numbers


@pytest.mark.parametrize("label", [1e39, -4e38, 10**400, "1e39", math.inf, "x", [1], {}])
def test_numbers_beyond_float32(tokenizer, label):
    """Was: 1e39 became infinity, and training stopped at its first loss; 10**400 was a traceback.
    Right: refused before training, by float32's largest number."""
    with pytest.raises(ValueError, match=r"example 1: regression needs .* within ±3\.403e\+38"):
        LabelledText(labelled([0.5, label]), tokenizer, Batching(99), problem_type=REGRESSION)
    with pytest.raises(ValueError, match="example 0: regression needs a finite number"):
        SentencePairs([(*TEXTS[:2], label)], tokenizer, Batching(99))


def test_similarities_beyond_float32(tokenizer):
    """Was: 5 with a highest similarity of 1e-39 was infinity.
    Right: refused."""
    with pytest.raises(ValueError, match=r"similarities, up to 5.* beyond float32"):
        SentencePairs([(*TEXTS[:2], 5)], tokenizer, Batching(99), highest=1e-39)


# ------------------------------------------------------- the model's names


def test_positions_among_words_are_said():
    """Was: 0 and 1 were read as the first and second name without a word.
    Right: so read, with a warning of what became what; "LABEL_0" is the number itself."""
    with pytest.warns(UserWarning, match="0 as negative, 1 as positive; if they count"):
        assert label_numbers(["1", 0], SINGLE, ("negative", "positive")).tolist() == [1, 0]
    with pytest.warns(UserWarning, match="0 as a, 1 as b, 2 as c"):
        label_numbers([[1, 0, 1]], MULTI, ABC)
    assert label_numbers(["1", 0], SINGLE, ("LABEL_0", "LABEL_1")).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ({"0": 7, "1": 2.5}, ("7", "2.5")),
        ({"0": None, "1": "b"}, ("LABEL_0", "b")),
        ({"1": "b", "0": "a"}, ("a", "b")),
        ({"0": True, "1": False}, ("True", "False")),
    ],
)
def test_names_that_are_numbers_or_null(names, wanted):
    """Was: names were ints and None, on which sorting and joining failed with a traceback.
    Right: texts; where there is no name, the one that transformers gives."""
    config = DistilBertConfig.from_dict({"id2label": names})
    assert config.id2label == wanted and config.num_labels == 2
    assert config.to_dict()["id2label"] == dict(zip("01", wanted, strict=True))


@pytest.mark.parametrize(
    "names", [{"0": "a", "2": "b"}, {"1": "a"}, {"0": ["a"]}, ["a", "b"], {"x": "a"}, {"-1": "a"}]
)
def test_numbers_that_leave_one_out(names):
    """Was: {"0": "a", "2": "b"} were classes 0 and 1.
    Right: refused; a name belongs to its own logit."""
    with pytest.raises(ValueError, match="id2label"):
        DistilBertConfig.from_dict({"id2label": names})


# ------------------------------------------------------- where labels come from


def table(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "text;label\na film;good\nanother, longer;bad\n"),
        ("a.csv", "text\tlabel\na film\tgood\nanother, longer\tbad\n"),
        ("a.csv", 'text;"label, in words";label\na film;1,5;good\nanother, longer;2;bad\n'),
        ("a.csv", 'text,label\na film,good\n"another, longer",bad\n'),
        ("a.csv", "text,labels\na film,good\n\"another, longer\",bad\n"),
        ("a.jsonl", '{"text": "a film", "labels": "good"}\n'
                    '{"text": "another, longer", "labels": "bad"}\n'),
    ],
)  # fmt: skip
def test_tables_of_other_separators_and_a_column_of_labels(tmp_path, name, text):
    """Was: a header "text;label" was one column, whose name holds "text", so whole rows were texts;
    a column called labels was not seen, and a student learnt without labels.
    Right: the header's own separator; label or labels."""
    found = list(examples(table(tmp_path / name, text)))
    assert found == [("a film", None, "good"), ("another, longer", None, "bad")]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.tsv", "text,label\na,1\n", "line 1: the header 'text,label' is one column of a .tsv"),
        ("a.csv", "text,label,label\na,1,2\n", "line 1: two columns are called 'label'"),
        ("a.tsv", "text\ttext\na\tb\n", "line 1: two columns are called 'text'"),
    ],
)
def test_headers_that_cannot_be_meant(tmp_path, name, text, says):
    """Was: the rows of a .csv called .tsv were texts; of two columns of one name the last counted.
    Right: refused by name."""
    with pytest.raises(ValueError, match=says):
        list(examples(table(tmp_path / name, text)))


def test_one_column_stays_one(tmp_path):
    """Was: as it should be, and stays.
    Right: a single column may hold every mark; without a header commas separate."""
    path = table(tmp_path / "a.csv", "text\na; b; c\n")
    assert list(examples(path)) == [("a; b; c", None, None)]
    path = table(tmp_path / "b.csv", "good; yes,1\n")
    assert list(examples(path, text=0, label=1)) == [("good; yes", None, "1")]


@pytest.mark.parametrize("label", [-1, None, "", "-", math.nan, "absent"])
def test_choices_without_a_label(tmp_path, label):
    """Was: −1, "", "-" and NaN, as SWAG's test set has them, stopped even a prediction.
    Right: no label: refused where one is needed, or left out and counted."""
    record = {"question": "which", "choices": ["a", "b"]}
    missing = record if label == "absent" else record | {"label": label}
    assert choice_of(missing, "line 1").label is None
    assert choice_of(record | {"labels": 1}, "line 1").label == 1
    path = rows(tmp_path / "c.jsonl", record | {"label": 1}, missing)
    with pytest.warns(UserWarning, match="1 of 2 examples has no label; left out"):
        assert [choice.label for choice in choices_of(path, skip_unlabelled=True)] == [1]


def test_a_context_of_null_is_no_text():
    """Was: the question became "None which".
    Right: the question alone; what is no text is refused."""
    record = {"question": "which", "choices": ["a", "b"], "context": None}
    assert choice_of(record, "line 1").question == "which"
    with pytest.raises(ValueError, match="line 1: an item is"):
        choice_of(record | {"context": ["a"]}, "line 1")


# ------------------------------------------------------- the commands


def test_finetune_evaluate_and_distil_alike(folder, tmp_path, capsys):
    """Was: "-" was a third class in training, and stopped the evaluation of the same file.
    Right: all three refuse it, and leave it out with one word, --skip-unlabelled."""
    found = [{"text": t, "label": y} for t, y in zip(TEXTS, ["good", "bad"] * 3, strict=True)]
    data = rows(tmp_path / "a.jsonl", *found, {"text": "a film", "label": "-"})
    out = tmp_path / "out"
    train = ("--steps", 1, "--held-out", 2, "--out", out, *QUICK)
    commands = [
        ("finetune", "--model", folder, *train),
        ("evaluate", "--model", folder, *QUICK),
        ("distill", "--teacher", folder, "--layers", "0", "--no-baselines", *train),
    ]
    for command, *argv in commands:
        code, _, _, error = ran(capsys, command, *argv, "--data", data)
        assert code == 2 and "example " in error and not out.exists()
        assert "as 1 of 7 examples has" in error
        elsewhere = () if command == "evaluate" else ("--out", tmp_path / command)
        code, _, warning, error = ran(
            capsys, command, *argv, "--data", data, "--skip-unlabelled", *elsewhere
        )
        assert code == 0, error
        assert "1 of 7 examples has no label; left out" in warning
    names = json.loads((tmp_path / "finetune" / "config.json").read_text())["id2label"]
    assert names == {"0": "bad", "1": "good"}


def test_numbers_for_a_head_of_words(folder, tmp_path, capsys):
    """Was: evaluate read 0 and 1 as bad and good, finetune called its classes 0 and 1, in silence.
    Right: both with a warning."""
    data = rows(tmp_path / "a.jsonl", *({"text": t, "label": i % 2} for i, t in enumerate(TEXTS)))
    code, _, warning, _ = ran(capsys, "evaluate", "--model", folder, "--data", data, *QUICK)
    assert code == 0 and "0 as bad, 1 as good" in warning
    code, _, warning, _ = ran(
        capsys, "finetune", "--model", folder, "--data", data, "--held-out", 2, "--steps", 1,
        "--out", tmp_path / "out", *QUICK
    )  # fmt: skip
    assert code == 0 and "classes bad, good are called 0, 1 from now on" in warning


def test_regression_refuses_before_the_first_step(folder, tmp_path, capsys):
    """Was: a label of 1e39 stopped training after its first step, with "loss is not finite".
    Right: exit code 2 and one line before it, nothing in --out."""
    found = [{"text": t, "label": 1e39 if i == 3 else 0.5} for i, t in enumerate(TEXTS)]
    code, _, _, error = ran(
        capsys, "finetune", "--model", folder, "--data", rows(tmp_path / "a.jsonl", *found),
        "--problem-type", "regression", "--held-out", 2, "--steps", 1, "--out", tmp_path / "out",
        *QUICK
    )  # fmt: skip
    assert code == 2 and "finite number as label" in error and not (tmp_path / "out").exists()


def test_one_output_is_a_number(tmp_path, capsys):
    """Was: a cross-encoder of one output and no problem_type refused 0.5, "none of LABEL_0".
    Right: regression, as transformers infers it."""
    folder = model_folder(tmp_path / "model", num_labels=1)
    data = rows(tmp_path / "a.jsonl", *({"text": t, "label": 0.5 * i} for i, t in enumerate(TEXTS)))
    code, out, _, error = ran(
        capsys, "evaluate", "--model", folder, "--data", data, *QUICK, "--json"
    )
    assert code == 0, error
    assert "pearson" in json.loads(out)


ASKED = {"id": "1", "question": "what\ud800", "answers": [{"text": "film", "answer_start": 2}]}
SQUAD = {"data": [{"paragraphs": [{"context": "a film", "qas": [ASKED]}]}]}


@pytest.mark.parametrize(
    ("read", "name", "found"),
    [
        (lambda p: list(examples(p)), "a.jsonl", {"text": "a\ud800", "label": 1}),
        (squad, "a.json", SQUAD),
        (lambda p: list(documents_of(p)), "a.jsonl", {"text": "a\ud800 b", "summary": "c"}),
    ],
)
def test_half_of_a_surrogate_pair_is_no_text(tmp_path, read, name, found):
    """Was: TypeError of the tokenizer, a traceback, where texts were tokenised without a look.
    Right: one line with the place, for every reader of JSON."""
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        read(rows(tmp_path / name, found))


def test_images_without_a_label():
    """Was: −1 beside 0 and 1 was a third class of images.
    Right: as of texts."""
    found = [(np.zeros((2, 2)), label) for label in (0, 1, -1)]
    with pytest.warns(UserWarning, match="1 of 3 examples has no label"):
        assert len(keep_labelled(found)) == 2
