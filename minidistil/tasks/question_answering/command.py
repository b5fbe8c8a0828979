"""Command hooks of extractive question answering: SQuAD's format, long texts in windows.

minidistil finetune --task question-answering --data train-v1.1.json --eval-data dev-v1.1.json
"""

from argparse import BooleanOptionalAction

import numpy as np

from minidistil.data import Batching, split
from minidistil.model import task_loss
from minidistil.tasks.data_options import HELD_OUT_SEED
from minidistil.tasks.labelled_data import WithoutLabels, relabelled
from minidistil.tasks.measuring import results
from minidistil.tasks.question_answering.data import LONGEST_ANSWER, Questions, Reading, squad
from minidistil.tasks.question_answering.metrics import squad_scores
from minidistil.tasks.question_answering.spans import best_spans


def add_options(parser) -> None:
    group = parser.add_argument_group("questions (question-answering: --data in SQuAD's format)")
    group.add_argument(
        "--longest-answer", type=int, default=LONGEST_ANSWER, metavar="N",
        help=f"the longest answer, in pieces ({LONGEST_ANSWER})",
    )  # fmt: skip
    _add_word_option(group)


def _add_word_option(group):
    group.add_argument(
        "--align-to-words", action=BooleanOptionalAction, default=None,
        help="answers are whole words, except in scripts without spaces (yes)",
    )  # fmt: skip


def add_answer_options(parser) -> None:
    """The options of predict for answers."""
    group = parser.add_argument_group("answers (question-answering)")
    group.add_argument(
        "--no-answer", action="store_true", default=None,
        help="a text may have no answer, as in SQuAD 2.0; it is then empty, shown as -",
    )  # fmt: skip
    group.add_argument("--longest-answer", type=int, metavar="N", help="in pieces (15)")
    _add_word_option(group)


def training(args, folder, tokenizer, resumed) -> tuple:
    """The model with a head for start and end logits, and Questions."""
    training, evaluation = _training_and_evaluation(args)
    model = relabelled(args, folder, "question-answering", lambda before: (2, None, None))
    return model, _data(args, tokenizer, training, evaluation)


def evaluation(args, tokenizer, model) -> list[dict]:
    """Batches of windows with their questions."""
    found = squad(args.data)
    if args.held_out is not None:
        found = _in_two(found, args.held_out)[1]
    return _data(args, tokenizer, [], found).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """Questions; without answers, or with --no-labels, the teacher gives the only targets."""
    training, evaluation = _training_and_evaluation(args, None)
    answered = [any(q.answers for q in part) for part in (training, evaluation)]
    data = _data(args, tokenizer, training, evaluation)
    return data if args.labels and all(answered) else WithoutLabels(data, answered[1])


def _training_and_evaluation(args, answered=True):
    """Questions of --data, and of --eval-data or else the articles held out; answered: as in
    `squad`."""
    training = squad(args.data, answered)
    if args.eval_data:
        return training, squad(args.eval_data, answered)
    return _in_two(training, args.held_out)


def _in_two(questions, held_out):
    """Questions  ->  those to train on, those held out, by whole articles."""
    kept, out = split(np.array([q.article for q in questions]), held_out, HELD_OUT_SEED)
    return [questions[i] for i in kept], [questions[i] for i in out]


def _data(args, tokenizer, training, evaluation):
    return Questions(
        training, tokenizer, Batching(args.batch_tokens, args.seed), max_length=args.max_length,
        stride=args.stride, evaluation=evaluation,
        reading=Reading(args.longest_answer, args.align_to_words is not False),
    )  # fmt: skip


# ------------------------------------------------------- measuring


def measure(model, batches, reference=None) -> dict[str, float]:
    """loss; exact and f1 (shares), where some have no answer also has_answer_f1, no_answer_f1;
    agreement: the share of questions with the same answer."""
    batch_losses, found = [], {}
    predicted, questions = _answered(model, batches, batch_losses)
    if batch_losses:
        losses, sizes = zip(*batch_losses, strict=True)
        right = [[text for text, _ in question.answers] for question in questions]
        scores = squad_scores(predicted, right)
        found = {"loss": float(np.average(losses, weights=sizes)), **scores}
    if reference is not None:
        found["agreement"] = float(np.mean(np.array(predicted) == reference))
    return found


def answers(model, batches) -> np.ndarray:
    """The best answer of every question, (Q,) str."""
    return np.array(_answered(model, batches)[0])


def describe(answer) -> str:
    """The answers with their scores."""
    ranked = [answer] if isinstance(answer, dict) else answer
    return ", ".join(f"{a['answer'] or '-'} {a['score']:.4f}" for a in ranked)


def _answered(model, batches, losses=None):
    """The top-1 answers, and their Questions in the order of the data.

    losses: a list that receives (loss, number of windows) of each batch.
    """
    parts, questions, reading, fetch, unlabelled = {}, {}, None, model.ops.place.fetch, False
    for batch, rows, result in results(model, batches):
        unlabelled = "unlabelled" in batch
        if losses is not None and not unlabelled:
            loss, _ = task_loss.answer_loss(result.logits, rows, task_loss.given(batch), model)
            losses.append((loss, len(batch["asked"])))
        logits, reading = np.split(fetch(result.logits), rows.bounds[1:-1]), batch["reading"]
        for (question, window), z in zip(batch["asked"], logits, strict=True):
            parts.setdefault(window.number, []).append((window, z))
            questions[window.number] = question
    if not parts:
        raise ValueError("there is nothing to evaluate on; hold out some articles")
    found = [questions[number] for number in sorted(parts)]
    options = {"longest": reading.longest, "whole_words": reading.whole_words,
               "no_answer": not unlabelled and not all(q.answers for q in found)}  # fmt: skip
    best = [best_spans(parts[number], **options)[0] for number in sorted(parts)]
    return [q.context[a.start : a.end] for q, a in zip(found, best, strict=True)], found
