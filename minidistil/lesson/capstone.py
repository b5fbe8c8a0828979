"""The learner's own `my_distilbert.py`: `minidistil/distilbert.py` with blanks, filled chapter by
chapter.

    lesson.start()        # writes the file, unless it is there
    lesson.check(3)       # grades the functions of chapter 3 in it
    lesson.fill(3)        # writes the solutions into the blanks of chapter 3
    lesson.fill("gelu")   # replaces one function by its solution

The text comes from `minidistil/distilbert.py` at run time. All other lines of the file are the
learner's, and stay as they are.
"""

import ast
import inspect
from pathlib import Path

from minidistil import distilbert
from minidistil.io import files
from minidistil.io.counts import counted

FILE = "my_distilbert.py"
PIECES = {  # chapter: the functions that it fills in
    1: ("log_softmax",),
    2: ("dropout", "dropout_backward"),
    3: ("linear", "linear_backward", "gelu", "gelu_backward"),
    4: ("layernorm", "layernorm_backward"),
    5: ("softmax", "softmax_backward", "attention_scores", "attention_weights", "attention",
        "attention_backward"),
    6: ("block", "block_backward"),
    7: ("embedding", "embedding_backward"),
    8: ("kl_divergence", "cross_entropy", "cosine"),
    9: ("adamw", "distill_step"),
}  # fmt: skip
CHAPTER = {name: chapter for chapter, names in PIECES.items() for name in names}


class OwnFileError(ValueError):
    """The learner's file is missing, is no Python, or lacks a function."""


INTRODUCTION = '''"""My own DistilBERT: the model, its gradients, and distillation. NumPy only.

The functions whose body is `...` are to be written, each in the chapter that stands beside it.
`lesson.check(chapter)` grades them, `lesson.hint("block")` lists the common mistakes in one, and
`lesson.fill(chapter)` writes the solutions. Other lines may be changed and added. `softmax`,
`attention_scores` and `attention_weights` are parts of an op: they return the array alone.

'''


def start(path: str | Path = FILE) -> None:
    """Write the learner's file with its blanks; a file that exists is left as it is."""
    path = Path(path)
    if path.exists():
        print(f"{path} is there already, and stays as it is")
        return
    with files.writing(path, "w") as file:
        file.write(blanks())
    print(f"{path} is written: {counted(len(CHAPTER), 'function')} of it will be yours")


def blanks() -> str:
    """The text of `minidistil/distilbert.py` with an introduction; its pieces have no body."""
    text = inspect.getsource(distilbert)
    lines = text.splitlines(keepends=True)
    for name, node in reversed(functions(text).items()):  # from the end: line numbers stay right
        if name in CHAPTER:
            first = node.body[bool(ast.get_docstring(node))].lineno
            lines[first - 1 : node.end_lineno] = [f"    ...  # chapter {CHAPTER[name]}\n"]
    text = "".join(lines)
    letters = text.index("    B batch")  # the rest of the docstring is the file's, too
    text = INTRODUCTION + text[letters:]
    return text.replace("python -m minidistil.distilbert ", f"python {FILE} ")


def fill(piece: int | str, path: str | Path = FILE) -> None:
    """Write solutions into the learner's file: those of a chapter's blanks, or that of one function
    by its name, whatever stands there. Raises OwnFileError if the file has no such function."""
    names = PIECES.get(piece, (piece,))
    if not set(names) <= set(CHAPTER):
        known = f"a chapter from 1 to {max(PIECES)} or one of {', '.join(CHAPTER)}"
        raise ValueError(f"piece must be {known}, not {piece!r}")
    text, filled = read(path), []
    for name in names:
        node = function(text, name, path)
        if isinstance(piece, str) or is_blank(node):
            lines = text.splitlines(keepends=True)
            lines[node.lineno - 1 : node.end_lineno] = inspect.getsource(getattr(distilbert, name))
            text = "".join(lines)
            filled.append(name)
    with files.writing(path, "w") as file:
        file.write(text)
    print(f"filled in {path}: {', '.join(filled) or 'nothing, the chapter has no blank'}")


def read(path: str | Path) -> str:
    """The text of the learner's file. Raises OwnFileError where there is none, or no Python."""
    path = Path(path)
    if not path.is_file():
        raise OwnFileError(f"there is no {path} here: lesson.start() writes it")
    text = path.read_text(encoding="utf-8")
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise OwnFileError(f"{path}, line {error.lineno}: {error.msg}") from None
    return text


def functions(text: str) -> dict[str, ast.FunctionDef]:
    """{name: syntax tree} of a file's functions."""
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def function(text: str, name: str, path: str | Path) -> ast.FunctionDef:
    """The syntax tree of one function. Raises OwnFileError if it is not there."""
    if name not in (known := functions(text)):
        signature = inspect.signature(getattr(distilbert, name))
        raise OwnFileError(f"{path} has no function {name}: add `def {name}{signature}:`")
    return known[name]


def is_blank(node: ast.FunctionDef) -> bool:
    """Whether a function has no statement but a docstring, `...` and pass."""
    return all(
        isinstance(line, ast.Pass)
        or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in node.body
    )
