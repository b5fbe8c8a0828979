"""HTML pages of the commands: each one file without references to others, in light and dark.

`minidistil/pages/` holds the parts: page.html around every page and its base.css, and for an
interactive page NAME.html, NAME.css and its scripts. Its data are JSON inside the page; scripts
show texts through `textContent`, so that a token such as <b> remains text.
"""

import html
import json
from pathlib import Path
from string import Template
from typing import Any

from minidistil.io import files

PARTS = Path(__file__).resolve().parent.parent / "pages"


def part(name: str) -> str:
    """The text of a file in minidistil/pages/."""
    return (PARTS / name).read_text(encoding="utf-8")


PAGE = Template(Template(part("page.html")).safe_substitute(style=part("base.css")))
BEGIN = PAGE.template.partition("$")[0]
INTERACTIVE = Template("""<style>
$style</style>
$body
<script type="application/json" id="data">$data</script>
<script>
$script</script>""")


def is_page(path: str | Path, title: str = "") -> bool:
    """Whether a file begins as PAGE does with a title that begins so."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(len(BEGIN + title)) == BEGIN + title


def page(title: str, body: str) -> bytes:
    """A page with this title and body, as a UTF-8 file holds it."""
    whole = PAGE.substitute(title=html.escape(title), body=body)
    return whole.encode("utf-8", "backslashreplace")  # a path may hold bytes that are no text


def interactive(title: str, name: str, data: Any, scripts: tuple[str, ...]) -> bytes:
    """A page whose scripts, files of minidistil/pages/, show data; NAME.html and NAME.css of it."""
    body = INTERACTIVE.substitute(
        style=part(f"{name}.css"), body=part(f"{name}.html"), data=embedded(data),
        script="\n".join(map(part, scripts)),
    )  # fmt: skip
    return page(title, body)


def embedded(data: Any) -> str:
    """JSON that cannot end the script element around it: it holds no <."""
    compact = json.dumps(files.jsonable(data), separators=(",", ":"), allow_nan=False)
    return compact.replace("<", "\\u003c")
