"""Next words: a decoder learns to continue a text, and perplexity says how well it does.

minidistil pretrain --family gpt2 --data books/ --out runs/gpt
minidistil evaluate --model runs/gpt --data held-out.txt --max-length 128 --context 64
"""

import tempfile
from argparse import BooleanOptionalAction
from pathlib import Path

import numpy as np

from minidistil.data import Corpus, NextWords, split
from minidistil.distill.teachers import logits_of
from minidistil.model.ensemble import mean
from minidistil.model.finite import NotFiniteError, finite
from minidistil.model.generation.generate_texts import generate
from minidistil.model.model import Model
from minidistil.model.pretrained import from_pretrained
from minidistil.model.task_loss import IGNORED, check_token_labels, next_words
from minidistil.tasks.measuring import accuracy, cross_entropy, likeliest, measured
from minidistil.tasks.text_data import HELD_OUT_SEED, read, refuse_eval_data

ROWS = 256  # rows whose logits are there at once
PROMPT, SAMPLE = 8, 24  # tokens of a held-out text that are shown, and that a model adds


def add_options(parser):
    group = parser.add_argument_group("next words (text-generation)")
    group.add_argument(
        "--packed", action=BooleanOptionalAction, default=True,
        help="windows of --max-length across the documents; --no-packed: texts each on its own",
    )  # fmt: skip
    group.add_argument(
        "--context", type=int, default=1, metavar="N",
        help="held-out windows share N tokens, so that each word is predicted from N words or more "
        "(1); transformers calls the rest, --max-length less N, the stride",
    )  # fmt: skip


def training(args, folder, tokenizer, resumed):
    """The model, and NextWords whose last documents are held out."""
    model = from_pretrained(
        folder, task="text-generation", backend=args.backend, dtype="float32", seed=args.seed
    )
    refuse_eval_data(args)
    return model, streamed_text(args, tokenizer, args.out, resumed)


def evaluation(args, tokenizer, model):
    """Batches of all the text, or of the part that --held-out names, whatever --eval-tokens says:
    a perplexity is that of a whole text."""
    args.eval_tokens = 0
    with tempfile.TemporaryDirectory() as scratch:
        return streamed_text(args, tokenizer, scratch).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """NextWords: student and teacher read the same windows."""
    refuse_eval_data(args)
    return streamed_text(args, tokenizer, args.out, resumed)


def streamed_text(args, tokenizer, folder, resumed=False):
    """NextWords of --data, some documents of it held out, all of them where held_out is None."""
    if args.max_length > tokenizer.max_length:
        raise ValueError(
            f"--max-length {args.max_length} is more than the {tokenizer.max_length} tokens that "
            f"the model reads; choose a smaller one"
        )
    path = Path(folder) / "data" / "documents.corpus"
    if resumed and path.exists():
        corpus = Corpus.open(path)
    else:
        corpus = Corpus.build(path, read(args, "tokenising"), tokenizer, max_length=None)
    if args.held_out is None:
        indices, held_out = np.zeros(0, np.int64), np.arange(len(corpus))
    else:
        indices, held_out = split(corpus.documents, args.held_out, HELD_OUT_SEED)
    return NextWords(
        corpus, indices, tokenizer, max_length=args.max_length, tokens=args.batch_tokens,
        held_out=held_out, seed=args.seed, packed=args.packed, context=args.context,
        evaluation_tokens=args.eval_tokens or None,
    )  # fmt: skip


def measure(model, batches, reference=None):
    """loss: the mean surprise over all predicted words, in nats; perplexity: e^loss; accuracy: the
    right word is the likeliest; agreement.

    Predicted is every token that has one before it in its window and no label in the window
    before, ⟨end⟩ of a text included, each with the same weight whatever batch it is in.
    """
    found = measured(
        model, _guesses(model, batches), cross_entropy(model), likeliest(model), accuracy, reference
    )
    with np.errstate(over="ignore"):  # beyond float64 it is infinite
        perplexity = float(np.exp(found["loss"]))
    return {"loss": found["loss"], "perplexity": perplexity, **found}


def answers(model, batches):
    """The likeliest next word at every predicted token, (M,)."""
    words = likeliest(model)
    return np.concatenate([words(logits) for logits, _ in _guesses(model, batches)])


def describe(answer):
    """A text with what was added to it."""
    return answer[0]["generated_text"]


def samples(models, tokenizer, batches):
    """{name: text}: how the models continue the first words of the longest text of the first
    held-out batch; {} where it has no second token."""
    masks = batches[0]["attention_mask"].astype(bool)
    longest = masks.sum(axis=1).argmax()
    positions = min(getattr(m.config, "n_positions", 2 * PROMPT) for m in models.values())
    prompt = batches[0]["input_ids"][longest][masks[longest]][1 : 1 + min(PROMPT, positions // 2)]
    if not len(prompt):
        return {}
    found = {"of the text": tokenizer.decode(prompt)}
    for name, model in models.items():
        if isinstance(model, Model):  # several teachers have no memory of keys and values
            config = model.config
            room = min(SAMPLE, config.n_positions - len(prompt))
            (said,) = generate(model, [prompt], max_new_tokens=room, eos=config.eos_token_id)
            found[name] = tokenizer.decode([*prompt, *said])
    return found


def _guesses(model, batches):
    """Logits (≤ROWS,V) and labels of the predicted words, piece by piece."""
    for batch in batches:
        rows = model.pack_batch(batch)
        labels = check_token_labels(batch["labels"], rows, model.config.vocab_size)
        labels = next_words(labels, rows)
        asked = np.flatnonzero(labels != IGNORED)
        said = _said(model, rows, asked)
        for start in range(0, len(asked), ROWS):
            piece = slice(start, min(start + ROWS, len(asked)))
            logits = said(piece)
            if not finite(logits, model.ops.place):
                raise NotFiniteError("the product of features and word embeddings is not finite")
            yield logits, labels[asked[piece]]


def _said(model, rows, asked):
    """A function from a slice of the asked rows to their logits, of several models the mean."""
    members = getattr(model, "members", (model,))
    found = [logits_of(m, m.infer(rows, asked, project=False)) for m in members]
    if len(found) == 1:
        return found[0]
    return lambda piece: mean([logits(piece) for logits in found], model.weights, model.ops)
