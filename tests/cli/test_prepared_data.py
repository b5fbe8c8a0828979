"""The data sets of `minidistil reproduce`, in the forms that the commands read."""

import json

import pytest

from minidistil.cli.reproduce import prepared_data
from minidistil.cli.reproduce.cloze_questions import cloze_questions
from minidistil.cli.reproduce.prepared_data import FILES, PREPARE, given_by, prepare
from minidistil.data.sources import documents
from minidistil.io.files import MissingFileError

TEXTS = "sentence\tlabel\na bad film\t0\na good film\t1\n"
PAIRS = "sentence1\tsentence2\tscore\nA.\tAn A.\t4\n"
PARAPHRASES = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tA .\tB .\n"
QUESTIONS = "DESC:manner How ?\nNUM:date When ?\n"
TAGGED = "Flu\tB-Disease\nis\tO\n\n"
INTENTS = {part: [["my balance", "balance"]] for part in ("train", "val", "test")}
PARAGRAPH = {"context": "Warsaw lies in Poland.", "qas": [{"question": "Where is Warsaw?"}]}
XQUAD = {"data": [{"title": "Warsaw", "paragraphs": [PARAGRAPH]}]}
ARTICLES = {"City": {"extract": "It lies in Poland."}}
CONTENTS = {  # what a file holds whose path ends so
    ".txt": QUESTIONS, ".conll": TAGGED, ".annotated": TAGGED, "full.json": json.dumps(INTENTS),
    "xquad.en.json": json.dumps(XQUAD), "summaries_en-us.json": json.dumps(ARTICLES),
    "STS-B/train.tsv": PAIRS, "RTE/train.tsv": PAIRS, "IOB/train.tsv": TAGGED,
}  # fmt: skip


def small(name, folder):
    """The data set of a row's `prepare`, with the files that it reads; returns them."""
    kinds = {"mrpc": PARAPHRASES, "ncbi": TAGGED}
    paths = [folder / file for file in FILES[PREPARE[name]][0].split()]
    for path in paths:
        ends = [text for end, text in CONTENTS.items() if str(path).endswith(end)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ends[0] if ends else kinds.get(name, TEXTS))
    return paths


@pytest.mark.parametrize("name", PREPARE)
def test_files_of_a_data_set(name, tmp_path, monkeypatch):
    """Its function returns the files that are promised, and reads no others than those that are
    looked for before anything is written."""
    monkeypatch.setattr(prepared_data, "HELD_OUT_SENTENCES", 1)
    monkeypatch.setattr(prepared_data, "REVIEWS", 1)
    monkeypatch.setattr(prepared_data, "documents", lambda source: (
        ["a film"] if source == prepared_data.MOVIE_REVIEWS else documents(source)
    ))  # fmt: skip
    data = {"folder": "set", "source": "a site", "prepare": name}
    (tmp_path / "set").mkdir()
    paths = small(name, tmp_path / "set")
    found = prepare(data, tmp_path, tmp_path / "out")
    assert sorted(found) == sorted(given_by(name))
    assert all(path == prepared_data.MOVIE_REVIEWS or path.is_file() for path in found.values())
    for path in paths:
        text = path.read_text()
        path.unlink()
        with pytest.raises(MissingFileError, match=f"no data at {path}; get it from a site and "):
            prepare(data, tmp_path, tmp_path / "new")
        path.write_text(text)
    assert not (tmp_path / "new").exists()


def test_intents_without_validation_texts(tmp_path):
    (tmp_path / "data_full.json").write_text(json.dumps({"train": [], "test": []}))
    data = {"folder": "", "source": "a site", "prepare": "clinc"}
    with pytest.raises(ValueError, match=f"data at {tmp_path} has no 'val'; get it from a site"):
        prepare(data, tmp_path, tmp_path / "out")
    (tmp_path / "data_full.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold one JSON object, not list"):
        prepare(data, tmp_path, tmp_path / "out")


