"""From text to batches: sources -> tokenizer -> corpus -> masking -> batches."""

from minidistil.data.batches import Batching, MaskedText, collate, plan
from minidistil.data.byte_pairs import train_byte_pairs
from minidistil.data.corpus import Corpus, fingerprint, held_out, split
from minidistil.data.masking import Masking, Vocabulary, mask_tokens
from minidistil.data.next_words import NextWords, Stream
from minidistil.data.sentence_order import OrderedText
from minidistil.data.sources import documents, examples
from minidistil.data.tokenizer import Tokenizer, check_vocabulary
from minidistil.data.tokenizer_files import load_tokenizer
from minidistil.data.wordpiece import train_wordpiece

__all__ = [
    "Batching",
    "Corpus",
    "MaskedText",
    "Masking",
    "NextWords",
    "OrderedText",
    "Stream",
    "Tokenizer",
    "Vocabulary",
    "check_vocabulary",
    "collate",
    "documents",
    "examples",
    "fingerprint",
    "held_out",
    "load_tokenizer",
    "mask_tokens",
    "plan",
    "split",
    "train_byte_pairs",
    "train_wordpiece",
]
