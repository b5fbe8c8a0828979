"""Distil a teacher into a small student.

Without options: the teacher that comes with minidistil, a student with half its layers, movie
reviews, about five minutes on two cores. Two more students train for the same steps on the same
batches without the teacher, one from the same weights and one from random ones; the table at the
end compares them, and of masked words and classes their guesses at three held-out texts are shown.
Writes a run folder: the student as a Hugging Face folder, metrics.jsonl, report.json, report.html,
curves.png, compare.html (what teacher and student say at each word of a few held-out texts), and
checkpoints from which --resume continues.
"""

import dataclasses
import time
import warnings
from argparse import BooleanOptionalAction

from minidistil import tasks
from minidistil.cli import INTERRUPTED, report
from minidistil.cli.command_parser import add_model
from minidistil.cli.compare import write_page_of_run
from minidistil.cli.options import (
    add_run_options,
    add_store_option,
    add_training_options,
    train_config,
)
from minidistil.cli.report_words import next_commands, too_few
from minidistil.cli.run_options import keep_options, nothing_left, open_run
from minidistil.cli.students import compare, rates_of_students, settle, train_all
from minidistil.cli.task_options import add_class_options, settled_config
from minidistil.config import read_config
from minidistil.data.preprocessor import load_preprocessor, same_preprocessing
from minidistil.data.sequence_ids import Numbered
from minidistil.data.two_tokenizers import ReadTwice
from minidistil.distill import DistillConfig, student_from
from minidistil.distill.objectives import TERMS, Projected
from minidistil.distill.objectives.image_step import check_images
from minidistil.distill.objectives.sentence_step import check_vectors
from minidistil.distill.objectives.sequence_step import check_pairs
from minidistil.distill.recipes import RECIPES, check_teacher, recipe
from minidistil.distill.step import check_reading
from minidistil.distill.student import OF_TEXTS, check_pair
from minidistil.distill.teacher_cache import CachedTeacher
from minidistil.io.console import Answer, progress
from minidistil.io.counts import counted
from minidistil.io.option_types import number_list
from minidistil.io.ranks import world
from minidistil.model.bundled_teacher import default_teacher
from minidistil.model.ensemble import Ensemble
from minidistil.model.heads import WORD_TASKS
from minidistil.model.pretrained import from_config, from_pretrained, resolve
from minidistil.model.sentence.sentence_model import SENTENCES, length_of
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder
from minidistil.model.vision.vision_encoder import IMAGES
from minidistil.ops import backend as load_backend
from minidistil.tasks.data_options import add_eval_option, add_text_options, settle_length
from minidistil.tasks.load_models import load
from minidistil.tasks.text_to_text.pair_commands import decoder_layers
from minidistil.train.best import sentence
from minidistil.train.training_objectives import Distillation, Supervised, counting_of

EXAMPLE = "--layers 0,3 --minutes 10 --alpha-cos 0 --out runs/my-student"
RANDOM = "random start, no teacher"
STEPS = 200  # of 2048 tokens: about five minutes on two cores, the two other students included
PAPER = {12: (0, 2, 4, 7, 9, 11)}  # DistilBERT's own choice

LISTS = {  # losses that may be given several times
    "vary": {
        "metavar": "NAME=linear:START:END",
        "help": "a temperature or a weight that changes during the run, also cosine:START:END",
    },
    "terms": {
        "metavar": "NAME:OPTION=VALUE",
        "help": f"a loss on hidden states or attention, in place of those of a recipe: "
        f"{', '.join(TERMS)}",
    },
}


def layer_list(text):
    """ "0,2,4" -> (0, 2, 4)."""
    return tuple(int(part) for part in text.split(","))


def add_options(parser):
    parser.add_argument(
        "--recipe", metavar="NAME",
        help=f"a paper's settings; options change single ones: {', '.join(RECIPES)}",
    )  # fmt: skip
    parser.presets = lambda name: recipe(name).options
    _add_model_options(parser.add_argument_group("models"))
    _add_loss_options(parser.add_argument_group("losses (a loss of weight 0 is not computed)"))
    add_text_options(parser)
    add_eval_option(parser)
    tasks.add_options(parser)
    parser.add_argument(
        "--labels",
        action=BooleanOptionalAction,
        default=True,
        help="also learn from a classifier's labels, where the data has them",
    )
    add_training_options(parser, lr=1e-3, batch_tokens=2048)
    add_class_options(parser)
    add_run_options(parser)