def test_pairs_of_mrpc_and_of_other_tasks(tmp_path):
    header, names = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "sentence1\tsentence2\tscore"
    for folder in ("MRPC", "STS-B", "RTE"):
        (tmp_path / folder).mkdir()
    for part in ("train", "dev"):
        text = f'\ufeff{header}\n1\t7\t8\tHe said " no " .\tNo , he said {part} .'
        (tmp_path / "MRPC" / f"{part}.tsv").write_text(text, encoding="utf-8")
    unlabelled = f"{header.replace('Quality', 'index')}\n0\t7\t8\tA test .\tTests .\n"
    (tmp_path / "MRPC" / "test.tsv").write_text(unlabelled + "1\t7\t8\tNew .\tNo , he said dev .")
    for folder in ("STS-B", "RTE"):
        text = f'{names}\nA {folder}.\tAn {folder}.\t4\nHe said "No".\tNew.\t5'
        (tmp_path / folder / "train.tsv").write_text(text)
    found = PREPARE["mrpc"](tmp_path, tmp_path / "out")
    for part, file in (("train", "train"), ("test", "dev")):
        assert json.loads(found[part].read_text()) == {
            "text": 'He said " no " .', "text_pair": f"No , he said {file} .", "label": "1",
        }  # fmt: skip
    pairs = sorted(found["pairs"].read_text().splitlines())
    assert [json.loads(pair) for pair in pairs] == [
        {"text": "A RTE.", "text_pair": "An RTE."}, {"text": "A STS-B.", "text_pair": "An STS-B."},
        {"text": "A test .", "text_pair": "Tests ."},
    ], "a pair with a sentence of MRPC's training or development set is left out"  # fmt: skip


def test_held_out_sentences_of_sst2(tmp_path, monkeypatch):
    """Of a held-out sentence a model learns the phrases only that another sentence has too."""
    rows = {"a bad film": 0, "bad film": 0, "a bad": 0, "a good film": 1, "good film": 1, "a": 1}
    lines = [f"{text} \t{label}" for text, label in rows.items()]
    (tmp_path / "train.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    monkeypatch.setattr(prepared_data, "HELD_OUT_SENTENCES", 1)
    found = PREPARE["sst2"](tmp_path, tmp_path / "out")
    train, dev = (
        {row["text"]: row["label"] for row in map(json.loads, found[part].read_text().splitlines())}
        for part in ("train", "dev")
    )
    assert dev in ({"a bad film": "0"}, {"a good film": "1"})
    bad, good = ["a bad film", "bad film", "a bad"], ["a good film", "good film"]
    seen = good if "a bad film" in dev else bad
    assert train == {text: str(rows[text]) for text in [*seen, "a"]}


def test_questions_on_xquad_s_articles_and_on_others(tmp_path):
    """The last articles are the test set, and no question is made of an article of XQuAD's."""
    context = "Warsaw lies on the Vistula in Poland. It was founded about 1300 by dukes of Mazovia."
    paragraph = {"context": context, "qas": [{"question": "Where is Warsaw?"}]}
    xquad = [{"title": f"Old_town {i}", "paragraphs": [paragraph]} for i in range(41)]
    vital = {"Old town 3": {"extract": context}, "City": {"extract": context}}
    for place, content in (
        ("qa-xquad-en/xquad.en.json", {"version": "1.1", "data": xquad}),
        ("text-wikipedia-vital/summaries_en-us.json", vital),
    ):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text(json.dumps(content))
    found = PREPARE["xquad"](tmp_path, tmp_path / "out")
    read = {part: json.loads(found[part].read_text()) for part in ("train", "test", "questions")}
    assert read["train"]["data"] == xquad[:40] and read["test"]["data"] == xquad[40:]
    assert read["questions"] == cloze_questions({"City": vital["City"]})
    texts = [json.loads(line)["text"] for line in found["texts"].read_text().splitlines()]
    assert texts == [context] * 40 + ["Where is Warsaw?"] * 40


def test_questions_made_of_sentences():
    """Every answer is where the file says; an article needs two sentences, and a name or number."""
    text = "It lies on the Vistula in Poland. It was founded about 1300 by dukes of Mazovia."
    articles = {
        "City": {"extract": text},
        "Short": {"extract": "One sentence of John alone has no other beside it."},
        "Lower case": {"extract": "there is no name here at all. nor is there one in this place."},
    }
    (city,) = cloze_questions(articles)["data"]
    (paragraph,) = city["paragraphs"]
    assert city["title"] == "City" and len(paragraph["qas"]) == 2
    for asked in paragraph["qas"]:
        (answer,) = asked["answers"]
        assert paragraph["context"][answer["answer_start"] :].startswith(answer["text"])
        assert answer["text"] not in asked["question"] and asked["question"].endswith("?")


def test_question_words():
    """A year asks when, another number how many; every word of a sentence is one of its own."""
    text = "The war began in 1914 with the shots of Sarajevo. It had 20 sides, some say, or more."
    asked = {}
    for seed in range(20):
        found = cloze_questions({"War": {"extract": text}}, seed)
        for one in found["data"][0]["paragraphs"][0]["qas"]:
            asked.setdefault(one["answers"][0]["text"], []).append(one["question"])
            assert set(one["question"][:-1].split()) <= set(text[:-1].replace(".", "").split()) | {
                "when", "how", "many", "what", "who", "which"
            }  # fmt: skip
    assert set(asked) == {"1914", "Sarajevo", "20"}
    assert all("when" in question for question in asked["1914"])
    assert all("how many" in question for question in asked["20"])
