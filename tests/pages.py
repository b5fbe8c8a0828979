"""Executes the chapters and compares the text that they print with the stored pages.

    python tests/pages.py             # compares, as CI does
    python tests/pages.py --write     # makes the pages
    python tests/pages.py 05 09       # these chapters alone

A chapter runs in a folder of its own with the blanks of my_distilbert.py, which chapter 1 writes.
Words have to be equal. A number may differ as far as another processor makes it: whole numbers not
at all, others by a hundredth or by two of their last digit, rounding errors by any factor. What a
cell measures is marked in it: `# measured here` leaves its numbers out of the comparison,
`# of this machine` its whole output. `.ci/pages.txt` has the versions of what this needs.
"""

import argparse
import json
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
NUMBER = re.compile(r"(?<![\w.])[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?")
MEASURED, MACHINE = "# measured here", "# of this machine"
CLOSE = 0.01  # relative, of numbers with a decimal point
ROUNDING = 1e-5  # a smaller number in exponent form is an error of rounding


def execute(script):
    """A script's page, a notebook with the outputs of all its cells."""
    import jupytext
    from nbclient import NotebookClient

    from minidistil.lesson import capstone

    page = jupytext.read(script)
    page.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    for i, cell in enumerate(page.cells):
        cell.id = f"cell-{i}"  # the same each time
    with tempfile.TemporaryDirectory() as folder:
        if not script.name.startswith("01"):
            (Path(folder) / capstone.FILE).write_text(capstone.blanks(), encoding="utf-8")
        where = {"metadata": {"path": folder}}
        options = {"timeout": None, "record_timing": False, "coalesce_streams": True}
        NotebookClient(page, resources=where, **options).execute()
    page.metadata.pop("language_info", None)
    return page


def write(page, script):
    """Store a page beside its script."""
    import nbformat

    nbformat.write(page, script.with_suffix(".ipynb"))


def text_of(cell):
    """What a cell printed or returned; a picture leaves the text that stands for it."""
    printed = ""
    for output in cell.get("outputs", []):
        printed += "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
        if output["output_type"] == "error" or output.get("name") == "stderr":
            printed += f"\n{output.get('ename', 'stderr')} {output.get('evalue', '')}"
    return printed


def differences(mine, stored):
    """Descriptions of the cells whose text differs, of two pages."""
    if len(mine) != len(stored):
        yield f"{len(mine)} cells, stored are {len(stored)}: python tests/pages.py --write"
    for number, (a, b) in enumerate(zip(mine, stored, strict=False), 1):
        source = "".join(a["source"])
        if source != "".join(b["source"]):
            yield f"cell {number} is another one: python tests/pages.py --write"
        elif MACHINE not in source:
            found = difference(text_of(a), text_of(b), measured=MEASURED in source)
            if found:
                yield f"cell {number}: {found}"


def difference(mine, stored, measured=False):
    """How one text differs from another, "" if it does not but in its numbers' last digits."""
    lines = (text.strip().splitlines() for text in (mine, stored))
    for line, (a, b) in enumerate(zip_longest(*lines, fillvalue=""), 1):
        # Spaces align numbers, whose lengths differ.
        words = ["".join(NUMBER.sub("#", text).split()) for text in (a, b)]
        if words[0] != words[1]:
            return f"line {line} is {a!r}, stored is {b!r}"
        for x, y in zip(*(NUMBER.findall(text) for text in (a, b)), strict=True):
            if not measured and not close(x, y):
                return f"line {line} has {x}, stored is {y}"
    return ""


def close(a, b):
    """Whether two printed numbers are equal but for rounding."""
    x, y = value(a), value(b)
    if "e-" in a and "e-" in b and max(abs(x), abs(y)) < ROUNDING:
        return True
    whole = not re.search("[.e%]", a + b)
    return x == y if whole else abs(x - y) <= max(CLOSE * abs(y), 2.001 * max(map(digit, (a, b))))


def value(text):
    return float(text.rstrip("%").replace(",", "").replace("−", "-"))


def digit(text):
    """The size of a number's last digit: 0.01 for 3.14, 1e-9 for 1.5e-8."""
    mantissa, _, exponent = text.rstrip("%").partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="beginnings of their names, such as 05")
    parser.add_argument("--write", action="store_true", help="store the pages")
    options = parser.parse_args()
    scripts = sorted(NOTEBOOKS.glob("[0-9a]*.py"))
    chosen = [s for s in scripts if s.name.startswith(tuple(options.chapters or ("",)))]
    if options.write:
        for script in chosen:  # alone on the machine: some cells measure
            write(execute(script), script)
            print(f"{script.stem}: written", flush=True)
        return 0
    failed = 0
    with ThreadPoolExecutor(2) as pool:
        for script, found in zip(chosen, pool.map(compared, chosen), strict=True):
            failed += bool(found)
            print(f"{script.stem}: {'; '.join(found) or 'as stored'}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return int(failed > 0)


def compared(script):
    """The differences of a script's outputs from those of its stored page."""
    stored = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    return list(differences(execute(script).cells, stored["cells"]))


if __name__ == "__main__":
    sys.exit(main())
