"""Tags of words: which schemes are measured, and what in a file is no word."""

import json
import random
import warnings

import pytest
from labelled_models import QUICK, TEXTS, model_folder, ran, rows

from minidistil.data import train_wordpiece
from minidistil.data.batches import Batching
from minidistil.tasks.token_classification.data import TaggedText, tag_names, tagged_sentences
from minidistil.tasks.token_classification.metrics import entities, entity_scores, scheme_of

LETTERS = {"IOB1": "BI", "IOB2": "BI", "IOE2": "IE", "IOBES": "BIES", "BILOU": "BILU"}


def random_tags(letters, seed, sentences=40):
    """Tags as a model says them: in every order, most of them no entity."""
    rng = random.Random(seed)
    tags = ["O", "O", *(f"{letter}-{kind}" for letter in letters for kind in ("PER", "LOC"))]
    return [rng.choices(tags, k=1 + i % 9) for i in range(sentences)]


def written(kinds, scheme):
    """Kinds of words, each with whether it begins an entity  ->  their tags in a scheme."""
    tags = []
    for i, (kind, begins) in enumerate(kinds):
        after = kinds[i + 1] if i + 1 < len(kinds) else (None, True)
        last = after[0] != kind or after[1]
        before = kinds[i - 1][0] if i else None
        if kind is None:
            tags.append("O")
        elif scheme == "IOB1":
            tags.append(f"{'B' if begins and before == kind else 'I'}-{kind}")
        elif scheme == "IOB2":
            tags.append(f"{'B' if begins else 'I'}-{kind}")
        elif scheme == "IOE2":
            tags.append(f"{'E' if last else 'I'}-{kind}")
        else:
            end, single = ("E", "S") if scheme == "IOBES" else ("L", "U")
            first = single if last else "B"
            tags.append(f"{first if begins else end if last else 'I'}-{kind}")
    return tags


TRUTH = [
    [("PER", True), ("PER", False), (None, True), ("LOC", True), ("LOC", True), ("PER", True)],
    [(None, True), ("LOC", True), ("LOC", False), ("LOC", False)],
    [(None, True), (None, True)],
]
ENTITIES = [
    {("PER", 0, 1), ("LOC", 3, 3), ("LOC", 4, 4), ("PER", 5, 5)}, {("LOC", 1, 3)}, set()
]  # fmt: skip


@pytest.mark.parametrize("scheme", LETTERS)
def test_the_same_entities_in_every_scheme(scheme):
    """Was: U-, L-, S- and E- were no parts of entities, so that none of five counted.
    Right: the same five in each."""
    sentences = [written(kinds, scheme) for kinds in TRUTH]
    found = scheme_of({tag for tags in sentences for tag in tags} | {"O"})
    assert found == {"IOB1": "IOB", "IOB2": "IOB", "IOE2": "IOE"}.get(scheme, scheme)
    assert [entities(tags, found) for tags in sentences] == ENTITIES


# What seqeval 1.2.2 says of random_tags(letters, 1) against random_tags(letters, 2).
SEQEVAL = {
    "IOB1": [0.1785714285714286, 0.1904761904761905, 0.184331797235023],
    "IOB2": [0.1785714285714286, 0.1904761904761905, 0.184331797235023],
    "IOE2": [0.1851851851851852, 0.1818181818181818, 0.1834862385321101],
    "IOBES": [0.1578947368421053, 0.1463414634146341, 0.1518987341772152],
    "BILOU": [0.1578947368421053, 0.1463414634146341, 0.1518987341772152],
}  # precision, recall, f1


def seqevals(scheme, predicted, labels):
    """seqeval's numbers: strict where it knows no other mode."""
    metrics = pytest.importorskip("seqeval.metrics")
    strict = {}
    if scheme in ("IOBES", "BILOU"):
        import seqeval.scheme

        strict = {"mode": "strict", "scheme": getattr(seqeval.scheme, scheme)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: float(getattr(metrics, f"{name}_score")(labels, predicted, **strict))
            for name in ("precision", "recall", "f1")
        }


@pytest.mark.parametrize("scheme", LETTERS)
def test_measured_as_seqeval_measures_it(scheme):
    """Was: IOBES and BILOU by the rules of BIO: S-X and U-X were nothing, B-X alone an entity.
    Right: seqeval's numbers, on tags in any order: live, and as stored."""
    letters = LETTERS[scheme]
    name = scheme_of(tag for tags in random_tags(letters, 1) for tag in tags)
    found = entity_scores(random_tags(letters, 1), random_tags(letters, 2), name)
    assert [found[n] for n in ("precision", "recall", "f1")] == pytest.approx(SEQEVAL[scheme])
    for seed in range(4):
        predicted, labels = random_tags(letters, seed), random_tags(letters, seed + 100)
        wanted = seqevals(scheme, predicted, labels)
        assert entity_scores(predicted, labels, name) == pytest.approx(wanted)


