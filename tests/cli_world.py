"""Text, a teacher and a classifier, all tiny, made by the commands themselves."""

import random
from types import SimpleNamespace

import pytest

from minidistil.cli import main

SMALL = ("--backend", "numpy", "--batch-tokens", "256", "--eval-tokens", "600")
SIZES = ("--vocab-size", "150", "--layers", "2", "--hidden", "16", "--heads", "2",
         "--intermediate", "32", "--max-length", "32")  # fmt: skip
GOOD = "the film was great and we loved the actors in it"
BAD = "what a dull plot and the actors were awful to watch"


def sentence(rng, words):
    chosen = rng.choices(words.split(), k=rng.randint(12, 40))
    return " ".join(chosen)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """.text .labelled .teacher .classifier: paths; all made once, none changed."""
    home, rng = tmp_path_factory.mktemp("world"), random.Random(0)
    text, labelled = home / "text.txt", home / "labelled.tsv"
    text.write_text("\n".join(sentence(rng, f"{GOOD} {BAD}") for _ in range(60)))
    kinds = 20 * [(GOOD, "good"), (BAD, "bad")]
    rows = [f"{sentence(rng, words)}\t{name}" for words, name in kinds]
    labelled.write_text("sentence\tlabel\n" + "\n".join(rows) + "\n")
    teacher, classifier = home / "teacher", home / "classifier"
    common = ("--steps", "2", *SMALL)
    assert main(["pretrain", "--data", str(text), "--out", str(teacher), *SIZES, *common]) == 0
    assert main(["finetune", "--model", str(teacher), "--data", str(labelled), "--out",
                 str(classifier), *common]) == 0  # fmt: skip
    return SimpleNamespace(
        home=home, text=str(text), labelled=str(labelled), teacher=str(teacher),
        classifier=str(classifier),
    )  # fmt: skip
