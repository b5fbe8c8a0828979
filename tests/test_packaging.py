"""What an installation finds and leaves: the built package, as pip would unpack it."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])('out'))"
KERNEL = ("import numpy as np; from minidistil.ops import relu; "
          "print(relu.forward_cpu(np.ones((2, 3), 'f'))[0].sum())")  # fmt: skip
IMPORT = "import minidistil; print(minidistil.__file__)"


def backend_is_there():
    """Whether the build backend that pyproject.toml asks for can be imported without a network."""
    try:
        return int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not backend_is_there(), reason="no setuptools>=77")


def ran(*argv, cwd, **env):
    """stdout of Python in a folder, without this checkout on its path."""
    kept = {k: x for k, x in os.environ.items() if k not in ("PYTHONPATH", "NUMBA_CACHE_DIR")}
    done = subprocess.run(
        [sys.executable, *argv], cwd=cwd, env=kept | env, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder named as a clone is, with all that a build needs."""
    clone = tmp_path_factory.mktemp("holds") / "minidistil"
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("minidistil", "weights"):
        shutil.copytree(HOUSE / name, clone / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HOUSE / name, clone)
    (clone / "out").mkdir()
    return clone


def unpacked(clone, hook, site):
    """The files of a wheel that a hook of the build backend makes, in a folder."""
    name = ran("-c", BUILD, hook, cwd=clone).splitlines()[-1]
    with zipfile.ZipFile(clone / "out" / name) as wheel:
        wheel.extractall(site)
        return {site / file for file in wheel.namelist()}


def test_an_editable_install_is_found_from_the_folder_that_holds_the_clone(clone, tmp_path):
    """Python takes a folder without __init__.py for a package where no path entry has a better
    one; an import hook, setuptools' default, is asked after all path entries."""
    unpacked(clone, "build_editable", tmp_path)
    script = f"import site; site.addsitedir({str(tmp_path)!r}); {IMPORT}"
    for place in (clone.parent, clone, tmp_path):
        found = ran("-S", "-c", _with_packages(script), cwd=place)
        assert Path(found.strip()) == clone / "minidistil" / "__init__.py"


def _with_packages(script):
    """The script in a Python without the .pth files of this environment: -S and its folders."""
    folders = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    return f"import sys; sys.path += {folders!r}; {script}"


def test_nothing_is_left_in_an_installation_but_what_was_installed(clone, tmp_path):
    """Uninstalling removes the files that were installed, and the .pyc files of them."""
    site, cache = tmp_path / "site", tmp_path / "cache"
    installed = unpacked(clone, "build_wheel", site)
    pages = {site / path.relative_to(HOUSE) for path in (HOUSE / "minidistil/pages").iterdir()}
    assert pages and pages <= installed, "the parts of HTML pages are installed"
    env = {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(cache), "HOME": str(tmp_path / "home")}
    assert ran("-c", KERNEL, cwd=tmp_path, **env) == "6.0\n"
    assert str(site) in ran("-c", IMPORT, cwd=tmp_path, **env)
    left = {path for path in site.rglob("*") if path.is_file()} - installed
    assert [p for p in left if p.suffix != ".pyc" or p.parent.name != "__pycache__"] == []
    assert list(tmp_path.glob("**/*relu*.kernel")), "the kernel is in the user's cache folder"
