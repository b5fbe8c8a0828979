"""Texts longer than a model reads: classified in windows, or cut and counted aloud."""

import json

import numpy as np
import pytest

import minidistil as md
from minidistil.cli import main
from minidistil.config import DistilBertConfig
from minidistil.data.batches import Batching
from minidistil.data.tokenizer import SPECIAL, Tokenizer
from minidistil.data.windows import answering, windows_of
from minidistil.data.wordpiece import wordpiece
from minidistil.tasks.measuring import answers, measure
from minidistil.tasks.text_classification.data import LabelledText
from minidistil.tasks.text_classification.predictor import TextClassification
from minidistil.tasks.token_classification.data import TaggedText
from minidistil.tasks.token_classification.predictor import TokenClassification

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [*SPECIAL.values(), *LETTERS, *(f"##{x}" for x in LETTERS)]
LONG = " ".join(f"{LETTERS[i % 26]}{LETTERS[i % 7]}" for i in range(40))  # 80 pieces
SHORT = "a b c"


def tokenizer(length=20):
    words = {word: i for i, word in enumerate(WORDS)}
    return Tokenizer(wordpiece(words, SPECIAL, lowercase=True), max_length=length)


def model(task, P=20, K=3):
    config = DistilBertConfig(
        vocab_size=len(WORDS), dim=16, hidden_dim=32, n_layers=1, n_heads=2,
        max_position_embeddings=P, num_labels=K,
        id2label=("O", "B-X", "I-X")[:K] if task == "token-classification" else None,
    )  # fmt: skip
    made = md.from_config(config, task, seed=3, backend="numpy")
    made.update({n: 20 * p for n, p in made.params.items() if p.ndim == 2})
    return made


def logits_by_hand(made, reader, text, length, stride):
    """Logits of every window [CLS] pieces [SEP], made by slicing the pieces."""
    (pieces,) = reader.content([text])
    room, found, start = length - 2, [], 0
    while not found or start + stride < len(pieces):
        ids = [reader.cls_id, *pieces[start : start + room], reader.sep_id]
        found.append(made.forward(np.array([ids])).logits[0])
        start += room - stride
    return found


def saved(tmp_path, made, reader):
    made.save_pretrained(tmp_path / "model")
    reader.save(tmp_path / "model")
    return str(tmp_path / "model")


def evaluated(capsys, folder, data, *argv):
    assert main(["evaluate", "--model", folder, "--data", str(data), "--backend", "numpy",
                 "--json", *map(str, argv)]) == 0  # fmt: skip
    shown = capsys.readouterr()
    return json.loads(shown.out), shown.err


def test_evaluation_reads_what_prediction_reads(tmp_path, capsys):
    """Was: evaluate cut at 128 tokens, predict at what the model reads, 200 here.
    Right: the same length, so the same answers."""
    reader, made = tokenizer(200), model("text-classification", 200)
    folder = saved(tmp_path, made, reader)
    texts = [" ".join(np.random.default_rng(i).choice(list(LETTERS), 190)) for i in range(12)]
    said = [int(answer["label"][-1]) for answer in TextClassification(made, reader)(texts)]
    cut = [int(made.forward(reader(x, max_length=128)["input_ids"]).logits.argmax()) for x in texts]
    assert said != cut and len(set(said)) > 1, "texts whose ends decide"
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": x, "label": k})
                              for x, k in zip(texts, said, strict=True)))  # fmt: skip
    assert evaluated(capsys, folder, data)[0]["accuracy"] == 1


def test_a_long_text_has_the_mean_of_its_windows():
    """Was: the beginning decided.
    Right: softmax of the mean of the windows' logits; a short text beside it as ever."""
    reader, made = tokenizer(), model("text-classification")
    predict = TextClassification(made, reader)
    with pytest.warns(UserWarning, match="text 1 is longer than the model's 20 tokens; .* 7 windo"):
        found = predict([SHORT, LONG], top_k=None)
    for text, answer in zip([SHORT, LONG], found, strict=True):
        z = np.mean(logits_by_hand(made, reader, text, 20, 6), axis=0)
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        scores = {one["label"]: one["score"] for one in answer}
        np.testing.assert_allclose([scores[f"LABEL_{k}"] for k in range(3)], p, rtol=1e-4)


