"""The files of each data set, in the forms that the commands read.

A function takes the folder of the data set and the folder to write to, and returns {name: file}.
"train" is what models learn from and are selected on, by a part that is held out of it; "test" is
what the results are measured on, and is used for nothing else. "texts" are those of "train" in a
form that every command reads.
"""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from minidistil.cli.reproduce.cloze_questions import cloze_questions
from minidistil.data.sources import MOVIE_REVIEWS, documents, examples
from minidistil.io import files
from minidistil.tasks.token_classification.data import tagged_sentences

MRPC_COLUMNS = {"text": "#1 String", "text_pair": "#2 String"}
HELD_OUT_SENTENCES = 700  # of the 6,885 of SST-2
XQUAD = "qa-xquad-en/xquad.en.json"
VITAL = "text-wikipedia-vital/summaries_en-us.json"  # articles of Wikipedia
TRAIN_ARTICLES = 40  # of the 48 of XQuAD
IMDB, REVIEWS = 24000, 4000  # the first of movie-reviews are IMDB's; how many are read


def glue(folder: Path, out: Path) -> dict[str, Path]:
    """GLUE has no labels of its test sets, so that its development sets are measured on."""
    return {"train": folder / "train.tsv", "test": folder / "dev.tsv"}


def sst2(folder: Path, out: Path) -> dict[str, Path]:
    """SST-2: its training set has sentences and the phrases of their parse trees. "dev" has whole
    sentences, like the development set, and "train" the phrases that other sentences have: a
    phrase held out at random would be a part of a sentence that a model has learnt from."""
    rows = [(text.strip(), label) for text, _, label in examples(folder / "train.tsv")]
    sentences = _sentences_of({text for text, _ in rows})
    held = set(random.Random(0).sample(sentences, HELD_OUT_SENTENCES))
    kept = set().union(*(_phrases(text) for text in sentences if text not in held))
    parts = {
        "train": [row for row in rows if row[0] in kept],
        "dev": [row for row in rows if row[0] in held],
    }
    found = {
        part: _json_lines(out / f"{part}.jsonl", ({"text": t, "label": y} for t, y in some))
        for part, some in parts.items()
    }
    return found | {"test": folder / "dev.tsv"}


def mrpc(folder: Path, out: Path) -> dict[str, Path]:
    """GLUE's pairs of sentences; a command cannot name their columns, whose names have spaces.
    "pairs" are other pairs, without labels."""
    found, known = {}, set()
    for part, file in (("train", "train.tsv"), ("test", "dev.tsv")):
        pairs = list(examples(folder / "MRPC" / file, **MRPC_COLUMNS, label="Quality"))
        rows = ({"text": a, "text_pair": b, "label": label} for a, b, label in pairs)
        found[part] = _json_lines(out / f"{part}.jsonl", rows)
        known |= {_letters(text) for *both, _ in pairs for text in both}
    return found | {"pairs": _json_lines(out / "pairs.jsonl", _other_pairs(folder, known))}


def trec(folder: Path, out: Path) -> dict[str, Path]:
    """Questions, "DESC:manner How did …": the label is the coarse class, of six."""
    found = {}
    for part in ("train", "test"):
        lines = (folder / f"{part}.txt").read_text(encoding="latin-1").splitlines()
        labelled = (line.split(" ", 1) for line in lines if line.strip())
        rows = ({"text": text, "label": label.split(":")[0]} for label, text in labelled)
        found[part] = _json_lines(out / f"{part}.jsonl", rows)
    return found


def clinc(folder: Path, out: Path) -> dict[str, Path]:
    """Intents: 150 of them; the validation texts belong to the training data."""
    data = files.read_settings(folder / "data_full.json")
    parts = {"train": data["train"] + data["val"], "test": data["test"]}
    return {
        part: _json_lines(
            out / f"{part}.jsonl", ({"text": text, "label": label} for text, label in rows)
        )
        for part, rows in parts.items()
    }


def ncbi(folder: Path, out: Path) -> dict[str, Path]:
    """Names of diseases in medical abstracts."""
    train = folder / "train.tsv"
    return {"train": train, "test": folder / "test.tsv", "texts": _plain(out, _sentences(train))}


def wnut(folder: Path, out: Path) -> dict[str, Path]:
    """Names in posts, of which the test set has new ones."""
    train = folder / "wnut17train.conll"
    return {
        "train": train, "dev": folder / "emerging.dev.conll",
        "test": folder / "emerging.test.annotated", "texts": _plain(out, _sentences(train)),
    }  # fmt: skip


def xquad(folder: Path, out: Path) -> dict[str, Path]:
    """Questions on 48 articles: those on the last eight are the test set. "questions" are made of
    the sentences of other articles, Wikipedia's vital ones."""
    whole = files.read_settings(folder / XQUAD)
    articles = whole["data"]
    parts = {"train": articles[:TRAIN_ARTICLES], "test": articles[TRAIN_ARTICLES:]}
    contents = {part: whole | {"data": some} for part, some in parts.items()}
    titles = {article["title"].replace("_", " ") for article in articles}
    vital = files.read_settings(folder / VITAL)
    contents["questions"] = cloze_questions({t: one for t, one in vital.items() if t not in titles})
    found = {part: out / f"{part}.json" for part in contents}
    for part, content in contents.items():
        files.write_text(found[part], json.dumps(content))
    paragraphs = [one for article in articles[:TRAIN_ARTICLES] for one in article["paragraphs"]]
    questions = (asked["question"] for one in paragraphs for asked in one["qas"])
    contexts = (one["context"] for one in paragraphs)
    return found | {"texts": _plain(out, [*contexts, *questions])}


