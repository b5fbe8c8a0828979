"""What check's report.html says beside its numbers: the columns, the options, what to run next."""

import html
import shlex

from minidistil.cli.report_words import commands_to_try, glossary, options_table

COLUMNS = [
    ("quantity", "what is computed, in the order of the computation: a value of the forward pass, "
     "a loss, or the gradient of a parameter"),
    ("error", "the root mean square of the difference from the reference in float64, relative to "
     "the quantity's own"),
    ("float32", "the same error of the reference in float32: what rounding explains"),
    ("differs", "the error is more than rounding explains"),
    ("where", "the file and line of the implementation that computes it"),
]  # fmt: skip


def page(args, report) -> str:
    """The body of the page: the report, with the terms in a line each."""
    against = args.against or args.against_trace or "transformers' own model"
    first = (
        f"{against} and the reference compute the same batch from the weights of {args.model}. The "
        f"map's colour says where an error is more than float32 explains; the first difference is "
        f"framed."
    )
    return "\n".join([
        f"<p>{html.escape(first)}</p>", report.html(), "<h2>The columns</h2>", glossary(COLUMNS),
        options_table(vars(args)), commands_to_try(_next(args, report)),
    ])  # fmt: skip


def _next(args, report):
    """Commands that follow: the same one after the mistake is corrected, or what is unchecked."""
    command = f"minidistil check {shlex.quote(args.model)}"
    named = {
        "--against": args.against, "--against-trace": args.against_trace, "--inputs": args.inputs,
        "--text": args.text, "--target": args.target, "--image": args.image, "--data": args.data,
    }  # fmt: skip
    again = "".join(
        f" {name} {shlex.join([x] if isinstance(x, str) else x)}" for name, x in named.items() if x
    )
    if report.verdict == "differ":
        return [f"{command}{again}"]
    unchecked = {"--against my_bert.py:build": args.against or args.against_trace,
                 "--loss my_loss.py:loss": args.loss,
                 "--optimizer my_adamw.py:make": args.optimizer}  # fmt: skip
    return [f"{command} {option}" for option, given in unchecked.items() if not given] or [command]