def _add_model_options(group):
    """Who teaches whom."""
    add_model(
        group, "or a name on the hub; given again: several teachers, whose logits are averaged",
        dest="teacher", several=True,
    )  # fmt: skip
    group.add_argument(
        "--teacher-weights", type=number_list, metavar="W,W,…",
        help="of several teachers; default: all the same",
    )  # fmt: skip
    group.add_argument(
        "--teacher-dtype", metavar="D",
        help="what the teacher computes in: float32, bfloat16 or int8; default: bfloat16 with "
        "--dtype bfloat16, else as it is stored",
    )  # fmt: skip
    group.add_argument(
        "--cache-teacher", metavar="DIR",
        help="compute the teacher's outputs once, store them here, and read them in every "
        "epoch and for every student; a text then keeps its masks",
    )  # fmt: skip
    group.add_argument(
        "--cache-format", default="whole", metavar="F",
        help="whole (same losses, bit by bit), half, or top64: that many logits a token (whole)",
    )  # fmt: skip
    group.add_argument("--task", help=f"{', '.join(tasks.TRAINED)}; default: the teacher's")
    group.add_argument(
        "--layers", type=layer_list, metavar="0,2,…",
        help="the teacher's layers that the student starts from; default: every other one",
    )  # fmt: skip
    group.add_argument(
        "--student", metavar="FOLDER",
        help="a model, or a name on the hub, that the student starts as; for tasks with one output "
        "a text it may have a tokenizer of its own",
    )  # fmt: skip
    group.add_argument(
        "--student-config", metavar="FILE",
        help="config.json of another student, which starts from --layers, or without at random",
    )  # fmt: skip
    group.add_argument(
        "--student-family", metavar="NAME",
        help="bert, distilbert, roberta or albert; default: distilbert for a BERT, else its own; "
        "of images: vit or deit",
    )  # fmt: skip
    group.add_argument(
        "--vocab-transform", action=BooleanOptionalAction, default=False,
        help="copy the transform of the masked-LM head too",
    )  # fmt: skip
    group.add_argument(
        "--baselines", action=BooleanOptionalAction, default=True,
        help="also train students without the teacher",
    )  # fmt: skip
    add_store_option(group)


def _add_loss_options(group):
    """The fields of DistillConfig."""
    for field in dataclasses.fields(DistillConfig):
        option = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            group.add_argument(option, action=BooleanOptionalAction, default=field.default)
        elif isinstance(field.default, tuple):
            group.add_argument(option, action="append", **LISTS[field.name])
        elif isinstance(field.default, str):
            group.add_argument(option, default=field.default, metavar="NAME",
                               help=f"({field.default or 'none'})")  # fmt: skip
        else:
            group.add_argument(
                option, type=float, default=field.default, metavar="X", help=f"({field.default:g})"
            )


def run(args):
    started = time.perf_counter()
    losses = DistillConfig(
        **{field.name: getattr(args, field.name) for field in dataclasses.fields(DistillConfig)}
    )
    config = train_config(args, steps=STEPS)
    run = open_run(args, "distill")
    with nothing_left(args.out):
        teacher, tokenizer = load(
            args.teacher or default_teacher(), args.teacher_weights, task=args.task,
            backend=args.backend, dtype=_teacher_dtype(args), problem_type=args.problem_type,
        )  # fmt: skip
        own = load_preprocessor(resolve(args.student)) if args.student else tokenizer
        two = not same_preprocessing(own, tokenizer)
        longest = min(tokenizer.max_length, own.max_length)
        settle_length(args, longest, teacher.task, length_of(teacher))
        if two:
            args.stride = None  # two tokenizers split a text at different places: it is cut
        make, learner = student(args, teacher, losses, two)
        objectives = {"distilled student": learner}
        keep_options(run, args)
        read = tasks.command_of(teacher.task).distillation
        data = read(args, tokenizer, teacher, run.resumed)
        if two:
            data = ReadTwice(read(args, own, teacher, run.resumed), data)
        config = settled_config(config, args, learner.model, data)
        learner.count_labels(counting_of(config))
        if args.baselines:
            objectives |= baselines(args, make, learner, data)
        if args.cache_teacher:
            data = Numbered(data)
            learner.teacher = CachedTeacher(
                args.cache_teacher, teacher, data, losses, args.cache_format,
                lambda steps: progress(steps, "asking the teacher"),
            )  # fmt: skip
        config = settle(config, run, objectives, data)
        alike = dataclasses.replace(config, layer_decay=1.0, freeze=())  # no layer is trained yet
        configs = {name: alike if name == RANDOM else config for name in objectives}
        configs = rates_of_students(configs, args, run, objectives, data)

        def save(entry):
            entry.model.save_pretrained(entry.folder, args.store)
            own.save(entry.folder, token_types=entry.model.config.architecture.types > 1)

        entries, finished = train_all(run, objectives, data, configs, teacher, save)
        if not finished:
            return Answer({"interrupted": True}, "", INTERRUPTED)
    batches, found = data.evaluation_batches(), {}
    rows = compare(teacher, entries, batches)
    models = {"teacher": teacher} | {entry.name: entry.model for entry in entries}
    for shown in ("samples", "guesses"):
        if make := getattr(tasks.command_of(teacher.task), shown, None):
            found[shown] = make(models, tokenizer, batches)
    found |= entries[0].summary | {
        "models": rows, "task": teacher.task, "out": str(args.out),
        "wall_seconds": time.perf_counter() - started,
    }  # fmt: skip
    if world().rank:  # rank 0 alone writes
        return Answer(found, "")
    if too_few(found):
        warnings.warn(too_few(found), stacklevel=1)
    run.report(found)
    write_page_of_run(args.out, (entries[0].model, teacher), own, batches, losses)
    page = report.write(args.out)
    kept = [f"{entry.name}: {sentence(entry.summary['kept'])}"
            for entry in entries if "kept" in entry.summary]  # fmt: skip
    lines = [report.models_table(rows), ""]
    if found.get("guesses"):
        lines += [report.guesses_table(found["guesses"], teacher.task), ""]
    lines += kept
    most = " at most" * bool(kept)
    lines.append(f"{counted(config.steps, 'step')} a student{most}; report: {page}")
    lines.append(f"next: {next_commands(found)[0]}")
    return Answer(found, "\n".join(lines))


