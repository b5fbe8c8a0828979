"""The data sets of `minidistil reproduce`, in the forms that the commands read."""

import json

from minidistil.cli.reproduce import prepared_data
from minidistil.cli.reproduce.cloze_questions import cloze_questions
from minidistil.cli.reproduce.prepared_data import PREPARE


def test_pairs_of_mrpc(tmp_path):
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    for part in ("train", "dev"):
        text = f'\ufeff{header}\n1\t7\t8\tHe said " no " .\tNo , he said .'
        (tmp_path / f"{part}.tsv").write_text(text, encoding="utf-8")
    found = PREPARE["mrpc"](tmp_path, tmp_path / "out")
    for part in ("train", "test"):
        assert json.loads(found[part].read_text()) == {
            "text": 'He said " no " .', "text_pair": "No , he said .", "label": "1",
        }  # fmt: skip


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


def test_questions_made_of_sentences(tmp_path):
    """Without those on XQuAD's articles; every answer is where the question's file says."""
    text = "Warsaw lies on the Vistula in Poland. It was founded about 1300 by dukes of Mazovia."
    articles = {
        "Warsaw": {"extract": text},
        "City": {"extract": text.replace("Warsaw", "It")},
        "Short": {"extract": "One sentence of John alone has no other beside it."},
        "Lower case": {"extract": "there is no name here at all. nor is there one in this place."},
    }
    for place, content in (
        ("qa-xquad-en/xquad.en.json", {"data": [{"title": "Warsaw", "paragraphs": []}]}),
        ("text-wikipedia-vital/summaries_en-us.json", articles),
    ):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text(json.dumps(content))
    found = json.loads(PREPARE["cloze"](tmp_path, tmp_path / "out")["train"].read_text())
    (city,) = found["data"]
    (paragraph,) = city["paragraphs"]
    assert city["title"] == "City" and len(paragraph["qas"]) == 2
    for asked in paragraph["qas"]:
        (answer,) = asked["answers"]
        assert paragraph["context"][answer["answer_start"] :].startswith(answer["text"])
        assert answer["text"] not in asked["question"] and asked["question"].endswith("?")
    assert found == cloze_questions({"City": articles["City"]})


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
