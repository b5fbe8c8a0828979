"""Text of --data for causal language models: a corpus of whole documents in the run folder."""

from pathlib import Path

import numpy as np

from minidistil.data.batches import Batching
from minidistil.data.corpus import Corpus, split
from minidistil.data.next_words import NextWords, Stream
from minidistil.data.tokenizer import Tokenizer
from minidistil.tasks.data_options import HELD_OUT_SEED, read_documents


def streamed_text(
    args, tokenizer: Tokenizer, folder: str | Path, resumed: bool = False
) -> NextWords:
    """NextWords of --data; some documents are held out, all of them where held_out is None."""
    if args.max_length > tokenizer.max_length:
        raise ValueError(
            f"--max-length {args.max_length} is more than the model's {tokenizer.max_length} "
            f"positions; choose a smaller one"
        )

    def make(path):
        if resumed and path.exists():
            return Corpus.open(path)
        return Corpus.build(path, read_documents(args, "tokenising"), tokenizer, max_length=None)

    corpus = Corpus.shared(Path(folder) / "data" / "documents.corpus", make)
    if args.held_out is None:
        indices, held_out = np.zeros(0, np.int64), np.arange(len(corpus))
    else:
        indices, held_out = split(corpus.documents, args.held_out, HELD_OUT_SEED)
    return NextWords(
        corpus, indices, tokenizer, Batching(args.batch_tokens, args.seed),
        Stream(args.max_length, args.packed, args.context), held_out=held_out,
        evaluation_tokens=args.eval_tokens or None,
    )  # fmt: skip
