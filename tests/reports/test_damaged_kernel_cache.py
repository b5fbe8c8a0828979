"""Reports of compiled kernels on disk: damaged, out of date, and folders that take none."""

import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidistil
from minidistil.ops.runtime import kernel_cache
from minidistil.ops.runtime.cpu import compilations

KERNEL = '''"""A kernel."""
from minidistil.ops.runtime.cpu import serial


@serial
def total(x):
    y = x[0]
    for i in range(1, len(x)):
        y += x[i]
    return y
'''
X = np.arange(5, dtype=np.float32)


class World:
    """A kernel in a file of its own, and folders for it."""

    def __init__(self, folder):
        self.file = folder / "minidistil_total.py"
        self.file.write_text(KERNEL, encoding="utf-8")
        self.folders = [folder / "cache"]

    def total(self):
        """What the kernel gives in a new dispatcher, as in a new process; how often compiled."""
        spec = importlib.util.spec_from_file_location("minidistil.total", self.file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        before = compilations.count
        return module.total(X), compilations.count - before

    def entry(self, folder=0):
        (path,) = self.folders[folder].iterdir()
        return path


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = World(tmp_path)
    monkeypatch.setattr(kernel_cache, "_folders", lambda make=False: iter(world.folders))
    kernel_cache._say_that_nothing_is_kept.cache_clear()
    assert world.total() == (10, 1)
    assert world.total() == (10, 0)
    return world


def flipped(at):
    def damage(content):
        place = int(at * (len(content) - 1))
        return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]

    return damage


