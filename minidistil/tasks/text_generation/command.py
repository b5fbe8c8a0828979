"""Command hooks of causal language modelling, measured by perplexity.

minidistil pretrain --family gpt2 --data books/ --out runs/gpt
minidistil evaluate --model runs/gpt --data held-out.txt --max-length 128 --context 64
"""

import tempfile
from argparse import BooleanOptionalAction

import numpy as np

from minidistil.distill.teachers import logits_of
from minidistil.io.ranks import world
from minidistil.model.ensemble import mean
from minidistil.model.finite import NotFiniteError, finite
from minidistil.model.generation.generate_texts import generate
from minidistil.model.model import Model
from minidistil.model.pretrained import from_pretrained
from minidistil.model.task_loss import IGNORED, check_token_labels, next_words
from minidistil.tasks.data_options import refuse_eval_data
from minidistil.tasks.measuring import accuracy, answered, argmax, cross_entropy, measured
from minidistil.tasks.text_generation.data import streamed_text

ROWS = 256  # rows whose logits are in memory at once
PROMPT, SAMPLE = 8, 24  # tokens of a sample: of the held-out text, and of the model


def add_options(parser) -> None:
    group = parser.add_argument_group("next words (text-generation)")
    group.add_argument(
        "--packed", action=BooleanOptionalAction, default=True,
        help="windows of --max-length across the documents; --no-packed: within each document",
    )  # fmt: skip
    group.add_argument(
        "--context", type=int, default=1, metavar="N",
        help="held-out windows share N tokens, so that each word is predicted from N words or more "
        "(1); transformers calls the rest, --max-length less N, the stride",
    )  # fmt: skip


def training(args, folder, tokenizer, resumed) -> tuple:
    """The model, and NextWords of which some documents are held out."""
    model = from_pretrained(
        folder, task="text-generation", backend=args.backend, dtype=args.dtype, seed=args.seed
    )
    refuse_eval_data(args)
    return model, streamed_text(args, tokenizer, args.out, resumed)


def evaluation(args, tokenizer, model) -> list[dict]:
    """Batches of all the text, or of the part that --held-out names. --eval-tokens has no effect: a
    perplexity is that of a whole text."""
    args.eval_tokens = 0
    with tempfile.TemporaryDirectory() as scratch:
        return streamed_text(args, tokenizer, scratch).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """NextWords: student and teacher read the same windows."""
    refuse_eval_data(args)
    return streamed_text(args, tokenizer, args.out, resumed)


def measure(model, batches, reference=None) -> dict[str, float]:
    """loss: the mean negative log-likelihood (NLL) of all predicted tokens, in nats; perplexity:
    e^loss; accuracy (top-1); agreement.

    A token is predicted if its window has one before it and the previous window does not label it.
    ⟨end⟩ of a text counts; all tokens have the same weight, in every batch.
    """
    found = measured(
        model, _logits(model, batches), cross_entropy(model), argmax(model), accuracy, reference
    )
    with np.errstate(over="ignore"):  # beyond float64 it is infinite
        perplexity = float(np.exp(found["loss"]))
    return {"loss": found["loss"], "perplexity": perplexity, **found}


def answers(model, batches) -> np.ndarray:
    """The top-1 word at every predicted token, (M,)."""
    return answered(argmax(model), _logits(model, batches))


def describe(answer) -> str:
    """The prompt with its continuation."""
    return answer[0]["generated_text"]


def samples(models, tokenizer, batches) -> dict[str, str]:
    """{name: text}: the models' continuations of the first words of the longest text of the first
    held-out batch; {} if it has no second token."""
    masks = batches[0]["attention_mask"].astype(bool)
    longest = masks.sum(axis=1).argmax()
    positions = min(getattr(m.config, "n_positions", 2 * PROMPT) for m in models.values())
    prompt = batches[0]["input_ids"][longest][masks[longest]][1 : 1 + min(PROMPT, positions // 2)]
    if not len(prompt):
        return {}
    found = {"of the text": tokenizer.decode(prompt)}
    for name, model in models.items():
        if isinstance(model, Model):  # an Ensemble has no KV cache
            config = model.config
            room = min(SAMPLE, config.n_positions - len(prompt))
            (words,) = generate(model, [prompt], max_new_tokens=room, eos=config.eos_token_id)
            found[name] = tokenizer.decode([*prompt, *words])
    return found


def _logits(model, batches):
    """Logits (≤ROWS,V) and labels of this rank's batches' predicted tokens, chunk by chunk."""
    for batch in world().share(batches):
        rows = model.pack_batch(batch)
        labels = check_token_labels(batch["labels"], rows, model.config.vocab_size)
        labels = next_words(labels, rows)
        selected = np.flatnonzero(labels != IGNORED)
        project = _projection(model, rows, selected)
        for start in range(0, len(selected), ROWS):
            chunk = slice(start, min(start + ROWS, len(selected)))
            logits = project(chunk)
            if not finite(logits, model.ops.place):
                raise NotFiniteError("the product of features and word embeddings is not finite")
            yield logits, labels[selected[chunk]]


def _projection(model, rows, selected):
    """A function from a slice of the selected rows to their logits; of an Ensemble the mean."""
    members = getattr(model, "members", (model,))
    found = [logits_of(m, m.infer(rows, selected, project=False)) for m in members]
    if len(found) == 1:
        return found[0]
    return lambda chunk: mean([logits(chunk) for logits in found], model.weights, model.ops)