def _teacher_dtype(args):
    """The dtype of the teacher; None for that of its folder."""
    return args.teacher_dtype or (args.dtype if args.dtype != "float32" else None)


def student(args, teacher, losses, two=False):
    """A function that makes the student, and the objective that distils the teacher into it.

    two: student and teacher have a tokenizer each.
    """
    if args.recipe:
        check_teacher(args.recipe, teacher)
    make = _maker(args, teacher)
    student = make()
    if two and teacher.task == IMAGES:
        raise ValueError(
            "student and teacher must make the same pixels of an image; give --student a "
            "preprocessor_config.json such as the teacher's"
        )
    if two and teacher.task not in OF_TEXTS:
        raise ValueError(
            f"student and teacher must share a vocabulary where they are compared token by token; "
            f"only for {', '.join(OF_TEXTS)} may they have a tokenizer each"
        )
    check_reading(student, losses)
    if isinstance(teacher, EncoderDecoder):
        check_pairs(student, teacher, losses)
    elif teacher.task == IMAGES:
        check_images(student, teacher, losses)
    elif teacher.task == SENTENCES:
        check_vectors(student, teacher, losses, two)
    else:
        check_pair(student, teacher, losses.alpha_cos > 0, two)
    if losses.terms:
        student = Projected(student, teacher, losses.terms, args.seed)
    return make, Distillation(student, teacher, losses)


def baselines(args, make, learner, data):
    """{name: objective} of the students that learn without the teacher; {} where the data holds
    nothing to learn from."""
    if not data.labelled:
        why = "the data has no labels" if args.labels else "--no-labels leaves the labels unread"
        warnings.warn(f"{why}: no student is trained without the teacher", stacklevel=2)
        return {}
    found = {"same start, no teacher": Supervised(make(), learner.counting)}
    if args.layers or not args.student_config:  # else it starts at random in any case
        config, task = learner.model.config, learner.teacher.task
        fresh = from_config(config, task, args.seed, args.backend, args.dtype)
        found[RANDOM] = Supervised(fresh, learner.counting)
    return found


def _maker(args, teacher):
    """A function that makes the student, the same at every call."""
    given = [n for n in ("layers", "student_config") if args.student and getattr(args, n)]
    if given:
        raise ValueError(
            f"a student has one origin: give --student or --{given[0].replace('_', '-')}, not both"
        )
    if args.student:
        return lambda: _as_given(args, teacher)
    config = read_config(args.student_config) if args.student_config else None
    if config and not args.layers:
        return lambda: from_config(config, teacher.task, args.seed, args.backend, args.dtype)
    start = teacher.members[0] if isinstance(teacher, Ensemble) else teacher
    L = start.config.architecture.L
    layers = args.layers = args.layers or PAPER.get(L) or tuple(range(0, L, 2))[: max(1, L // 2)]
    how = args.vocab_transform, args.seed, args.student_family, config, decoder_layers(args)
    ops = load_backend(args.backend, args.dtype)
    return lambda: student_from(start, layers, *how).with_ops(ops)


def _as_given(args, teacher):
    """--student, with a head for the teacher's classes."""
    K = None if teacher.task in WORD_TASKS else teacher.config.num_labels
    student = from_pretrained(
        args.student, task=teacher.task, num_labels=K, problem_type=teacher.config.problem_type,
        backend=args.backend, dtype=args.dtype, seed=args.seed,
    )  # fmt: skip
    if K:
        names = teacher.config.id2label
        student.config = student.config.with_labels(K, teacher.config.problem_type, names)
    return student