@pytest.mark.parametrize("scheme", LETTERS)
def test_each_sentence_has_seqevals_entities(scheme):
    """Was: as above.
    Right: kind, first and last word of each, on tags in any order."""
    pytest.importorskip("seqeval")
    import seqeval.scheme
    from seqeval.metrics.sequence_labeling import get_entities

    for tags in random_tags(LETTERS[scheme], 3, 200):
        if scheme in ("IOBES", "BILOU"):
            parts = seqeval.scheme.Tokens(tags, getattr(seqeval.scheme, scheme)).entities
            wanted = {(e.tag, e.start, e.end - 1) for e in parts}
        else:
            wanted = set(get_entities(tags))
        assert entities(tags, scheme_of(f"{x}-PER" for x in LETTERS[scheme])) == wanted


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        (("O", "B-X", "I-X"), "IOB"), (("O", "I-X"), "IOB"), (("B", "I", "O"), "IOB"),
        (("O", "E-X", "I-X"), "IOE"), (("O", "S-X"), "IOBES"), (("O", "B-X", "E-X"), "IOBES"),
        (("O", "U-X"), "BILOU"), (("O", "B-X", "M-X", "E-X", "S-X"), None),
        (("NOUN", "VERB"), None), (("O",), None), (("0", "1"), None), (("O", "PER"), None),
        (("B-X", "L-X", "S-X"), None), (("IN", "O"), None),
    ],
)  # fmt: skip
def test_the_scheme_of_names(names, scheme):
    """Was: BIO wherever a name begins with B-.
    Right: the scheme that has all letters, or none."""
    assert scheme_of(names) == scheme


# ------------------------------------------------------- what is no word

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# # B-NP O

-DOCSTART-
1 CD B-NP O
2 CD I-NP O
"""
GERMEVAL = """#\thttp://de.wikipedia.org/wiki/Manfred_Korfmann [2009-10-17]
1\tAufgrund\tO\tO
2\t#\tO\tO
3\tSchleswig-Holstein\tB-LOC\tB-PER

#\thttp://example.org [2009-10-18]
1\tBad\tB-LOCderiv\tO
"""
CONLL_U = """# sent_id = 1
# text = vámonos al mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tnada\tnada\tNOUN\t_\t_\t_\t_\t1:x\t_
3\t#\t#\tSYM\t_\t_\t1\tobl\t_\tSpaceAfter=No

# newdoc
1\tde el\tde\tADP\t_\t_\t0\troot\t_\t_
"""
UNIVERSAL_NER = "# text = a b\n1\tAda\tB-PER\t-\tx\n2\tsaw\tO\t-\tx\n"
MULTICONER = "# id 5239d808\tdomain=en\nthe _ _ O\ncity _ _ B-LOC\n\n# id 7\nx _ _ O\n"
HASHES = "#\tO\nfun\tO\n\n#ada\tB-PER\n# id\n"
NUMBERS = "1 CD\n2 CD\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (CONLL_2003, [(["EU", "rejects", "#"], ["B-ORG", "O", "O"]), (["1", "2"], ["O", "O"])]),
        (GERMEVAL, [(["Aufgrund", "#", "Schleswig-Holstein"], ["O", "O", "B-LOC"]),
                    (["Bad"], ["B-LOCderiv"])]),
        (CONLL_U, [(["vamos", "nos", "#"], ["VERB", "PRON", "SYM"]), (["de el"], ["ADP"])]),
        (UNIVERSAL_NER, [(["Ada", "saw"], ["B-PER", "O"])]),
        (MULTICONER, [(["the", "city"], ["O", "B-LOC"]), (["x"], ["O"])]),
        (NUMBERS, [(["1", "2"], ["CD", "CD"])]),
        ("1\tBad\tO\tO\n\n1\tgut\tB-LOC\tO\n", [(["Bad"], ["O"]), (["gut"], ["B-LOC"])]),
        ("# a # comment\nAda B-PER\n", [(["Ada"], ["B-PER"])]),
        ("# NN\nlast JJ\n\n# JJ\n", [(["#", "last"], ["NN", "JJ"]), (["#"], ["JJ"])]),
        ("EU\tB-ORG\r\n \r\n\r\nUN\tB-ORG", [(["EU"], ["B-ORG"]), (["UN"], ["B-ORG"])]),
    ],
)  # fmt: skip
def test_comments_numbers_ranges_and_marks(tmp_path, text, wanted):
    """Was: the words of GermEval and CoNLL-U were 1, 2, 3 and "#", with the last column's tags;
    a -DOCSTART- alone was an error.
    Right: the words of each format with its tags."""
    path = tmp_path / "a.conll"
    path.write_text(text, encoding="utf-8", newline="")
    assert list(tagged_sentences(path)) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1\ta\tO\n2\tb\tO\n\n1\tc\tO\n3\td\tO\n", "line 5: '3' where the number 2 of the word"),
        ("1\ta\tO\tO\n2\tb\tO\n", "line 2: 3 columns where the first word has 4"),
        ("#begin document (bc/cctv/00); part 000\nbc 0 0 In\n", "a file of CoNLL-2012 is not"),
        ("EU B-ORG\n#word\n", "line 2: '#word' has no tag behind the word"),
        ("\tO\n", "has no tag behind the word"),
        ("# a comment alone\n", "holds no sentence|has no tag"),
        (CONLL_U[: CONLL_U.index("\n\n")] + "\n4\tsol\t_\n", "3 columns where the first word"),
    ],
)  # fmt: skip
def test_files_of_words_that_contradict_themselves(tmp_path, text, says):
    """Was: read, whatever came of it.
    Right: the line and both values."""
    path = tmp_path / "a.conll"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        list(tagged_sentences(path))


# ------------------------------------------------------- tags that are numbers, or none


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS, 80, min_frequency=1)


def test_integer_tags_and_empty_sentences(tmp_path):
    """Was: integer ner_tags, as transformers' data sets have them, and an empty sentence were
    refused.
    Right: numbers, by value; an empty sentence is a blank line."""
    path = rows(
        tmp_path / "a.jsonl", {"tokens": ["good", "film"], "ner_tags": [10, 2]},
        {"tokens": [], "ner_tags": []}, {"words": ["film"], "labels": [0]},
    )  # fmt: skip
    found = list(tagged_sentences(path))
    assert found == [(["good", "film"], ["10", "2"]), (["film"], ["0"])]
    assert tag_names(tag for _, tags in found for tag in tags) == ("0", "2", "10")
    for tag in (-100, 1.5, True, [1]):
        rows(path, {"tokens": ["a"], "ner_tags": [tag]})
        with pytest.raises(ValueError, match="line 1: a sentence is words with their tags"):
            list(tagged_sentences(path))
    with pytest.raises(ValueError, match="holds no sentence"):
        list(tagged_sentences(rows(path, {"tokens": [], "tags": []})))
    with pytest.raises(ValueError, match="line 1: a word or a tag holds half of a surrogate"):
        list(tagged_sentences(rows(path, {"tokens": ["a\ud800"], "tags": ["O"]})))


def test_integer_tags_are_the_models_with_a_word(tokenizer):
    """Was: refused.
    Right: places among the model's tags, which a warning says."""
    names = ("O", "B-PER", "I-PER")
    with pytest.warns(UserWarning, match="0 as O, 2 as I-PER"):
        data = TaggedText([(["good", "film"], ["2", "0"])], tokenizer, Batching(9), names=names)
    assert data.labels[0].tolist() == [-100, 2, 0, -100]
    with (
        pytest.warns(UserWarning, match="0 as O"),
        pytest.raises(ValueError, match="sentence 0 has the tag '3', which is none of O, B-PER"),
    ):
        TaggedText([(["good", "film"], ["3", "0"])], tokenizer, Batching(9), names=names)


