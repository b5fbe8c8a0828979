"""Command hooks of sentence embeddings: pairs of texts with similarities, or without labels.

minidistil finetune --task sentence-embedding --data train.tsv --label-column score \
    --similarity-max 5
minidistil distill --task sentence-embedding --teacher all-MiniLM-L6-v2 --data train.tsv \
    --label-column score --similarity-max 5 --alpha-ce 0 --alpha-cos 0 --alpha-mse 1
"""

import dataclasses

import numpy as np

from minidistil.data.batches import Batching
from minidistil.data.label_values import REGRESSION
from minidistil.io.console import silent_on_resume
from minidistil.model.pretrained import from_pretrained
from minidistil.model.sentence.pooling import MODES
from minidistil.model.sentence.sentence_model import SENTENCES, normalise, pairs_loss
from minidistil.tasks import glue_metrics
from minidistil.tasks.labelled_data import (
    WithoutLabels,
    held_out_of,
    reader_of_labelled,
    training_and_evaluation,
)
from minidistil.tasks.measuring import results
from minidistil.tasks.sentence_embedding.data import SentencePairs, in_lower_case


def add_options(parser) -> None:
    group = parser.add_argument_group("pairs of sentences (sentence-embedding)")
    group.add_argument(
        "--similarity-max", type=float, default=1.0, metavar="S",
        help="the label that stands for a cosine of 1 (1); STS-B: 5",
    )  # fmt: skip
    group.add_argument(
        "--pooling", metavar="P",
        help=f"how tokens become one vector: {', '.join(MODES)} ([CLS]); default: the folder's, "
        "else mean",
    )  # fmt: skip


def training(args, folder, tokenizer, resumed) -> tuple:
    """The model, without new parameters, and SentencePairs."""
    training, evaluation = training_and_evaluation(args, _read)
    with silent_on_resume(args):
        model = from_pretrained(
            folder, task=SENTENCES, backend=args.backend, dtype=args.dtype, seed=args.seed
        )
    _set_pooling(args, model)
    return model, _data(args, tokenizer, training, evaluation, model.pooling)


def evaluation(args, tokenizer, model) -> list[dict]:
    """Batches of the pairs; sets the model's pooling to --pooling."""
    _set_pooling(args, model)
    held_out = held_out_of(args, _read)
    return _data(args, tokenizer, [], held_out, model.pooling).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """SentencePairs; with --no-labels the teacher gives the only targets."""
    if args.cache_teacher:
        raise ValueError(
            "--cache-teacher keeps words and logits, not sentence vectors; leave it out"
        )
    if args.pooling is not None:
        raise ValueError(
            f"a student pools as its teacher, {teacher.pooling.mode}; leave --pooling out"
        )
    examples = training_and_evaluation(args, _read)
    data = _data(args, tokenizer, *examples, teacher.pooling)
    return data if args.labels else WithoutLabels(data)


_read = reader_of_labelled(REGRESSION)


def _set_pooling(args, model):
    if args.pooling is not None:
        model.pooling = dataclasses.replace(model.pooling, mode=args.pooling)


def _data(args, tokenizer, training, evaluation, pooling):
    if not args.similarity_max > 0:
        raise ValueError(f"--similarity-max must be above 0, not {args.similarity_max}")
    if pooling.lower_case:
        in_lower_case(tokenizer)
    return SentencePairs(
        training, tokenizer, Batching(args.batch_tokens, args.seed), evaluation=evaluation,
        max_length=args.max_length, highest=args.similarity_max, prompt=pooling.prompt(),
    )  # fmt: skip


# ------------------------------------------------------- measuring


def measure(model, batches, reference=None) -> dict[str, float]:
    """loss; mse, pearson, spearman of the cosines against the labels; Pearson's as agreement.

    Without labels: the contrastive loss within each batch, and the metrics of semantic search with
    the first texts of all pairs as queries and the second as items: accuracy (the matching item has
    rank 1) and mrr, the mean of 1/rank.
    """
    losses, sizes, sides, cosines, labels = [], [], [], [], []
    for batch, rows, u, w in _vectors(model, batches):
        given = batch.get("labels")
        losses.append(pairs_loss(_joined(u, w), rows, given)[0])
        sizes.append(len(u))
        cosines.append((u * w).sum(axis=1))
        sides.append((u, w))
        labels.append(given)
    if not sizes:
        raise ValueError("there is nothing to evaluate on; hold out some pairs")
    found, mine = {"loss": float(np.average(losses, weights=sizes))}, np.concatenate(cosines)
    if labels[0] is None:
        found |= glue_metrics.retrieval(*map(np.concatenate, zip(*sides, strict=True)))
    else:
        found |= glue_metrics.regression(mine, np.concatenate(labels))
    if reference is not None:
        found["agreement"] = glue_metrics.regression(mine, reference)["pearson"]
    return found


def answers(model, batches) -> np.ndarray:
    """The cosine of every pair, (B,)."""
    return np.concatenate([(u * w).sum(axis=1) for _, _, u, w in _vectors(model, batches)])


def describe(answer) -> str:
    """The size of the vector."""
    return f"a vector of {len(answer)}"


def _vectors(model, batches):
    """Each batch, its rows, and the vectors of its pairs, two arrays (B,C) of length 1."""
    for batch, rows, result in results(model, batches):
        y, _ = normalise(model.vectors(result, rows))
        yield batch, rows, y[0::2], y[1::2]


def _joined(u, w):
    return np.stack([u, w], axis=1).reshape(-1, u.shape[1])
