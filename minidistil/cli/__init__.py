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
from minidistil.io.console import one_line

COMMANDS = {
    "distill": "a small student learns from a teacher (the main job)",
    "pretrain": "train a BERT from scratch on text",
    "finetune": "train a model on further text, or on labelled text",
    "evaluate": "measure a model on text it was not trained on",
    "quantize": "store a model as int8, a quarter of the size",
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
    "bench": "speed on this machine, compared with PyTorch, ONNX Runtime and NumPy",
    "warmup": "compile the kernels ahead of time",
}
BAD_INPUT, INTERRUPTED = 2, 130


def main(argv=None):
    """Run one command; returns the exit code: 0 only on success, 2 for bad input, 130 for Ctrl-C,
    1 for what fails later, such as a loss that becomes NaN."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
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
            return _answer(parser, argv[1:])
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError) as error:
        return _say(error, BAD_INPUT)
    except FloatingPointError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)


def _answer(parser, argv):
    from minidistil.cli.run_options import parse, settings_of
    from minidistil.io.files import to_json

    args = parse(parser, argv)
    with settings_of(args):
        answer = args.run(args)
    said = args.json and answer.data is not None
    text = to_json(answer.data).rstrip() if said else answer.text
    if text:  # a path or a text may hold characters that stdout's encoding lacks
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding))
    return answer.code


def _say(error, code):
    print(one_line(f"error: {str(error) or type(error).__name__}"), file=sys.stderr)
    return code


def _show(message, category, filename, lineno, file=None, line=None):
    print(one_line(f"warning: {message}"), file=sys.stderr)


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
