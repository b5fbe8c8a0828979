"""The tasks: one folder each, with its data, metrics, predictor and command hooks.

    TASK/data.py        reads examples, and makes the batches that `minidistil.train.run_loop` takes
    TASK/metrics.py     metrics of its own
    TASK/predictor.py   a subclass of Predictor: inputs -> answers, for `pipeline` and `predict`
    TASK/command.py     the hooks of finetune, distill, evaluate and quantize

A new task is a folder, an entry of TASKS and a test. `text_to_text` is shared by translation and
summarization; the files beside this one are shared by several tasks. The commands are the same for
all tasks and call these hooks:

    add_options(parser)                                  the task's own options
    training(args, folder, tokenizer, resumed)           model, data: for finetune
    evaluation(args, tokenizer, model)                   batches: all of --data, or the --held-out
                                                         part of it
    distillation(args, tokenizer, teacher, resumed)      data: for the student
    measure(model, batches, reference=None)              {metric: number}; reference: `answers` of
                                                         another model, for "agreement"
    answers(model, batches)                              the model's answers, in one array
    describe(answer)                                     one answer of the predictor, in one line

and these, which some tasks have:

    samples(models, tokenizer, batches)                  {name: text} generated for a report
    guesses(models, tokenizer, batches)                  [{"text", "right", **{name: guess}}] of
                                                         held-out examples, for a report; may have
                                                         "probabilities": {name: number}
    start(args)                                          the arguments folder and tokenizer of
                                                         training, for a new model
    baselines(batches)                                   {metric: number} of baselines, in evaluate

A task's module is imported when it is first used.
"""

import importlib
from types import ModuleType

TASKS = {  # name: folder and predictor class
    "fill-mask": "fill_mask.FillMask",
    "text-classification": "text_classification.TextClassification",
    "token-classification": "token_classification.TokenClassification",
    "question-answering": "question_answering.QuestionAnswering",
    "multiple-choice": "multiple_choice.MultipleChoice",
    "text-generation": "text_generation.TextGeneration",
    "text2text-generation": "text_to_text.TextToText",
    "translation": "translation.Translation",
    "summarization": "summarization.Summarization",
    "feature-extraction": "feature_extraction.FeatureExtraction",
    "sentence-embedding": "sentence_embedding.SentenceEmbedding",
    "extractive-summarization": "extractive_summarization.ExtractiveSummarization",
    "image-classification": "image_classification.ImageClassification",
}
PREDICTING = ("text2text-generation", "feature-extraction")  # have no command.py
TRAINED = tuple(task for task in TASKS if task not in PREDICTING)


def command_of(task: str) -> ModuleType:
    """The command hooks of a task. Raises ValueError for one that the commands cannot train."""
    if task not in TRAINED:
        raise ValueError(
            f"a task to train or measure must be one of {', '.join(TRAINED)}, not {task!r}; give "
            f"--task"
        )
    return _module(task, "command")


def predictor_of(task: str) -> type:
    """The Predictor subclass of a task."""
    return getattr(_module(task, "predictor"), TASKS[task].partition(".")[2])


def _module(task, role):
    return importlib.import_module(f"minidistil.tasks.{TASKS[task].partition('.')[0]}.{role}")


def add_options(parser) -> None:
    """The options of every task, a group for each, and of long texts."""
    add_stride(parser.add_argument_group("texts longer than --max-length"))
    for task in TRAINED:
        command_of(task).add_options(parser)


def add_stride(parser) -> None:
    parser.add_argument(
        "--stride", type=int, metavar="N",
        help="pieces that neighbouring windows share where texts or their words are classified, or "
        "questions answered (128, at most a third of --max-length)",
    )  # fmt: skip
