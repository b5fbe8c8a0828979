"""Layout of a sentence-transformers folder: modules.json lists its modules and their folders.

    modules.json  [{"path": "", "type": "….Transformer"}, {"path": "1_Pooling", "type": …}, …]

The first module is the model. Its files are in the folder itself since version 2.0, and in the
subfolder 0_Transformer before.
"""

from pathlib import Path
from typing import NamedTuple

from minidistil.io.files import read_settings

MODULES = "modules.json"


class Module(NamedTuple):
    """One entry of modules.json. Its input is the output of the entry before it."""

    kind: str  # the last part of its class' name
    path: Path


def modules_of(folder: str | Path) -> list[Module]:
    """The modules of a folder, in their order. Raises ValueError where modules.json is no list of
    modules."""
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


def body_of(folder: str | Path) -> Path:
    """The folder of the model's config.json: the first module's, or `folder` without modules."""
    folder = Path(folder)
    modules = modules_of(folder) if (folder / MODULES).is_file() else []
    found = modules and (modules[0].path / "config.json").is_file()
    return modules[0].path if found else folder


def modules_around(body: str | Path) -> Path | None:
    """The folder whose modules.json names `body` as the model's folder; None without one."""
    body = Path(body)
    for folder in (body, body.parent):
        if (folder / MODULES).is_file() and body_of(folder) == body:
            return folder
    return None
