"""Where in a folder of sentence-transformers its parts lie: as modules.json says.

    modules.json  [{"path": "", "type": "….Transformer"}, {"path": "1_Pooling", "type": …}, …]

The first part is the model. Since version 2.0 it lies in the folder itself, before in a folder
within, 0_Transformer.
"""

from pathlib import Path
from typing import NamedTuple

from minidistil.io.files import read_settings

MODULES = "modules.json"


class Module(NamedTuple):
    """A part of a folder, which the parts before it feed."""

    kind: str  # the last word of its class
    path: Path


def modules_of(folder):
    """The modules of a folder, in their order. Raises ValueError for a file of another kind."""
    folder, found = Path(folder), []
    for module in read_settings(folder / MODULES, list):
        kind = module.get("type") if isinstance(module, dict) else None
        path = module.get("path", "") if isinstance(module, dict) else None
        if not isinstance(kind, str) or not isinstance(path, str) or Path(path).name != path:
            raise ValueError(
                f"{folder / MODULES} must list modules with a type and the name of a folder"
            )
        found.append(Module(kind.rpartition(".")[2], folder / path))
    return found


def body_of(folder):
    """The folder within that holds the model's config.json; the folder itself where none does."""
    folder = Path(folder)
    modules = modules_of(folder) if (folder / MODULES).is_file() else []
    within = modules and (modules[0].path / "config.json").is_file()
    return modules[0].path if within else folder


def modules_around(body):
    """The folder with the modules.json whose model lies in body; None without any."""
    body = Path(body)
    for folder in (body, body.parent):
        if (folder / MODULES).is_file() and body_of(folder) == body:
            return folder
    return None
