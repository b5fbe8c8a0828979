"""Trains a WordPiece tokenizer, which cuts words greedily into the longest pieces it knows.

`##` marks a piece that continues a word: unaffable -> un ##aff ##able. BERT puts [CLS] before a
text and [SEP] after it, and [SEP] between and after a pair.
Source: Schuster and Nakajima, ICASSP 2012; Devlin et al., 2018.
"""

import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable

from tokenizers import trainers

from minidistil.data.tokenizer import Tokenizer
from minidistil.data.tokenizer_kinds import PREFIX, SPECIAL, wordpiece


def train_wordpiece(
    documents: Iterable[str], vocab_size: int, *, lowercase: bool = True, min_frequency: int = 2
) -> Tokenizer:
    """BERT's kind of tokenizer with at most vocab_size pieces, from an iterable of texts.

    The same texts give the same vocabulary. By default the trainer numbers letters in the order of
    a hash table, which differs between processes, and breaks ties between pieces by these numbers.
    So the letters are counted first and given to the trainer in a fixed order; meanwhile the texts
    are in a temporary file. Each letter takes two pieces, at the start of a word and inside; only
    the most frequent letters (an eighth of the vocabulary, 100 to 1000 of them) are pieces, the
    others become [UNK].
    """
    backend = wordpiece({}, SPECIAL, lowercase=lowercase)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
        counts = _spool(documents, backend.normalizer, spool)
        counts = {c: n for c, n in counts.items() if n >= min_frequency and not c.isspace()}
        limit = min(1000, max(100, vocab_size // 8))
        letters = sorted(sorted(counts, key=lambda c: (-counts[c], c))[:limit])
        inside = [PREFIX + c for c in letters if not _splits(c)]
        first = [*SPECIAL.values(), *letters, *inside]
        if not letters or vocab_size < len(first):
            raise ValueError(
                f"vocab_size {vocab_size} must hold {len(SPECIAL)} special tokens and the texts' "
                f"{len(letters)} letters, {len(first)} in all; give a larger one"
                if letters
                else "the documents hold no letter; a vocabulary needs some text"
            )
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=first,
            initial_alphabet=letters,
            limit_alphabet=len(letters),
            continuing_subword_prefix=PREFIX,
            show_progress=False,
        )
        backend.train_from_iterator(spool, trainer)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    return Tokenizer(wordpiece(vocabulary, SPECIAL, lowercase=lowercase))


def _spool(documents, normalizer, spool):
    """Write one document a line and count the letters after normalisation."""
    counts = Counter()
    for document in documents:
        counts.update(normalizer.normalize_str(document))
        spool.write(" ".join(document.splitlines()) + "\n")
    spool.seek(0)
    return counts


def _splits(letter):
    """Whether BERT's pre-tokenizer makes this character a word of its own."""
    ascii_mark = letter.isascii() and not letter.isalnum()
    return ascii_mark or unicodedata.category(letter).startswith("P")