def reviews(folder: Path, out: Path) -> dict[str, str]:
    """The package's reviews, of which the commands hold out and measure the same part."""
    return {"train": MOVIE_REVIEWS, "test": MOVIE_REVIEWS}


def unlabelled(folder: Path, out: Path) -> dict[str, Path]:
    """Texts for a student that learns no task yet: Wikipedia's articles, reviews of films, and the
    training texts of the tasks. The reviews of Rotten Tomatoes are left out: sentences of SST-2's
    development set come from them."""
    articles = files.read_settings(folder / VITAL)
    order = random.Random(0)
    whole = order.sample(list(documents(MOVIE_REVIEWS))[:IMDB], REVIEWS)
    sentences = list(documents(folder / "glue/SST-2/train.tsv"))
    questions = trec(folder / "nltk-labelled/qc", out / "trec")["train"]
    intents = clinc(folder / "clinc150", out / "clinc150")["train"]
    texts = [
        *(article["extract"] for article in articles.values() if article["extract"]), *whole,
        *sentences[::2], *documents(questions), *documents(intents),
        *_sentences(folder / "ner-bio/NCBI-disease-IOB/train.tsv"),
        *_sentences(folder / "ner-wnut17/wnut17train.conll"),
    ]  # fmt: skip
    order.shuffle(texts)
    return {"train": _plain(out, texts)}


FILES: dict[Callable, tuple[str, str]] = {  # the files that are read; the names of those returned
    glue: ("train.tsv dev.tsv", "train test"),
    sst2: ("train.tsv dev.tsv", "train dev test"),
    mrpc: ("MRPC/train.tsv MRPC/dev.tsv MRPC/test.tsv STS-B/train.tsv RTE/train.tsv",
           "train test pairs"),
    trec: ("train.txt test.txt", "train test"),
    clinc: ("data_full.json", "train test"),
    ncbi: ("train.tsv test.tsv", "train test texts"),
    wnut: ("wnut17train.conll emerging.dev.conll emerging.test.annotated", "train dev test texts"),
    xquad: (f"{XQUAD} {VITAL}", "train test questions texts"),
    reviews: ("", "train test"),
    unlabelled: (f"{VITAL} glue/SST-2/train.tsv nltk-labelled/qc/train.txt "
                 "nltk-labelled/qc/test.txt clinc150/data_full.json "
                 "ner-bio/NCBI-disease-IOB/train.tsv ner-wnut17/wnut17train.conll", "train"),
}  # fmt: skip
PREPARE: dict[str, Callable] = {f.__name__: f for f in FILES}


def given_by(name: str) -> list[str]:
    """The names of the files that a function of PREPARE returns."""
    return FILES[PREPARE[name]][1].split()


def prepare(data: dict, root: Path, out: Path) -> dict[str, Path]:
    """The files of a row's data set, which is looked for below `root`. Raises MissingFileError,
    before anything is written, or ValueError."""
    folder, function = root / data["folder"], PREPARE[data["prepare"]]
    read = [folder / name for name in FILES[function][0].split()]
    for path in (folder, *read) if read else ():
        if not path.exists():
            raise files.MissingFileError(
                f"no data at {path}; get it from {data['source']} and name the folder above with "
                f"--data, or set MINIDISTIL_DATA"
            )
    try:
        return function(folder, out)
    except KeyError as error:
        raise ValueError(
            f"the data at {folder} has no {error}; get it from {data['source']}"
        ) from None


def _sentences_of(texts):
    """The texts that are no phrase of another, sorted."""
    found, phrases = [], set()
    for text in sorted(texts, key=lambda text: (-len(text.split()), text)):
        if text not in phrases:
            found.append(text)
            phrases |= _phrases(text)
    return found


def _phrases(text):
    """Each sequence of words of a text."""
    words = text.split()
    ends = range(len(words) + 1)
    return {" ".join(words[i:j]) for i in ends for j in ends[i + 1 :]}


def _other_pairs(folder, known):
    """The pairs of MRPC's test set and of two other tasks, some of which come from the same news:
    those with a known sentence, one that a model learns from or is measured on, are left out."""
    columns = {"text": "sentence1", "text_pair": "sentence2"}
    sources = {"MRPC/test": MRPC_COLUMNS, "STS-B/train": columns, "RTE/train": columns}
    found = [
        {"text": a, "text_pair": b}
        for name, names in sources.items()
        for a, b, _ in examples(folder / f"{name}.tsv", **names)
        if not {_letters(a), _letters(b)} & known
    ]
    random.Random(0).shuffle(found)
    return found


def _letters(text):
    """The letters and digits of a text: the same for copies with other spaces and marks."""
    return re.sub(r"\W+", "", text.lower())


def _sentences(path):
    return [" ".join(words) for words, _ in tagged_sentences(path)]


def _plain(out, texts):
    return _json_lines(out / "texts.jsonl", ({"text": text} for text in texts))


def _json_lines(path, rows):
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
