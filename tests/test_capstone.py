"""`my_distilbert.py`: from its blanks to a file that trains; wrong functions are named."""

import ast
import inspect
from types import SimpleNamespace

import pytest

from minidistil import distilbert, lesson
from minidistil.lesson import capstone
from minidistil.lesson.grading import grade
from minidistil.lesson.piece_mistakes import MISTAKES
from minidistil.lesson.pieces import PROBES, changed, grade_piece, piece

WRONG = [(name, sentence) for name, found in MISTAKES.items() for sentence in found]
FILE = capstone.FILE


@pytest.fixture
def own(tmp_path, monkeypatch, capsys):
    """A file with all blanks, in the current folder; what the last command printed."""
    monkeypatch.chdir(tmp_path)
    lesson.start()
    path = tmp_path / FILE

    def printed():
        return capsys.readouterr().out

    def rewrite(old, new):
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    assert "is written: 24 functions" in printed()
    return SimpleNamespace(path=path, printed=printed, rewrite=rewrite)


def test_every_piece_has_a_chapter_a_probe_and_mistakes():
    assert sorted(capstone.PIECES) == list(range(1, 10))
    assert set(capstone.CHAPTER) == set(PROBES) == set(MISTAKES)


def test_from_blanks_to_a_file_that_trains(own):
    for chapter, names in capstone.PIECES.items():
        lesson.check(chapter)
        lines = own.printed().splitlines()
        assert [line.split()[1] for line in lines[: len(names)]] == list(names)
        assert all("is still empty" in line for line in lines[: len(names)])
        lesson.fill(chapter)
        assert own.printed() == f"filled in {FILE}: {', '.join(names)}\n"
        lesson.check(chapter)
        lines = own.printed().splitlines()
        assert lines[: len(names)] == [f"✓ {name} is right" for name in names]
    assert lines[-1].startswith(f"✓ {FILE}: the loss ")
    assert "all 41 gradients are the library's; 30 steps of AdamW bring the loss to" in lines[-1]
    before, after = (
        float(lines[-1].split("the loss ")[1].split()[0]),
        float(lines[-1].split()[-1]),
    )
    assert after < 0.8 * before


def test_values_are_named_and_a_wrong_piece_keeps_the_whole_back(own):
    for chapter in capstone.PIECES:
        lesson.fill(chapter)
    own.rewrite("drows.T @ rows, drows.sum(axis=0)", "2 * drows.T @ rows, drows.sum(axis=0)")
    own.rewrite("w.alpha_cos * dcos", "dcos")  # of weight 1 in the whole file's check
    own.printed()
    lesson.check(3)
    assert "✗ linear_backward: dW is 2 times the right one" in own.printed()
    lesson.check(9)
    out = own.printed()
    assert "✗ distill_step: " in out and "gradients are the library's" not in out


def test_a_hint_lists_the_common_mistakes_of_a_piece(capsys):
    lesson.hint("block")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"block in {FILE}, common mistakes:"
    assert lines[1:] == [f"  * {sentence}" for sentence in MISTAKES["block"]]
    lesson.hint("adamw")  # of the exercise, and of the function
    out = capsys.readouterr().out
    assert "common mistakes:" in out and not out.startswith("adamw in")
    with pytest.raises(ValueError, match="no exercise is named 'blocks'"):
        lesson.hint("blocks")


def test_the_solved_file_is_the_page(own):
    """There is no second copy: the file's code is that of `minidistil/distilbert.py`."""
    for chapter in capstone.PIECES:
        lesson.fill(chapter)
    mine, page = (ast.parse(text).body[1:] for text in (own.path.read_text("utf-8"),
                                                        inspect.getsource(distilbert)))  # fmt: skip
    assert [ast.dump(node) for node in mine] == [ast.dump(node) for node in page]


def test_an_existing_file_is_left_as_it_is(own):
    own.path.write_text("mine = 1\n", encoding="utf-8")
    lesson.start()
    assert "stays as it is" in own.printed()
    assert own.path.read_text(encoding="utf-8") == "mine = 1\n"


def test_filling_keeps_every_other_line(own):
    own.rewrite("def softmax(s):", "# my note\nmine = 1\n\n\ndef softmax(s):")
    own.rewrite("def gelu(x):\n", "def helper(x):\n    return x  # ☃\n\n\ndef gelu(x):\n")
    before = own.path.read_text(encoding="utf-8").splitlines()
    lesson.fill("gelu")
    after = own.path.read_text(encoding="utf-8").splitlines()
    added = inspect.getsource(distilbert.gelu).splitlines()
    start = before.index("def gelu(x):")
    end = next(i for i in range(start, len(before)) if "# chapter 3" in before[i]) + 1
    assert after == [*before[:start], *added, *before[end:]]


def test_filling_a_chapter_keeps_what_is_written_and_a_name_replaces_it(own):
    own.rewrite(
        '''    """x (…,I), weight (O,I), bias (O,)  ->  x·Wᵀ + b (…,O)."""\n    ...''',
        "    return x @ weight.T - bias, (x, weight)",
    )
    lesson.check(3)
    out = own.printed()
    assert "✗ linear: the answer" in out and "Diagnosis: the bias is subtracted" in out
    assert "○ linear_backward is still empty" in out
    lesson.fill(3)
    assert own.printed() == f"filled in {FILE}: linear_backward, gelu, gelu_backward\n"
    lesson.check(3)
    out = own.printed()
    assert "✗ linear" in out and "○ linear_backward waits for linear" in out and "✓ gelu " in out
    lesson.fill("linear")
    own.printed()
    lesson.check(3)
    assert own.printed().count("✓") == 4


