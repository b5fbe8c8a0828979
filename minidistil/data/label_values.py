"""Labels as they stand in files, and their conversion to class numbers, 0/1 rows or floats.

single_label_classification   a name: a text, a number or a truth value
multi_label_classification    names: a list, or a text with commas between them ("" has none); or,
                              where every example has one, a row of 0 and 1 for the K classes
regression                    a finite number that float32 holds

null, NaN, "" and "-" mean that there is no label, as does −1 beside numbers from 0 on (GLUE and
SNLI). −1 beside 1 alone is a class. A list or an object is not a label of one class.
"""

import math
import re
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from minidistil.data.sources import half
from minidistil.io import limits
from minidistil.io.counts import part_of

SINGLE = "single_label_classification"
MULTI = "multi_label_classification"
REGRESSION = "regression"
PROBLEMS = (SINGLE, MULTI, REGRESSION)
MISSING = ("", "-", "nan", "null")  # texts that mean "no label"
HOT = {"0", "1", "True", "False"}  # the values of a row of 0 and 1
LARGEST = float(np.finfo(np.float32).max)
BY_DEFAULT = re.compile(r"LABEL_\d+")  # transformers' name of an unnamed class


def label_names(labels: Sequence, problem_type: str = SINGLE) -> tuple[str, ...]:
    """The different labels as str: by value when all are whole numbers, else by spelling."""
    if K := hot_classes(labels, problem_type):
        return tuple(map(str, range(K)))
    names = {name for i, label in enumerate(labels) for name in _given(i, label, problem_type)}
    try:
        return tuple(sorted(names, key=int))
    except ValueError:
        return tuple(sorted(names))


def label_numbers(labels: Sequence, problem_type: str, names: Sequence[str]) -> np.ndarray:
    """Labels  ->  classes (B,) int64, 0 and 1 (B,K) float32, or numbers (B,) float32.

    Raises ValueError for a missing or invalid label, and for one that is not among the names. Where
    the names are words and the labels numbers, the numbers are positions among the names, with a
    warning.
    """
    check_labelled(labels, problem_type, names)
    if problem_type == REGRESSION:
        return np.array([number_of(i, label) for i, label in enumerate(labels)], np.float32)
    if K := hot_classes(labels, problem_type):
        return _hot(labels, K, names)
    given = [_given(i, label, problem_type) for i, label in enumerate(labels)]
    numbers = class_numbers({name for some in given for name in some}, names)
    found = [[_index(i, name, numbers, names) for name in some] for i, some in enumerate(given)]
    if problem_type == SINGLE:
        return np.array([k for (k,) in found], np.int64)
    hot = np.zeros((len(labels), len(names)), np.float32)
    for i, ks in enumerate(found):
        hot[i, ks] = 1
    return hot


def number_of(i: int, label) -> float:
    """Example i's label as a number. Raises ValueError for one that float32 does not hold."""
    try:
        value = float(label)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not abs(value) <= LARGEST:
        raise ValueError(
            f"example {i}: regression needs a finite number as label, within ±{LARGEST:.4g}, not "
            f"{limits.short(label)}; --skip-unlabelled leaves out those without a label"
        )
    return value


