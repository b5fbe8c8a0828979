"""Answers to questions: which spans are tried, where a word ends, and what a data file may say."""

import json

import numpy as np
import pytest

from minidistil.cli import main
from minidistil.config import DistilBertConfig
from minidistil.data.batches import Batching
from minidistil.data.tokenizer import SPECIAL, Tokenizer
from minidistil.data.wordpiece import wordpiece
from minidistil.model.pretrained import from_config
from minidistil.tasks.question_answering.command import answers
from minidistil.tasks.question_answering.data import Question, Questions, Reading, squad, windows
from minidistil.tasks.question_answering.predictor import QuestionAnswering
from minidistil.tasks.question_answering.spans import best_spans

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] ang ##ela merkel was in berlin who ? . か ##れ ##は"
TEXT = "Angela Merkel was in Berlin."


def tokenizer(length=32):
    words = {word: i for i, word in enumerate(WORDS.split())}
    return Tokenizer(wordpiece(words, SPECIAL, lowercase=True), max_length=length)


def model(reader):
    config = DistilBertConfig(
        vocab_size=reader.vocab_size, dim=8, hidden_dim=16, n_layers=1, n_heads=2,
        max_position_embeddings=reader.max_length,
    )  # fmt: skip
    return from_config(config, "question-answering", backend="numpy")


def backwards(reader):
    """A model whose starts are the more probable the later they are, and ends the earlier."""
    made = model(reader)
    zero = {n: np.zeros_like(x) for n, x in made.params.items()
            if not n.lower().endswith(("norm.weight", "norm.bias"))}  # fmt: skip
    turn = np.linspace(0, np.pi / 2, reader.max_length)
    places = zero["distilbert.embeddings.position_embeddings.weight"]
    places[:, :4] = np.stack([np.sin(turn), np.cos(turn), -np.sin(turn), -np.cos(turn)], axis=1)
    zero["qa_outputs.weight"][[0, 1], [0, 1]] = 1
    made.update(zero)
    return made


def logits_of(window, starts, ends):
    """Logits (T,2) of a window: 9 at these pieces of the text, 0 elsewhere."""
    z, first = np.zeros((len(window.ids), 2)), int(np.flatnonzero(window.inside)[0])
    for side, pieces in enumerate((starts, ends)):
        z[[first + piece for piece in pieces], side] = 9
    return z


def spans(starts, ends, text=TEXT, **options):
    (window,) = windows([("who ?", text)], tokenizer(), 32, 4)
    found = best_spans([(window, logits_of(window, starts, ends))], **options)
    return [text[span.start : span.end] for span in found]


def data_file(path, *questions, context=TEXT):
    qas = [{"id": str(i), "question": "who ?", **q} for i, q in enumerate(questions)]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": context, "qas": qas}]}]}))
    return path


def answer(text, start=None):
    return {"answers": [{"text": text, "answer_start": TEXT.index(text) if start is None
                         else start}]}  # fmt: skip


def test_no_best_start_before_a_best_end():
    """Was: starts at the end and ends at the beginning left no span: IndexError.
    Right: the best of all valid spans, as run_squad.py's definition has it."""
    length = 200
    (window,) = windows([("who ?", "in " * length)], tokenizer(length + 10), length + 10, 4)
    first = int(np.flatnonzero(window.inside)[0])
    z = np.zeros((len(window.ids), 2))
    z[first + length - 20 : first + length, 0] = 9 + np.arange(20)
    z[first : first + 20, 1] = 8 + np.arange(20)
    (best, *_) = best_spans([(window, z)])
    assert (best.start, best.end) == (3 * (length - 1), 3 * length - 1)  # 28 + 0 is the most


def test_every_command_answers_where_ends_come_first():
    """Was: evaluate, and finetune before its first step, ended in an IndexError.
    Right: an answer for each question."""
    reader, text = tokenizer(64), "in " * 50
    made, asked = backwards(reader), [squad_question("who ?", text)]
    data = Questions([], reader, Batching(99), max_length=64, stride=4, evaluation=asked)
    assert answers(made, data.evaluation_batches()).tolist() == ["in"]
    assert QuestionAnswering(made, reader)(question="who ?", context=text)["answer"] == "in"


def squad_question(question, context, name="q"):
    return Question(0, name, question, context, (("in", 0),))


@pytest.mark.parametrize(("whole", "wanted"), [(True, "Angela Merkel"), (False, "ela Merkel")])
def test_an_answer_is_whole_words(whole, wanted):
    """Was: a best start at "##ela" gave "ela Merkel".
    Right: "Angela Merkel", as transformers' pipeline with align_to_words=True, its default."""
    assert spans([1], [2], whole_words=whole)[0] == wanted


def test_whole_words_across_a_windows_edge():
    """Was: a window that begins inside a word knows a part of the word only.
    Right: the word's characters are those of its pieces in all windows."""
    parts = windows([("who ?", "angela " * 12)], tokenizer(), 12, 2)
    for window in parts:
        places = window.words[window.inside]
        assert ((places[:, 1] - places[:, 0]) == len("angela")).all()
    assert {int(w.offsets[w.inside][0, 0]) % 7 for w in parts} == {0, 3}


