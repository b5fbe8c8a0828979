"""The command line: `minidistil COMMAND …`, also `python -m minidistil COMMAND …`.

A command is a module with a docstring, EXAMPLE (arguments that work), `add_options(parser)` and
`run(args) -> Answer`. It is imported only when asked for, so that `--help` is quick.
"""

import argparse
import importlib
import os
import sys
import warnings

from minidistil import __version__
from minidistil.cli.command_parser import Parser, meaning
from minidistil.cli.rank_process import (
    BAD_INPUT,
    INTERRUPTED,
    name_of_rank,
    run_as_rank,
    stagger,
)
from minidistil.io.console import one_line
from minidistil.io.ranks import launched, world

COMMANDS = {
    "distill": "a small student learns from a teacher (the main job)",
    "pretrain": "train a BERT from scratch on text",
    "finetune": "train a model on further text, or on labelled text",
    "evaluate": "measure a model on text it was not trained on",
    "quantize": "store a model as int8, a quarter of the size",
    "prune-vocabulary": "keep only the word vectors that some texts use",
    "reproduce": "run a row of the results again, from its data to its table",
    "augment": "more labelled texts: some words replaced by probable others",
    "predict": "classify texts, fill their masks or give their vectors",
    "search": "the items of a file or folder that are closest in meaning to a query",
    "fill-mask": "the most probable words for [MASK]",
    "generate": "continue a text, word by word",
    "compare": "what two models say at each word of a text, as a page with sliders",
    "info": "config and parameter table of a model, or of two side by side",
    "check": "where a PyTorch implementation differs from a model, and why",
    "trace": "write every intermediate value and gradient of a model on a text",
    "report": "write a run's report.html again",
    "plan": "time, memory, network and energy of a distillation on several machines",
    "bench": "speed on this machine, compared with PyTorch, ONNX Runtime and NumPy",
    "warmup": "compile the kernels ahead of time",
}


def main(argv=None):
    """Run one command; returns the exit code: 0 only on success, 2 for bad input, 130 for Ctrl-C,
    1 for what fails later, such as a loss that becomes NaN."""
    place = launched() if argv is None else None
    argv = list(sys.argv[1:] if argv is None else argv)
    return run_as_rank(place, lambda: _run(argv)) if place else _run(argv)


def _run(argv):
    try:
        world()  # a launcher stops the other ranks when one fails that is connected
        if not argv or argv[0] in ("-h", "--help"):
            print(overview())
            return 0 if argv else BAD_INPUT
        if argv[0] in ("-V", "--version"):
            print(f"minidistil {__version__}")
            return 0
        if argv[0] not in COMMANDS:
            choose = meaning(argv[0], COMMANDS) or f"choose {', '.join(COMMANDS)}"
            raise ValueError(f"there is no command {argv[0]!r}; {choose}")
        parser = parser_of(argv[0])
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = _show
            answer, args = _answer(parser, argv[1:])
            return _print(answer, args.json)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError) as error:
        return _say(error, BAD_INPUT)
    except FloatingPointError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)


def answer_of(argv):
    """The Answer of a command in this process. Raises what the command raises."""
    return _answer(parser_of(argv[0]), argv[1:])[0]


def _answer(parser, argv):
    """The Answer of a command, and its parsed options."""
    from minidistil.cli.run_options import parse, settings_of

    args = parse(parser, argv)
    with settings_of(args):
        return args.run(args), args


def _print(answer, as_json):
    """Prints an Answer, under MPI on rank 0 alone, and returns its exit code."""
    from minidistil.io.files import to_json

    text = to_json(answer.data).rstrip() if as_json and answer.data is not None else answer.text
    if text and not _rank():  # a path or a text may hold characters that stdout's encoding lacks
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding))
    return answer.code


def _say(error, code):
    where = f"{name_of_rank(*place)}: " if (place := launched()) else ""
    stagger(_rank())
    print(one_line(f"error: {where}{str(error) or type(error).__name__}"), file=sys.stderr)
    return code


def _show(message, category, filename, lineno, file=None, line=None):
    if not _rank():
        print(one_line(f"warning: {message}"), file=sys.stderr)


def _rank():
    """This process's rank; 0 for one that is alone."""
    return (launched() or (0,))[0]


def overview():
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        ["usage: minidistil COMMAND [options]", "       minidistil --version", "", *lines, "",
         "`minidistil COMMAND --help` lists the options and shows an example."]
    )  # fmt: skip


def parser_of(name):
    """The argparse parser of a command."""
    module = importlib.import_module(f"minidistil.cli.{name.replace('-', '_')}")
    parser = Parser(
        prog=f"minidistil {name}",
        description=module.__doc__,
        epilog=f"example:\n  minidistil {name} {module.EXAMPLE}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=module.run)
    return parser