@pytest.mark.parametrize("tag", ["", "_", "-", None])
def test_words_without_a_tag(tokenizer, tmp_path, tag):
    """Was: "" and "_" were kinds of words.
    Right: refused with the word, or the sentence is left out and counted."""
    path = rows(tmp_path / "a.jsonl", {"tokens": ["good", "film"], "tags": ["O", tag]},
                {"tokens": ["film"], "tags": ["O"]})  # fmt: skip
    found = list(tagged_sentences(path))
    with pytest.raises(
        ValueError, match=r"sentence 0 has no tag .* at 'film'; 1 of 2 sentences has"
    ):
        TaggedText(found, tokenizer, Batching(9), names=("O",))


def test_the_commands(tmp_path, capsys):
    """Was: IOBES was measured as BIO; numbers and words without tags were refused.
    Right: its own scheme; --skip-unlabelled; a warning where entities cannot be counted."""
    iobes = ("O", "B-X", "I-X", "E-X", "S-X")
    folder = model_folder(tmp_path / "model", "token-classification", iobes)
    sentence = {"tokens": ["a", "good", "film"], "tags": ["O", "S-X", "O"]}
    data = rows(tmp_path / "a.jsonl", *[sentence] * 5, sentence | {"tags": ["O", "_", "O"]})
    evaluate = ("evaluate", "--model", folder, *QUICK, "--json", "--data", data)
    code, _, _, error = ran(capsys, *evaluate)
    assert code == 2 and "sentence 5 has no tag but '_' at 'good'" in error
    code, out, warning, _ = ran(capsys, *evaluate, "--skip-unlabelled")
    assert code == 0 and "1 of 6 examples has no label; left out" in warning
    assert {"precision", "recall", "f1"} <= set(json.loads(out))
    numbers = {"tokens": sentence["tokens"], "ner_tags": [0, 4, 0]}
    rows(data, *[numbers] * 5)
    code, out, warning, _ = ran(capsys, *evaluate)
    assert code == 0 and "0 as O, 4 as S-X" in warning and "f1" in json.loads(out)
    code, _, warning, _ = ran(
        capsys, "finetune", "--task", "token-classification", "--model", folder, "--data", data,
        "--held-out", 2, "--steps", 1, "--out", tmp_path / "out", *QUICK
    )  # fmt: skip
    assert code == 0 and "the tags 0, 4 are of no known scheme of entities" in warning
