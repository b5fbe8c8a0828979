"""Command hooks of extractive summarization, measured by ROUGE.

minidistil finetune --task extractive-summarization --data train.jsonl --eval-data dev.jsonl \
    --max-length 512
"""

import warnings
from argparse import BooleanOptionalAction

import numpy as np

from minidistil.data.batches import Batching
from minidistil.io.console import progress
from minidistil.io.counts import part_of
from minidistil.model import task_loss
from minidistil.model.heads import CHOSEN, EXTRACT
from minidistil.tasks.extractive_summarization.data import Extracts, choose, documents_of
from minidistil.tasks.extractive_summarization.metrics import Oracle
from minidistil.tasks.extractive_summarization.predictor import summary_scores
from minidistil.tasks.labelled_data import (
    WithoutLabels,
    held_out_of,
    relabelled,
    training_and_evaluation,
)
from minidistil.tasks.measuring import results
from minidistil.tasks.text_metrics import rouge


def add_options(parser) -> None:
    group = parser.add_argument_group("extractive-summarization")
    add_choice_options(group)


def add_choice_options(parser) -> None:
    """The options for choosing sentences."""
    parser.add_argument("--sentences", type=int, metavar="K", help="of a summary (3)")
    parser.add_argument(
        "--trigram-blocking", action=BooleanOptionalAction, default=None,
        help="leave out a sentence that shares three words in a row with a better one (no)",
    )  # fmt: skip


def training(args, folder, tokenizer, resumed) -> tuple:
    """The model with a head that classifies sentences as chosen or not, and Extracts."""
    training, evaluation = training_and_evaluation(args, _read)
    model = relabelled(args, folder, EXTRACT, lambda before: (len(CHOSEN), None, CHOSEN))
    return model, _data(args, tokenizer, training, evaluation)


def evaluation(args, tokenizer, model) -> list[dict]:
    """Batches of the documents with their labels."""
    return _data(args, tokenizer, [], held_out_of(args, _read)).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """Extracts; with --no-labels the teacher gives the only targets."""
    data = _data(args, tokenizer, *training_and_evaluation(args, _read))
    return data if args.labels else WithoutLabels(data)


def _read(args, path):
    """Documents of --data with the oracle's labels."""
    oracle, found = Oracle(), []
    for document in progress(
        documents_of(path, args.source_column, args.target_column), "choosing", unit=" documents"
    ):
        labels = np.zeros(len(document.sentences), np.int64)
        labels[oracle(document.sentences, document.targets, _most(args))] = 1
        found.append(document._replace(labels=labels))
    return found


def _most(args):
    return 3 if args.sentences is None else args.sentences


def _data(args, tokenizer, training, evaluation):
    data = Extracts(
        training, tokenizer, Batching(args.batch_tokens, args.seed), evaluation=evaluation,
        max_length=args.max_length, sentences=_most(args),
        trigram_blocking=bool(args.trigram_blocking),
    )  # fmt: skip
    cut = sum(
        n < len(document.sentences) for n, document in zip(data.read(), data.every, strict=True)
    )
    if cut:
        warnings.warn(
            f"{part_of(cut, len(data.every), 'document', 'is')} longer than --max-length "
            f"{args.max_length}; the last sentences are not read", stacklevel=2,
        )  # fmt: skip
    return data


# ------------------------------------------------------- measuring


def measure(model, batches, reference=None) -> dict[str, float]:
    """loss (nats a sentence), rouge1, rouge2, rougeL (0 to 100) of the chosen sentences; agreement:
    the share of documents with the same summary."""
    losses, sizes, summaries, wanted = [], [], [], []
    for batch, rows, result, texts in _chosen(model, batches):
        labels = rows.gather(batch["labels"])
        losses.append(model.ops.place.number(task_loss.tokens(result.logits, labels, model.ops)[0]))
        sizes.append(np.count_nonzero(labels != task_loss.IGNORED))
        summaries += texts
        wanted += [document.targets for document in batch["asked"].documents]
    if not sizes:
        raise ValueError("there is nothing to evaluate on; hold out some documents")
    found = {"loss": float(np.average(losses, weights=sizes)), **rouge(summaries, wanted)}
    if reference is not None:
        found["agreement"] = float(np.mean(np.array(summaries, object) == reference))
    return found


def baselines(batches) -> dict[str, float]:
    """rouge1, rouge2, rougeL of two baselines: lead_ (the first sentences) and oracle_ (the
    oracle's choice in the whole document, including sentences beyond the model's length)."""
    texts, wanted = {"lead": [], "oracle": []}, []
    for batch in batches:
        asked = batch["asked"]
        for document in asked.documents:
            best = np.flatnonzero(document.labels)
            texts["lead"].append(" ".join(document.sentences[: asked.sentences]))
            texts["oracle"].append(" ".join(document.sentences[i] for i in best))
            wanted.append(document.targets)
    return {f"{baseline}_{name}": score for baseline, summaries in texts.items()
            for name, score in rouge(summaries, wanted).items()}  # fmt: skip


def answers(model, batches) -> np.ndarray:
    """The chosen sentences of every document, in one array."""
    return np.array([text for *_, texts in _chosen(model, batches) for text in texts], object)


def describe(answer) -> str:
    """The chosen sentences."""
    return answer["summary_text"]


def _chosen(model, batches):
    """Each batch with its rows, network.Result and summaries."""
    for batch, rows, result in results(model, batches):
        documents, *how = batch["asked"]
        scores = summary_scores(model, rows, result)
        yield batch, rows, result, [
            " ".join(d.sentences[i] for i in choose(mine, d.sentences, *how))
            for d, mine in zip(documents, scores, strict=True)
        ]  # fmt: skip