def class_numbers(given: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    """given: the labels of the data; names: a model's classes  ->  {label: class number}.

    Where no class name is a number, labels that are numbers are positions among the names, with a
    warning where the names are words. Raises ValueError for two equal names.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"two classes are called {twice!r}; give each a name of its own")
    numbers = {name: k for k, name in enumerate(names)}
    if any(map(_whole, names)):
        return numbers
    placed = {x for x in given if _whole(x) and int(x) < len(names)}
    if placed and are_words(names):
        warn_of_positions(placed, names)
    return numbers | {x: int(x) for x in placed}


def are_words(names: Sequence[str] | None) -> bool:
    """Whether a model's classes have names other than numbers and transformers' defaults."""
    return bool(names) and not any(_whole(n) or BY_DEFAULT.fullmatch(str(n)) for n in names)


def warn_of_positions(numbers: Iterable[str], names: Sequence[str]) -> None:
    """Warn that these labels, numbers as str, are read as positions among the names."""
    read = [f"{k} as {names[int(k)]}" for k in sorted(numbers, key=int)]
    warnings.warn(
        f"labels are numbers where the model's classes are words: {limits.few(read, 5)}; if they "
        f"count in another order, write the names", stacklevel=5,
    )  # fmt: skip


# ------------------------------------------------------- examples without a label


def unlabelled(
    labels: Sequence, problem_type: str = SINGLE, names: Sequence[str] = ()
) -> list[bool]:
    """For each label whether it is missing; names: a model's classes, among which −1 may be."""
    none = [_is_missing(label, problem_type) for label in labels]
    if problem_type != SINGLE or "-1" in names:
        return none
    others = {_name(x) for x, no in zip(labels, none, strict=True) if not no} - {"-1"}
    if others == {"1"} or not all(map(_whole, others)):
        return none
    return [no or _name(x) == "-1" for x, no in zip(labels, none, strict=True)]


def check_labelled(labels: Sequence, problem_type: str, names: Sequence[str] = ()) -> None:
    """Raise ValueError if examples have no label, with the first one and their number."""
    none = np.flatnonzero(unlabelled(labels, problem_type, names))
    if not len(none):
        return
    first = labels[none[0]]
    if problem_type == REGRESSION and first is not None:
        number_of(none[0], first)
    out = "" if len(none) == len(labels) else ", or leave these out with --skip-unlabelled"
    some = part_of(len(none), len(labels), "example", "has")
    raise ValueError(
        f"example {none[0]} has no label but {limits.short(first)}, as {some}; name the "
        f"column that holds the labels{out}"
    )


def keep_labelled(
    examples: Sequence[tuple], problem_type: str = SINGLE, names: Sequence[str] = ()
) -> list[tuple]:
    """The examples (…, label) that have a label; a warning counts the others.

    Raises ValueError where none is left.
    """
    none = unlabelled([label for *_, label in examples], problem_type, names)
    kept = [example for example, no in zip(examples, none, strict=True) if not no]
    warn_of_left_out(len(examples) - len(kept), len(examples))
    return kept


def warn_of_left_out(count: int, of: int) -> None:
    """Warn that examples are left out. Raises ValueError where all are."""
    if count == of:
        raise ValueError(f"none of {of:,} examples has a label; name the column that holds them")
    if count:
        some = part_of(count, of, "example", "has")
        warnings.warn(f"{some} no label; left out", stacklevel=4)


def _is_missing(label, problem_type):
    if isinstance(label, str):
        text = label.strip().lower()
        return text in MISSING and not (text == "" and problem_type == MULTI)
    return label is None or (isinstance(label, float | np.floating) and math.isnan(label))


# ------------------------------------------------------- names in a label


def hot_classes(labels: Sequence, problem_type: str) -> int:
    """K where every label is a row of 0 and 1 for K > 1 classes, else 0."""
    if problem_type != MULTI or not len(labels):
        return 0
    rows = [_parts(label) for label in labels]
    if not all(isinstance(row, list) and {_name(x) for x in row} <= HOT for row in rows):
        return 0
    lengths = set(map(len, rows))
    return lengths.pop() if len(lengths) == 1 and min(lengths) > 1 else 0


def _hot(labels, K, names):
    if len(names) != K:
        raise ValueError(
            f"labels are rows of {K} numbers, 0 or 1, where there are {len(names)} classes: "
            f"{limits.few(names)}; a row has a number for each"
        )
    if are_words(names):
        warn_of_positions(map(str, range(K)), names)
    return np.array([[_name(x) in ("1", "True") for x in _parts(y)] for y in labels], np.float32)


def _given(i, label, problem_type):
    """Example i's label  ->  the names of its classes."""
    parts = _parts(label)
    if problem_type == SINGLE:
        if _is_missing(label, SINGLE):
            raise ValueError(f"example {i} has no label; name the column that holds the labels")
        if not isinstance(label, str | bool | int | float | np.generic) or isinstance(parts, dict):
            raise ValueError(_no_name(i, label))
        if isinstance(parts, list) and label.lstrip().startswith("["):
            raise ValueError(_no_name(i, label))
        return [_checked(i, _name(label))]
    if not isinstance(parts, list):
        raise ValueError(
            f"example {i}: several labels must be a list or 'a,b', not {limits.short(label)}"
        )
    if any(isinstance(part, list | dict) or _is_missing(part, MULTI) for part in parts):
        raise ValueError(
            f"example {i}: {limits.short(label)} holds a value that names no class; remove it"
        )
    names = [_checked(i, name) for part in parts if (name := _name(part))]
    if len(set(names)) < len(names):
        raise ValueError(
            f"example {i}: {limits.short(label)} names a class twice; where labels are rows of 0 "
            f"and 1, each example must have one, with a number for every class"
        )
    if "-1" in names and all(_whole(name) for name in set(names) - {"-1"}):
        raise ValueError(f"example {i}: {limits.short(label)} holds -1, which is no class")
    return names


def _parts(label):
    """The parts of a label of several classes; the label itself where it is not a list."""
    if isinstance(label, np.ndarray):
        return label.tolist()
    if not isinstance(label, str):
        return list(label) if isinstance(label, tuple) else label
    if label.strip()[:1] in ("[", "{"):
        try:
            return limits.json_of(label)
        except ValueError:
            return None
    return [part.strip() for part in label.split(",")]


def _name(x):
    """A class's name as str; 1.0 of JSON equals the 1 of a table."""
    x = x.item() if isinstance(x, np.generic) else x
    whole = isinstance(x, float) and math.isfinite(x) and x == int(x)
    return str(int(x) if whole else x).strip()


def _whole(name):
    return str(name).isdecimal()


def _checked(i, name):
    if half(name):
        raise ValueError(f"example {i}: the label holds half of a surrogate pair, which is no text")
    return name


def _no_name(i, label):
    return (
        f"example {i}: a label is a name or a number, not {limits.short(label)}; for several "
        f"classes a text give --problem-type {MULTI}"
    )


def _index(i, name, numbers, names):
    if name not in numbers:
        raise ValueError(
            f"example {i} has the label {limits.short(name)}, which is none of "
            f"{limits.few(names)}; remove it or give all names"
        )
    return numbers[name]