@pytest.mark.parametrize(("length", "stride"), [(20, 6), (12, 0), (11, 8)])
def test_length_and_stride_mean_the_same_everywhere(tmp_path, capsys, length, stride):
    """Was: --max-length cut, --stride was for questions, predict had neither.
    Right: evaluate, predict and the pipeline read the same windows."""
    reader, made = tokenizer(), model("text-classification")
    folder = saved(tmp_path, made, reader)
    z = np.mean(logits_by_hand(made, reader, LONG, length, stride), axis=0)
    options = {"max_length": length, "stride": stride}
    with pytest.warns(UserWarning, match=f"text 0 is longer than .*{length} tokens"):
        (mine,) = TextClassification(made, reader)([LONG], **options)
    assert mine["label"] == f"LABEL_{z.argmax()}"
    given = ["--max-length", length, "--stride", stride]
    assert main(["predict", "--model", folder, LONG, "--backend", "numpy", "--json",
                 *map(str, given)]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out) == [mine]
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"text": LONG, "label": int(z.argmax())}))
    found, _ = evaluated(capsys, folder, data, *given)
    loss = np.log(np.exp(z - z.max()).sum()) + z.max() - z[z.argmax()]
    assert found["loss"] == pytest.approx(loss, rel=1e-3, abs=1e-5)
    assert found["tokens"] == sum(map(len, windows(length, stride)))


def windows(length, stride):
    """The windows of LONG's whole encoding."""
    found, _ = windows_of([None] + [0] * 80 + [None], length, stride)
    return found


def test_windows_train_with_the_label_of_their_text(tmp_path, capsys):
    """Was: training saw the beginning only.
    Right: every window is an example; batches to evaluate on say whose they are."""
    reader = tokenizer()
    data = LabelledText(
        [(LONG, None, "x"), (SHORT, None, "y")],
        reader,
        Batching(500),
        evaluation=[(SHORT, None, "y"), (LONG, None, "x")],
        max_length=20,
        stride=6,
    )
    assert data.size == 8 and data.owners.tolist() == [0] * 7 + [1] + [2] + [3] * 7
    assert data.labels.tolist() == [0] * 7 + [1] + [1] + [0] * 7
    (batch,) = data.evaluation_batches()
    assert sorted(batch["owners"]) == [2] + [3] * 7
    made = model("text-classification", K=2)
    assert len(answers(made, [batch])) == 2
    assert measure(made, [batch], answers(made, [batch]))["agreement"] == 1
    lines = [json.dumps({"text": x, "label": k}) for x, k in ((LONG, "p"), (SHORT, "n")) * 4]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    folder = saved(tmp_path, made, reader)
    common = ["--data", str(tmp_path / "data.jsonl"), "--backend", "numpy", "--json",
              "--stride", "3"]  # fmt: skip
    assert main(["finetune", "--model", folder, "--steps", "2", "--held-out", "2", *common,
                 "--out", str(tmp_path / "tuned")]) == 0  # fmt: skip
    tuned = json.loads(capsys.readouterr().out)["evaluation"]
    found, _ = evaluated(capsys, str(tmp_path / "tuned"), tmp_path / "data.jsonl", "--held-out",
                         "2", "--stride", "3")  # fmt: skip
    assert {name: found[name] for name in tuned} == pytest.approx(tuned)
    assert main(["distill", "--teacher", str(tmp_path / "tuned"), "--steps", "1", "--held-out",
                 "2", *common, "--out", str(tmp_path / "run")]) == 0  # fmt: skip
    rows = json.loads(capsys.readouterr().out)["models"]
    assert rows[0]["name"] == "teacher" and rows[0]["agreement"] == 1
    assert rows[0]["loss"] == pytest.approx(found["loss"], rel=1e-5)


def test_pairs_keep_the_shorter_text_whole():
    """Was: the longer of two texts lost its end.
    Right: windows over it, each with the whole of the other; two long ones are cut and counted."""
    kinds = [None] + [0] * 4 + [None] + [1] * 30 + [None]
    found, whole = windows_of(kinds, 19, 2)
    assert whole and all(len(at) <= 19 for at in found)
    assert all({0, 1, 2, 3, 4, 5, 36} <= set(at) for at in found)
    assert set(np.concatenate(found)) == set(range(37))
    found, whole = windows_of([None] + [0] * 30 + [None] + [1] * 20 + [None], 20, 2)
    assert not whole and len(found) == 1 and len(found[0]) == 20
    reader = tokenizer()
    with pytest.warns(UserWarning, match="1 of 2 texts is longer than 20 tokens; the end"):
        LabelledText(
            [(LONG, LONG, "x"), (LONG, SHORT, "y")], reader, Batching(500), max_length=20, stride=6
        )
    both = {"text": LONG, "text_pair": LONG}
    with pytest.warns(UserWarning, match="text 0 is longer .*; both of its texts are cut"):
        TextClassification(model("text-classification"), reader)([both])