def test_a_cache_of_ones_own_is_welcome(own):
    lesson.fill(3)
    own.rewrite("+ bias, (x, weight)", '+ bias, {"x": x, "w": weight}')
    own.rewrite("x, weight = cache", 'x, weight = cache["x"], cache["w"]')
    own.printed()
    lesson.check(3)
    assert own.printed().count("✓") == 4


def test_an_op_without_its_cache_is_named(own):
    lesson.fill(3)
    own.rewrite("+ bias, (x, weight)", "+ bias")
    own.printed()
    lesson.check(3)
    assert "Diagnosis: an op returns a tuple of two: y and its cache" in own.printed()


def test_a_mistake_is_named_where_it_is_and_only_there(own):
    for chapter in capstone.PIECES:
        lesson.fill(chapter)
    own.rewrite("p * (dp - (dp * p).sum(axis=-1", "p * (dp - (dp * p).sum(axis=-2")
    own.printed()
    for chapter in capstone.PIECES:
        lesson.check(chapter)
    lines = own.printed().splitlines()
    wrong = [line for line in lines if not line.startswith("✓")]
    assert wrong[0].startswith("✗ softmax_backward: the answer is wrong")
    assert "over the wrong axis" in wrong[1]
    assert wrong[2].startswith(f"✗ {FILE}: embeddings.norm.bias is wrong") and len(wrong) == 3
    assert wrong[2].endswith(" other values")


def test_what_is_left_is_listed(own):
    for chapter in (1, 2, 3, 5, 6, 7, 8, 9):
        lesson.fill(chapter)
    own.printed()
    lesson.check(9)
    last = own.printed().splitlines()[-1]
    assert last == (
        f"○ {FILE} has 2 blanks left: layernorm (chapter 4), layernorm_backward (chapter 4)"
    )


def test_a_file_that_raises_is_described(own):
    lesson.fill(1)
    own.rewrite("import numpy as np\n", "import numpy as np\n\nsize = width\n")
    own.printed()
    lesson.check(1)
    assert own.printed() == f"○ {FILE} stopped with NameError: name 'width' is not defined\n"


@pytest.mark.parametrize(("text", "message"), [
    (None, "○ there is no my_distilbert.py here: lesson.start() writes it"),
    ("x = 1\ndef f(:\n", "○ my_distilbert.py, line 2: invalid syntax"),
    ("x = 1\n", "○ my_distilbert.py has no function log_softmax: add `def log_softmax(z):`"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_described(own, text, message):
    own.path.unlink() if text is None else own.path.write_text(text, encoding="utf-8")
    lesson.check(1)
    assert own.printed() == message + "\n"


def test_unknown_pieces_and_chapters_are_refused(own):
    with pytest.raises(ValueError, match=r"chapter from 1 to 9 or one of log_softmax, .*not 'tea'"):
        lesson.fill("tea")
    with pytest.raises(ValueError, match=r"chapters 1 to 9 have a blank .*, 10 has none"):
        lesson.check(10)


@pytest.mark.parametrize(("name", "sentence"), WRONG)
def test_a_known_mistake_is_refused_with_its_own_sentence(name, sentence):
    out = grade(piece(name), changed(name, MISTAKES[name][sentence]))
    assert out.startswith(f"✗ {name}"), out
    assert out.endswith(f"  Diagnosis: {sentence}"), out


@pytest.mark.parametrize(("name", "change"), [
    ("log_softmax", ("np.log(np.exp(shifted).sum(axis=-1, keepdims=True))",
                     "np.logaddexp.reduce(shifted, axis=-1, keepdims=True)")),
    ("linear_backward", ("drows.T @ rows", "np.einsum('no,ni->oi', drows, rows)")),
    ("layernorm", ("(centred**2).mean(axis=-1, keepdims=True)", "x.var(axis=-1, keepdims=True)")),
    ("softmax_backward", ("p * (dp - (dp * p).sum(axis=-1, keepdims=True))",
                          "p * dp - p * np.einsum('...j,...j->...', dp, p)[..., None]")),
    ("attention_weights", ("-np.inf", "-1e30")),
    ("attention_backward", ("tuple(merge_heads(x) for x in (dq, dk, dv))",
                            "[merge_heads(dq), merge_heads(dk), merge_heads(dv)]")),
    ("embedding_backward", (
        "np.add.at(dtable, ids, dy)",
        "dtable += np.eye(shape[0])[ids.ravel()].T @ dy.reshape(-1, dy.shape[-1])")),
    ("kl_divergence", ("(p_t * (log_t - log_s)).sum()", "(p_t @ (log_t - log_s).T).trace()")),
    ("adamw", ("m += (1 - beta1) * (g - m)", "m[...] = beta1 * m + (1 - beta1) * g")),
    ("block_backward", ("du = du + dlin1", "du += dlin1")),
])  # fmt: skip
def test_another_way_to_write_a_function_is_accepted(name, change):
    assert grade(piece(name), changed(name, change)) == f"✓ {name} is right"


def test_the_page_itself_is_right():
    text = inspect.getsource(distilbert)
    for name in capstone.CHAPTER:
        assert grade_piece(text, name) == f"✓ {name} is right"
