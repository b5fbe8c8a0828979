"""What a report says beside its numbers: warnings, the meaning of terms, what to run next."""

import html
import json
import shlex

from minidistil.io.counts import counted

FEW = 20  # steps below which students have hardly moved from their start
MEANINGS = {
    "loss": "what training minimises; held out, the mean negative log-likelihood of the right "
    "answers, in nats",
    "ce": "cross-entropy (as KL divergence) of the student's probabilities against the teacher's, "
    "both softened by the temperature",
    "mlm": "cross-entropy of the student's probabilities with the words that were masked",
    "clm": "cross-entropy of the student's probabilities with the next words",
    "hard": "cross-entropy of the student's probabilities with the labels",
    "cos": "1 − the cosine between the last hidden states of student and teacher",
    "mse": "mean squared difference between the logits of student and teacher; held out, between "
    "answers and labels",
    "accuracy": "the share of held-out answers that are right",
    "macro_f1": "F1 of each class, averaged over the classes",
    "micro_f1": "F1 over all labels of all texts at once",
    "f1": "the harmonic mean of precision (right answers of those given) and recall (of those "
    "wanted)",
    "matthews": "Matthews' correlation between classes and labels: 1 if all are right, 0 by chance",
    "pearson": "the correlation between answers and labels",
    "spearman": "the correlation between the ranks of answers and labels",
    "agreement": "the share of held-out answers that are the teacher's, right or wrong",
    "kept": "the model's accuracy as a share of the teacher's; in tasks with a metric of their own "
    "(f1, micro_f1, spearman, mrr, bleu, rougeL) that metric's share",
    "perplexity": "exp(loss): the number of equally probable words that is as uncertain",
    "grad_norm": "the L2 norm of all gradients together, before they are clipped",
}
GUESSED = {  # a task: what the guesses of a report are
    "fill-mask": "A masked word in held-out sentences, those where the teacher is most certain",
    "text-classification": "The classes of held-out texts, the first that fit on a line",
}
TRIALS = {  # a task: the command that tries a model of it on an example
    "fill-mask": ("fill-mask", "the movie was [MASK]."),
    "text-classification": ("predict", "a waste of two good hours"),
    "token-classification": ("predict", "Marie Curie was born in Warsaw."),
    "text-generation": ("generate", "The meaning of life is"),
}


def too_few(found: dict) -> str:
    """A warning where a comparison of students has too few steps; "" elsewhere."""
    if "models" not in found or found["step"] >= FEW:
        return ""
    return (
        f"{counted(found['step'], 'step')} a student: the table means nothing below {FEW}, where "
        f"students have hardly moved from their start; give more --steps or --minutes"
    )


def meanings(found: dict) -> list[tuple[str, str]]:
    """[(term, its meaning)] of the losses and measures that a run's report.json holds."""
    held_out = [found.get("evaluation", {}), *found.get("models", [])]
    numbers = (name for name, value in found.items() if not isinstance(value, dict))
    names = dict.fromkeys([*numbers, *(name for some in held_out for name in some)])
    return [(name, MEANINGS[name]) for name in MEANINGS if name in names]


def next_commands(found: dict) -> list[str]:
    """Commands to try on the model of a run that has ended, the first one first."""
    folder = shlex.quote(found["out"])
    commands = []
    if found.get("task") in TRIALS:
        command, text = TRIALS[found["task"]]
        commands.append(f'minidistil {command} {folder} "{text}"')
    commands.append(f"minidistil info {folder}")
    if "models" in found:
        commands.append(f"minidistil quantize {folder} --out {folder}-int8")
    return commands


def glossary(terms: list[tuple[str, str]]) -> str:
    """Terms and their meanings as HTML."""
    lines = [f"<dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd>" for a, b in terms]
    return f"<dl>{''.join(lines)}</dl>" if lines else ""


def options_table(options: dict) -> str:
    """The options among them that were on the command line, as HTML; "" without any."""
    given = {name: options[name] for name in options.get("given", ())}
    return f"<h2>Options given</h2>{html_table(('', ''), flat(given))}" if given else ""


def html_table(header, rows, kind: str = "") -> str:
    """An HTML table; every cell is escaped. kind: its class."""
    lines = [("th", header), *(("td", row) for row in rows)]
    cells = ("".join(f"<{tag}>{html.escape(str(x))}</{tag}>" for x in row) for tag, row in lines)
    kind = f' class="{kind}"' if kind else ""
    return f"<table{kind}>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def flat(values: dict, prefix: str = "") -> list[tuple[str, str]]:
    """Nested dictionaries as (dotted name, value) rows."""
    rows = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{name}.")
        else:
            shown = f"{value:.5g}" if isinstance(value, float) else json.dumps(value)
            rows.append((prefix + name, shown))
    return rows


def commands_to_try(commands: list[str]) -> str:
    """Commands as HTML."""
    lines = html.escape("\n".join(commands))
    return f"<h2>Next</h2><pre>{lines}</pre>"