def test_a_cut_text_is_cut_as_by_the_tokenizer():
    """Was and is: without a stride (two tokenizers in one distillation) a text is cut.
    Right: to the pieces that the tokenizer itself keeps, and counted."""
    reader = tokenizer()
    for pair in (None, SHORT, "a b c d e f g h i j k", LONG):
        whole = next(reader.whole([LONG], None if pair is None else [pair]))
        (at,), _ = windows_of(whole.sequence_ids, 20, None)
        kept = reader([LONG], None if pair is None else [pair])["input_ids"][0]
        np.testing.assert_array_equal(np.array(whole.ids)[at], kept)
    with pytest.warns(UserWarning, match="1 of 2 texts is longer than 20 tokens; the end"):
        data = LabelledText([(LONG, None, "x"), (SHORT, None, "y")], reader, Batching(99))
    assert data.size == 2


# ------------------------------------------------------- entities


def test_a_word_is_answered_where_it_lies_in_the_middle():
    """Was: words behind the model's last position had no tag.
    Right: every word has one, of the window with the most pieces on its poorer side."""
    word_ids = [None, 0, 1, 1, 2, 3, 4, 4, 5, 6, 7, None]
    places, _ = windows_of([None if w is None else 0 for w in word_ids], 8, 4)
    assert [at.tolist() for at in places] == [
        [0, 1, 2, 3, 4, 5, 6, 11], [0, 3, 4, 5, 6, 7, 8, 11], [0, 5, 6, 7, 8, 9, 10, 11]
    ]  # fmt: skip
    mine = [at[own].tolist() for at, own in
            zip(places, answering(places, word_ids), strict=True)]  # fmt: skip
    assert mine == [[1, 2, 3, 4], [5, 6, 7], [8, 9, 10]]


@pytest.mark.parametrize("stride", [0, 3, 9])
def test_every_piece_is_answered_once(stride):
    """Was: not there.
    Right: whatever the words, and words longer than the overlap too."""
    rng = np.random.default_rng(stride)
    for _ in range(30):
        sizes = rng.integers(1, 14, 20)
        word_ids = [None, *np.repeat(np.arange(20), sizes).tolist(), None]
        places, _ = windows_of([None if w is None else 0 for w in word_ids], 14, stride)
        found = np.concatenate([at[own] for at, own in
                                zip(places, answering(places, word_ids), strict=True)])  # fmt: skip
        assert sorted(found) == list(range(1, len(word_ids) - 1))


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average"])
def test_entities_of_a_long_text(strategy):
    """Was: entities behind the model's last position were lost.
    Right: a model that looks at each piece alone finds in windows what it finds in one."""
    reader, wide, made = tokenizer(), tokenizer(200), model("token-classification")
    p = {n: np.zeros_like(x) if "position" in n or ".attention.out_lin" in n else x
         for n, x in made.params.items()}  # fmt: skip
    made.update(p)
    other = model("token-classification", 200)
    other.update(
        {n: x for n, x in p.items() if "position" not in n}
        | {n: np.zeros_like(x) for n, x in other.params.items() if "position" in n}
    )
    wanted = TokenClassification(other, wide)(LONG, strategy)
    with pytest.warns(UserWarning, match="text 0 is longer than the model's 20 tokens"):
        found = TokenClassification(made, reader)(LONG, strategy)
    assert len(wanted) > 5
    assert [{**x, "score": pytest.approx(x["score"], rel=1e-4)} for x in wanted] == found


def test_long_sentences_are_measured_whole(tmp_path, capsys):
    """Was: tags of a sentence's end were neither learnt nor measured.
    Right: every word counts once, and an entity across two windows is one."""
    words = LONG.split()
    made, reader = model("token-classification"), tokenizer()
    data = TaggedText(
        [],
        reader,
        Batching(60),
        names=("O", "B-X", "I-X"),
        max_length=20,
        stride=6,
        evaluation=[(words, ["B-X"] + 39 * ["I-X"]), (["a"], ["O"])],
    )
    batches = data.evaluation_batches()
    assert sum((batch["labels"] != -100).sum() for batch in batches) == 41
    zero = {n: np.zeros_like(x) for n, x in made.params.items() if n.startswith("classifier")}
    zero["classifier.bias"] = np.array([0, 0, 1], np.float32)
    made.update(zero)
    assert answers(made, batches).tolist() == [2] * 41
    found = measure(made, batches)
    assert found["accuracy"] == pytest.approx(39 / 41)
    assert found["recall"] == 1 and found["precision"] == 0.5  # I-X from the first word on is one
    file = tmp_path / "data.conll"
    file.write_text("\n".join(f"{w}\t{'B-X' if i == 0 else 'I-X'}" for i, w in enumerate(words))
                    + "\n\na\tO\n")  # fmt: skip
    folder = saved(tmp_path, made, reader)
    measured, _ = evaluated(capsys, folder, file)
    assert {n: measured[n] for n in found} == pytest.approx(found)
    with pytest.warns(UserWarning, match="1 of 2 sentences is longer than 20 tokens; the end"):
        TaggedText([(words, 40 * ["O"]), (["a"], ["O"])], reader, Batching(60), names=("O",))