def test_scripts_without_spaces_keep_their_pieces():
    """Was: not there; whole words of Japanese would be whole phrases.
    Right: pieces, as transformers advises align_to_words=False for such languages."""
    assert spans([1], [1], text="かれは in", whole_words=True)[0] == "れ"


def test_align_to_words_everywhere(tmp_path, capsys):
    """Was: not there.
    Right: evaluate, predict and the pipeline align by default and stop at --no-align-to-words."""
    reader = tokenizer()
    made = model(reader)
    asked = {"question": "who ?", "context": TEXT}
    by_piece = QuestionAnswering(made, reader)(asked, align_to_words=False, top_k=99)
    by_word = QuestionAnswering(made, reader)(asked, top_k=99)
    assert any(a["answer"].startswith("ela") for a in by_piece)
    assert not any(a["answer"].startswith("ela") for a in by_word)
    folder = tmp_path / "model"
    made.save_pretrained(folder)
    reader.save(folder)
    data = data_file(tmp_path / "squad.json", answer("Berlin"))
    for align, wanted in (("--align-to-words", by_word), ("--no-align-to-words", by_piece)):
        argv = ["predict", "--model", folder, "--data", data, align, "--top-k", 99, "--json"]
        assert main([*map(str, argv), "--backend", "numpy"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert [a["answer"] for a in found] == [a["answer"] for a in wanted]
        assert main(["evaluate", "--model", str(folder), "--data", str(data), align,
                     "--backend", "numpy"]) == 0  # fmt: skip
        assert "exact" in capsys.readouterr().out


def test_two_questions_with_one_id_stay_apart(tmp_path):
    """Was: the windows of both were read as one text's, and one answer was lost.
    Right: two answers, each from its own text."""
    reader = tokenizer()
    asked = [squad_question("who ?", text) for text in ("in berlin", "was merkel")]
    data = Questions(
        [],
        reader,
        Batching(99),
        max_length=32,
        stride=4,
        evaluation=asked,
        reading=Reading(whole_words=False),
    )
    found = answers(model(reader), data.evaluation_batches())
    assert len(found) == 2
    assert found[0] in ("in berlin", "in", "berlin")
    assert found[1] in ("was merkel", "was", "merkel")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (answer("was", -14), "answer_start must be .* 0 to 27, not -14"),
        (answer("was", 28), "answer_start must be .* 0 to 27, not 28"),
        (answer("was", "14"), "answer_start must be .* not '14'"),
        (answer("was", 14.0), "answer_start must be .* not 14.0"),
        (answer("was", 15), "the answer 'was' is not at character 15, where the text reads 'as '"),
        (answer(" ", 6), "an answer must be a text that is not empty, not ' '"),
        ({**answer("was"), "is_impossible": "false"}, "is_impossible must be .* not 'false'"),
        ({**answer("was"), "is_impossible": 0}, "is_impossible must be .* not 0"),
        ({**answer("was"), "is_impossible": True}, "is_impossible is true, but the answer 'was'"),
        ({**answer("was"), "question": 3}, "its question must be a text .* not 3"),
        ({**answer("was"), "question": " "}, "its question must be a text .* not ' '"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, question, message, capsys):
    """Was: character -14 counts from the end, "false" is true: trained on, or no answer at all.
    Right: the question is named, with the value, before the first step."""
    path = data_file(tmp_path / "squad.json", answer("Berlin"), question)
    with pytest.raises(ValueError, match=f"squad.json: question 1.*{message}"):
        squad(path)
    out = tmp_path / "out"
    argv = ["finetune", "--task", "question-answering", "--data", path, "--eval-data", path,
            "--backend", "numpy", "--steps", 1, "--out", out]  # fmt: skip
    assert main([*map(str, argv)]) == 2 and not out.exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("context", ["", 7])
def test_a_context_is_a_text(tmp_path, context, answered):
    """Was: an empty or a numeric context was a traceback in prediction.
    Right: the question is named."""
    path = data_file(tmp_path / "squad.json", answer("Berlin"), context=context)
    with pytest.raises(ValueError, match="question 0: its context must be a text"):
        squad(path, answered)


def test_a_text_without_pieces_is_named():
    """Was: a text of characters that the tokenizer drops has no span: ValueError of NumPy.
    Right: the question is named."""
    reader = tokenizer()
    with pytest.raises(ValueError, match="question 1: the tokenizer finds no piece in the text"):
        windows([("who ?", TEXT), ("who ?", "\u200b\u200e")], reader, 32, 4)
    with pytest.raises(ValueError, match="text 0: the tokenizer finds no piece in the text"):
        QuestionAnswering(model(reader), reader)(question="who ?", context="\u200b")


def test_answers_that_no_window_holds_are_counted():
    """Was: they were trained on as if the text had no answer, without a word.
    Right: said aloud, with their number."""
    long = "in " * 20
    asked = [Question(0, "a", "who ?", long, ((long.strip(), 0),)),
             Question(0, "b", "who ?", long, (("in", 0),))]  # fmt: skip
    with pytest.warns(UserWarning, match="1 of 2 answers is whole in no window of 16 pieces"):
        Questions(asked, tokenizer(), Batching(99), max_length=16, stride=4)
