"""Words of a sentence and pieces of a tokenizer: which pieces a word has, in training and after."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_tokenizers import byte_pairs, unigrams

import minidistil as md
from minidistil.data import Tokenizer, train_wordpiece
from minidistil.data.batches import Batching
from minidistil.data.tokenizer_kinds import GPT2
from minidistil.data.tokenizer_kinds import byte_pairs as built
from minidistil.tasks.token_classification.data import TaggedText
from minidistil.tasks.token_classification.predictor import OF_WORDS, TokenClassification

WORDS = ["EU", "rejects", "German", "call"]
TEXTS = ["EU rejects German call to boycott British lamb.", "The fox is in London. Peter Blackburn"]


def plain_bytes(prefix=False):
    """GPT-2's tokenizer, whose pieces begin at the space before a word."""
    toy = byte_pairs().backend
    return Tokenizer(built(toy.model, GPT2, prefix, ends=False), names=dict.fromkeys(GPT2, "<s>"))


KINDS = {
    "WordPiece": lambda: train_wordpiece(TEXTS * 2, 90),
    "RoBERTa": byte_pairs,
    "GPT-2": plain_bytes,
    "GPT-2 with a space first": lambda: plain_bytes(prefix=True),
    "ALBERT": unigrams,
}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return KINDS[request.param]()


# ------------------------------------------------------- words that are given


def test_words_are_the_pieces_of_running_text(tokenizer):
    """Was: RoBERTa got the pieces of "EU", "rejects", … each at the beginning of a text: without
    the space that belongs to them, and so ids that are rare in what it was trained on.
    Right: the pieces of "EU rejects German call", in training and evaluation as in prediction."""
    (found,) = tokenizer.words([WORDS])
    assert found.ids == tokenizer.encodings([" ".join(WORDS)])[0].ids
    ids = [tokenizer.content([f" {word}" if i else word])[0] for i, word in enumerate(WORDS)]
    for number, own in enumerate(ids):
        assert [i for i, w in zip(found.ids, found.word_ids, strict=True) if w == number] == own


@given(words=st.lists(st.text(max_size=4), max_size=6))
def test_every_piece_is_of_one_word(tokenizer, words):
    """Was: as above.
    Right: whatever the words, their pieces are those of the running text, and numbered in order;
    a word of white space has none."""
    (found,) = tokenizer.words([words])
    text = " ".join(word.strip() for word in words if word.strip())
    assert found.ids == tokenizer.backend.encode(text).ids
    numbers = [w for w in found.word_ids if w is not None]
    assert numbers == sorted(numbers)
    assert all(words[number].strip() for number in numbers)


def test_a_space_that_is_a_piece_has_the_label_of_its_word():
    """Was: the first piece of a word was the one behind the space.
    Right: RoBERTa's space before a letter that it does not merge with is the word's first piece."""
    tokenizer = byte_pairs()
    sentence = (["fox", "ô"], ["O", "B-LOC"])
    data = TaggedText([sentence], tokenizer, Batching(99), names=("O", "B-LOC"))
    pieces = [tokenizer.id_to_token(int(i)) for i in data.sequences[0]]
    assert pieces.count("Ġ") == 1 and pieces[-2] != "Ġ"
    labelled = {pieces[t]: int(k) for t, k in enumerate(data.labels[0]) if k != -100}
    assert labelled["Ġ"] == 1 and len(labelled) == 2


# ------------------------------------------------------- words that are found


def tagger(tokenizer, names):
    """An untrained model: where no two words can be of one entity, its entities are the words."""
    config = md.DistilBertConfig(
        vocab_size=tokenizer.vocab_size, max_position_embeddings=64, n_layers=1, dim=8,
        hidden_dim=8, n_heads=2, id2label=names,
    )  # fmt: skip
    return TokenClassification(md.from_config(config, "token-classification"), tokenizer)


def spans(tokenizer, text, strategy, names=("B-A", "B-B")):
    found = tagger(tokenizer, names)(text, aggregation_strategy=strategy, ignore_labels=[])
    return [text[one["start"] : one["end"]] for one in found]


@pytest.mark.parametrize("strategy", OF_WORDS)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I saw London.", ["I", "saw", "London", "."]),
        ("Ada\nBob", ["Ada", "Bob"]),
        (" Ada \n\n Bob\t", ["Ada", "Bob"]),
        ("in (Paris) or", ["in", "(", "Paris", ")", "or"]),
    ],
)
def test_words_are_those_of_the_tokenizer(tokenizer, strategy, text, words):
    """Was: without WordPiece's ## a word ended at a space and nowhere else: "London." was one, and
    "Ada\\nBob" one name.
    Right: the tokenizer's own word numbers; punctuation at a word's edges is none of it."""
    assert spans(tokenizer, text, strategy) == words


@pytest.mark.parametrize("strategy", ["simple", *OF_WORDS])
def test_no_entity_is_a_character_too_long(tokenizer, strategy):
    """Was: GPT-2's pieces count the space before them, and a line's end could be tagged: "Ada "
    and " Bob\\n" were entities.
    Right: an entity begins and ends with a character that can be seen."""
    for text in (" Ada\nBob \n", "Ada", " ô Bob", "a  b\n\n\nc "):
        assert spans(tokenizer, text, strategy, ("I-A", "A")) == [text.strip()]
        for found in spans(tokenizer, text, strategy):
            assert found and found == found.strip()


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_prediction_mean_the_same_pieces(kind):
    """Was: as above, and a word's tag was learnt at another piece than it was asked of.
    Right: the piece that has a word's label is the first of the word that prediction finds."""
    tokenizer = KINDS[kind]()
    data = TaggedText([(WORDS, ["O"] * 4)], tokenizer, Batching(99), names=("O",))
    text = " ".join(WORDS)
    predict, encoding = tagger(tokenizer, ("O", "B-A")), tokenizer.encodings([text])[0]
    pieces = predict._pieces(text, encoding, np.ones((len(encoding.ids), 2)))
    firsts = [word[0]["index"] for word in predict._words(text, encoding, pieces)]
    assert np.flatnonzero(data.labels[0] == 0).tolist() == firsts