DAMAGES = {
    "empty": lambda content: b"",
    "cut-in-the-checksum": lambda content: content[:20],
    "cut-in-half": lambda content: content[: len(content) // 2],
    "last-byte-missing": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"<html>404 Not Found</html>",
    "another-pickle": lambda content: pickle.dumps({"kernel": 1}),
    "flipped-checksum": flipped(0),
    "flipped-digest-of-sources": lambda content: flipped(0)(content[32:] + content[:32]),
    "flipped-machine-code": flipped(0.3),
    "flipped-end": flipped(1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_kernel_is_compiled_anew(world, capsys, damage):
    """Was: UnpicklingError, EOFError, a crash, or a kernel that computes something else.
    Right: a line on stderr that names the file, the right result, and a whole file again."""
    whole = world.entry().read_bytes()
    world.entry().write_bytes(DAMAGES[damage](whole))
    assert world.total() == (10, 1)
    assert f"{world.entry()} is damaged; this kernel is compiled anew\n" in capsys.readouterr().err
    assert world.total() == (10, 0)
    assert "damaged" not in capsys.readouterr().err


def test_any_flipped_bit_is_found(world, capsys):
    """Was: Numba's .nbc has no checksum, and a bit within machine code was not noticed.
    Right: no file with a changed byte is unpickled."""
    path, rng = world.entry(), np.random.default_rng(0)
    content = path.read_bytes()
    cache = kernel_cache.KernelCache(world.total)
    for place in rng.integers(0, len(content), 200):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        assert cache._read(path) is None
    assert capsys.readouterr().err.count("is damaged") == 200


def test_a_pickle_that_runs_something_is_not_loaded(world, capsys):
    """Was: a cache entry is a pickle, and was executed as found.
    Right: what does not carry its own checksum is never unpickled."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(world.file.parent / "executed"),)

    world.entry().write_bytes(pickle.dumps(Bomb()))
    assert world.total() == (10, 1)
    assert not (world.file.parent / "executed").exists()


def test_an_edit_in_a_helper_of_another_file_is_noticed(tmp_path, monkeypatch):
    """Was: Numba keys an entry by the defining file alone; after an upgrade of the package that
    changed a helper elsewhere, old machine code was used.
    Right: an entry holds the digest of all sources in ops/."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("x = 1\n", encoding="utf-8")
    monkeypatch.setattr(kernel_cache, "OPS", tmp_path)
    digest = kernel_cache.sources.__wrapped__
    before = digest(str(tmp_path / "a.py"))
    assert digest(str(tmp_path / "a.py")) == before
    (tmp_path / "b.py").write_text("x = 2\n", encoding="utf-8")
    assert digest(str(tmp_path / "a.py")) != before


def test_a_kernel_of_other_sources_is_replaced_in_silence(world, capsys):
    """Was: stale files pile up beside new ones.
    Right: one file for a function and its types, replaced when the source changes."""
    world.file.write_text(KERNEL.replace("y = x[0]", "y = x[0] + 1"), encoding="utf-8")
    kernel_cache.sources.cache_clear()
    assert world.total() == (11, 1)
    assert world.total() == (11, 0)
    assert world.entry().is_file() and "damaged" not in capsys.readouterr().err


def test_a_folder_that_refuses_is_passed_over(world, tmp_path, capsys):
    """Was: RuntimeError "cannot cache function" at import, OSError when the disk is full.
    Right: the next folder takes the kernel."""
    (tmp_path / "file").touch()
    world.folders = [tmp_path / "file" / "in-a-file", tmp_path / "second"]
    assert world.total() == (10, 1)
    assert world.total() == (10, 0)
    assert world.entry(1).is_file() and "cannot be kept" not in capsys.readouterr().err


def test_other_users_can_read_what_was_kept(world):
    """Was: right already, with Numba's files.
    Right: kernels that an administrator compiled ahead of time serve every user of a machine."""
    umask = os.umask(0)
    os.umask(umask)
    assert world.entry().stat().st_mode & 0o777 == 0o666 & ~umask


def test_without_any_folder_kernels_run_all_the_same(world, tmp_path, capsys):
    """Was: RuntimeError "cannot cache function" at import.
    Right: the result, and one line in a process that says what is missing."""
    (tmp_path / "file").touch()
    world.folders = [tmp_path / "file" / "in-a-file"]
    assert world.total() == (10, 1)
    assert world.total() == (10, 1)
    assert capsys.readouterr().err.count("set NUMBA_CACHE_DIR to a folder that can") == 1


def test_a_read_only_kernel_is_found_there(world, tmp_path):
    """Was: an image that brings its kernels in a folder it cannot write to compiled them anew.
    Right: kernels are looked for in all folders."""
    world.folders = [tmp_path / "absent", *world.folders]
    assert world.total() == (10, 0)


def test_a_read_only_installation_without_a_home(tmp_path):
    """Was: RuntimeError "cannot cache function … no locator available" at import.
    Right: it runs, and keeps its kernels in a private folder among the temporary files."""
    package = Path(minidistil.__file__).parent
    for part in ("ops", "io", "testing.py"):
        source, to = package / part, tmp_path / "minidistil" / part
        to.parent.mkdir(parents=True, exist_ok=True)
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, to, ignore=skip) if source.is_dir() else shutil.copy(source, to)
    (tmp_path / "minidistil" / "__init__.py").touch()
    (tmp_path / "temporary").mkdir()
    env = {name: x for name, x in os.environ.items()
           if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}  # fmt: skip
    env |= {"HOME": os.devnull, "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(tmp_path)}
    script = ("import numpy as np; from minidistil.ops import relu; x = np.ones((2, 3), 'f'); "
              "print(relu.__file__, relu.forward_cpu(x)[0].sum())")  # fmt: skip
    command = [sys.executable, "-B", "-c", script]
    done = subprocess.run(
        command, check=True, env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert str(tmp_path) in done.stdout and done.stdout.endswith("6.0\n") and done.stderr == ""
    assert list((tmp_path / "temporary").rglob("*.relu._forward_rows-*.kernel"))
    assert sorted(x.name for x in tmp_path.iterdir()) == ["minidistil", "temporary"]


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path):
    """Was: nothing, since there was no such folder.
    Right: what lies in it is executed, so it must be this user's alone."""
    (tmp_path / "new").mkdir(mode=0o700)
    assert kernel_cache._is_private(tmp_path / "new")
    assert not kernel_cache._is_private(tmp_path / "absent")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert not kernel_cache._is_private(tmp_path / "open")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    assert not kernel_cache._is_private(tmp_path / "link")
