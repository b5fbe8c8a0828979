"""The exercises' graders: each right answer is accepted, each known wrong one named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidistil as md
from minidistil import lesson
from minidistil.lesson.exercise import call, exercises, find
from minidistil.lesson.grading import grade
from minidistil.model.bundled_teacher import default_teacher

EXERCISES = [*exercises().values()]
WRONG = [(x, sentence) for x in EXERCISES for sentence in x.mistakes]
RIGHT = [(x, f) for x in EXERCISES for f in (x.answer, *x.variants)]


def exercise_of(right, *args, **about):
    return lesson.exercise(cases=lambda: [args], **about)(right)


def double(x):
    return 2 * x


def pair(x):
    return x.sum(), np.outer(x, x)


ATTEMPTS = {
    "is right": lambda x: x + x,
    "is still empty": lambda x: None,
    "stopped with ZeroDivisionError": lambda x: 1 / 0,
    "wanted 1 thing": lambda x: (x, x),
    "has shape (3, 2), wanted (2, 3); is it transposed?": lambda x: 2 * x.T,
    "is 0.5 times the right one": lambda x: x,
    "is the right one plus 1 everywhere": lambda x: 2 * x + 1,
    "is wrong, most of all": lambda x: x**2,
    "is NaN or infinite in 6 entries": lambda x: x / 0,
    "which is no array of numbers": lambda x: "two",
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_each_mistake_is_described(sentence):
    exercise = exercise_of(double, np.arange(6.0).reshape(2, 3) + 1)
    assert sentence in grade(exercise, ATTEMPTS[sentence])


def test_a_known_mistake_is_named_and_another_is_not():
    exercise = exercise_of(double, np.arange(3.0))
    exercise.wrong("it is squared")(lambda x: x**2)
    assert grade(exercise, lambda x: x * x).endswith("Diagnosis: it is squared")
    assert "Diagnosis" not in grade(exercise, lambda x: x**3)


def test_the_wrong_one_of_two_things_is_named():
    exercise = exercise_of(pair, np.arange(3.0), returns=("total", "square"))
    out = grade(exercise, lambda x: (x.sum(), np.ones((3, 3))))
    assert "square is wrong" in out and "total" not in out
    assert "square is missing" in grade(exercise, lambda x: (x.sum(), None))


def test_two_mistakes_in_two_values_are_both_named():
    exercise = exercise_of(pair, np.arange(3.0), returns=("total", "square"))
    exercise.wrong("a mean, not a sum")(lambda x: (x.mean(), np.outer(x, x)))
    exercise.wrong("the inner product")(lambda x: (x.sum(), x @ x))
    out = grade(exercise, lambda x: (x.mean(), x @ x))
    assert out.endswith("Diagnosis: a mean, not a sum; the inner product")


def test_a_difference_in_a_later_case_is_found_and_the_case_is_named():
    exercise = lesson.exercise(cases=lambda: [(2.0,), (3.0,)])(double)
    assert "lesson.cases('double')[1]" in grade(exercise, lambda x: x**2)


def test_a_run_may_name_a_mistake_itself():
    def run(attempt, x):
        if attempt is not double:
            raise lesson.MistakeError("a barrier is missing")
        return call(attempt, x)

    exercise = lesson.exercise(cases=lambda: [(2.0,)], run=run)(double)
    assert grade(exercise, lambda x: 2 * x).endswith("Diagnosis: a barrier is missing")


def test_an_unknown_mistake_is_explained_by_the_exercise():
    exercise = exercise_of(double, 2.0, explained=lambda answer, x: f"{answer:g} from {x:g}")
    assert grade(exercise, lambda x: 9.0).endswith("Diagnosis: 9 from 2")


def test_an_attempt_cannot_change_what_it_is_given():
    def greedy(x):
        x *= 2
        return x

    x = np.arange(3.0)
    assert "is right" in grade(exercise_of(double, x), greedy)
    assert (x == np.arange(3)).all()


def test_words_are_compared_as_words():
    exercise = exercise_of(lambda text: text.split(), "a b")
    assert "is right" in grade(exercise, lambda text: ["a", "b"])
    assert "is ['a b'] instead of ['a', 'b']" in grade(exercise, lambda text: [text])
    assert "is 3 instead of ['a', 'b']" in grade(exercise, lambda text: 3)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
@pytest.mark.parametrize("answer", [3, "text", [], {}, (), np.zeros((1, 2, 3)), object()], ids=str)
def test_an_answer_of_any_kind_is_described(exercise, answer):
    assert grade(exercise, lambda *args, **options: answer).startswith(f"✗ {exercise.name}")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="no exercise is named 'tea'; known: "):
        lesson.check("tea", double)


def label(value):
    return getattr(value, "name", None) or getattr(value, "__name__", None) or value[:40]


@pytest.mark.parametrize(("exercise", "sentence"), WRONG, ids=label)
def test_a_known_wrong_answer_is_refused_with_its_own_sentence(exercise, sentence):
    out = grade(exercise, exercise.mistakes[sentence])
    assert out.startswith(f"✗ {exercise.name}"), out
    assert out.endswith(f"  Diagnosis: {sentence}"), out


@pytest.mark.parametrize(("exercise", "answer"), RIGHT, ids=label)
def test_a_right_answer_is_accepted(exercise, answer):
    assert grade(exercise, answer) == f"✓ {exercise.name} is right"


@pytest.mark.parametrize("exercise", EXERCISES, ids=label)
def test_an_exercise_is_complete(exercise, capsys):
    """It has another right answer, three wrong ones and a hint; its solution is a function."""
    assert exercise.variants and len(exercise.mistakes) >= 3 and exercise.hint
    assert "is still empty" in grade(exercise, lambda *args, **options: None)
    assert "stopped with KeyError" in grade(exercise, lambda *args, **options: {}["x"])
    lesson.hint(exercise.name)
    assert capsys.readouterr().out.startswith(exercise.hint)
    lesson.solution(exercise.name)
    out = capsys.readouterr().out
    assert out.startswith(f"def {exercise.name}(") and compile(exercise.source(), "", "exec")
    assert exercise.remark in out


def test_the_greedy_split_is_the_tokenizers():
    tokenizer = md.load_tokenizer(default_teacher())
    pieces = set(tokenizer.get_vocab())
    for word in ("unwatchable", "filmmakers", "zzz", "zeitgeist", "☃"):
        assert find("cut")(word, pieces) == tokenizer.encode(word).tokens[1:-1]


@given(st.data())
def test_one_wrong_entry_is_refused(data):
    """Whatever value of the answer is changed by a hundredth of its size, it is noticed."""
    exercise = data.draw(st.sampled_from([x for x in EXERCISES if x.run is call]))

    def spoilt(*args):
        answer = exercise.answer(*args)
        values = list(answer) if isinstance(answer, tuple) else [answer]
        i = data.draw(st.integers(0, len(values) - 1))
        if isinstance(values[i], list):
            return values[i][:-1]
        values[i] = np.array(values[i], np.float64)
        where = data.draw(st.integers(0, values[i].size - 1))
        values[i].flat[where] += 0.01 * (np.abs(values[i]).max() + 1)
        return tuple(values) if isinstance(answer, tuple) else values[i]

    assert grade(exercise, spoilt).startswith("✗")


def test_sizes_follow_the_environment(monkeypatch):
    monkeypatch.setenv("MINIDISTIL_LESSON", "small")
    assert lesson.size(200, 10) == 10
    monkeypatch.delenv("MINIDISTIL_LESSON")
    assert lesson.size(200, 10) == 200


def test_an_unknown_mistake_of_an_op_gets_no_empty_diagnosis(capsys):
    exercise = find("masked_attention")
    lesson.check("masked_attention", lambda *args: exercise.answer(*args) + 0.1 * args[0][:1])
    out = capsys.readouterr().out
    assert out.startswith("✗ masked_attention") and "None of the known" not in out