# ------------------------------------------------------- what is cut is counted


@pytest.mark.parametrize("stride", [-1, 18])
def test_a_stride_that_does_not_fit(tmp_path, capsys, stride):
    """Was: not there.
    Right: refused in one line."""
    reader, made = tokenizer(), model("text-classification")
    folder = saved(tmp_path, made, reader)
    with pytest.raises(ValueError, match=f"a stride of {stride} must be at least 0 and less than"):
        TextClassification(made, reader)([LONG], stride=stride)
    argv = ["predict", "--model", folder, LONG, "--stride", str(stride), "--backend", "numpy"]
    assert main(argv) == 2
    assert "less than the 18 pieces of a text that fit 20 tokens" in capsys.readouterr().err


def test_what_is_cut_is_counted():
    """Was: choices, sentence pairs and sources were cut without a word.
    Right: their number is said."""
    from minidistil.data.text_pairs import TextPairs
    from minidistil.tasks.multiple_choice.data import Choice, Choices
    from minidistil.tasks.sentence_embedding.data import SentencePairs

    reader = tokenizer()
    with pytest.warns(UserWarning, match="1 of 2 texts is longer than 20 tokens"):
        Choices([Choice("a", (LONG, "b"), 0)], reader, Batching(99))
    with pytest.warns(UserWarning, match="1 of 2 texts is longer than 10 tokens"):
        SentencePairs([(LONG, "a", 1.0)], reader, Batching(99), max_length=10)
    with pytest.warns(UserWarning, match="1 of 1 text is longer than 20 tokens"):
        TextPairs([(LONG, ["a"])], reader, Batching(99))


@pytest.mark.parametrize("task", ["sentence-embedding", "extractive-summarization"])
def test_max_length_of_what_is_cut(tmp_path, capsys, task):
    """Was: predict had --max-length for questions alone.
    Right: as in evaluate; what is beyond is not read, which is said."""
    reader = tokenizer()
    config = DistilBertConfig(vocab_size=len(WORDS), dim=16, hidden_dim=32, n_layers=1, n_heads=2,
                              max_position_embeddings=20)  # fmt: skip
    made = md.from_config(config, task, seed=3, backend="numpy")
    folder = saved(tmp_path, made, reader)
    text, part = "Aa. Bb. Cc. Dd.", "Aa. Bb. Cc"
    argv = ["predict", "--model", folder, "--task", task, "--backend", "numpy", "--json"]
    found = []
    for one, length in ((text, "10"), (part, "20"), (text, "20")):
        assert main([*argv, one, "--max-length", length]) == 0
        shown = capsys.readouterr()
        found.append(json.loads(shown.out))
        assert ("longer than 10 tokens" in shown.err) == (length == "10")
    assert found[0] != found[2]
    if task == "sentence-embedding":
        assert found[0] == found[1]


def test_a_documents_first_sentence_is_cut_aloud():
    """Was: the end of a first sentence that is too long was left out without a word.
    Right: counted."""
    from minidistil.tasks.extractive_summarization.data import packed

    with pytest.warns(UserWarning, match="1 of 2 documents begins with a sentence .* 20 tokens"):
        (long, short) = packed([[LONG, "a"], ["a", "b"]], tokenizer())
    assert len(long[0]) == 20 and short[2].max() == 1


def test_texts_without_labels_in_windows():
    """Was: not there.
    Right: windows to train on have no labels, those to evaluate on the label of their text."""
    from minidistil.tasks.labelled_data import Unlabelled

    data = Unlabelled(
        [(LONG, None, None), (SHORT, None, None)],
        tokenizer(),
        Batching(500),
        max_length=20,
        stride=6,
        problem_type="single_label_classification",
        names=("p", "n"),
        evaluation=[(SHORT, None, "p"), (LONG, None, "n")],
    )
    (batch,) = data.evaluation_batches()
    assert sorted(zip(batch["owners"], batch["labels"], strict=True)) == [(2, 0)] + [(3, 1)] * 7
    assert "labels" not in data.collate(np.arange(8)) and data.size == 8
