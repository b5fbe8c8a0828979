"""Writing: a file is whole or absent, whatever the disk, the system or a kill does in between."""

import errno
import os
import resource
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minidistil as md
from minidistil.data import Corpus, load_tokenizer, train_wordpiece
from minidistil.io import files, lock

TEXTS = ["the film was great and the actors were good", "what a dull plot and a dull film"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS * 3, 80)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@contextmanager
def small_disk():
    """No file may grow beyond 1 KiB, pytest's own output neither: for a single call."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("moment", ["write", "sync", "rename"])
def test_a_tokenizer_killed_while_saving(moment, tokenizer, tmp_path, monkeypatch):
    """Was: Tokenizer.save wrote in place; a kill left half a tokenizer.json and the run was lost.
    Right: before the first rename the old files are whole, and the next save is as ever.
    """
    tokenizer.save(tmp_path)
    before = contents(tmp_path)

    def killed(*args, **options):
        raise SystemExit

    other = train_wordpiece(TEXTS * 5 + ["another vocabulary"] * 9, 90)
    with monkeypatch.context() as patch:
        owner, name = {"write": (Path, "write_bytes"), "sync": (os, "fsync"),
                       "rename": (os, "replace")}[moment]  # fmt: skip
        patch.setattr(owner, name, killed)
        patch.setattr(files, "remove", lambda path: None)  # a killed process tidies nothing up
        with pytest.raises(SystemExit):
            other.save(tmp_path)
    now = contents(tmp_path)
    assert {name: now[name] for name in before} == before
    other.save(tmp_path)
    assert names(tmp_path) == sorted(before)
    assert load_tokenizer(tmp_path).get_vocab() == other.get_vocab()


def test_a_full_disk_under_a_tokenizer(tokenizer, tmp_path):
    """Was: a full disk ended in a traceback of the tokenizers library and half a file.
    Right: one line that names the folder, and nothing new in it.
    """
    says = r"cannot write .*more: File too large; free some"
    with pytest.raises(OSError, match=says) as caught, small_disk():
        tokenizer.save(tmp_path / "out" / "more")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", [
    lambda path: files.write_tensors(path, {"x": np.zeros(2000)}),
    lambda path: files.write_arrays(path, x=np.zeros(2000)),
    lambda path: files.write_text(path, "x" * 9000),
    lambda path: files.write_together(path.parent, {"a": b"", path.name: bytes(9000)}),
], ids=["tensors", "arrays", "text", "together"])  # fmt: skip
def test_a_full_disk_under_each_kind_of_file(write, tmp_path):
    """Right: the error of each is one OSError that says what to do, and a file that was there is
    what it was."""
    (tmp_path / "file").write_bytes(b"before")
    says = r"cannot write .*; free some space or choose another folder"
    with pytest.raises(OSError, match=says), small_disk():
        write(tmp_path / "file")
    assert contents(tmp_path) == {"file": b"before"}


def test_an_input_that_is_missing_is_no_full_disk(tokenizer, tmp_path):
    """Was: text that could not be read while a corpus was built said "cannot write …; free space".
    Right: the error is that of the file that is read.
    """

    def texts():
        yield TEXTS[0]
        (tmp_path / "no such text").read_text()

    with pytest.raises(FileNotFoundError) as caught:
        Corpus.build(tmp_path / "c", texts(), tokenizer, max_length=16, min_tokens=3)
    assert "cannot write" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_synchronised(tmp_path, monkeypatch):
    """Was: a file system that refuses fsync of a folder (EINVAL) failed every write after it.
    Right: the folder is left to the file system; a disk that fails (EIO) is an error.
    """
    really = os.fsync

    def refuse(number):
        def fsync(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(number, os.strerror(number))
            really(handle)

        monkeypatch.setattr(os, "fsync", fsync)

    refuse(errno.EINVAL)
    files.write_json(tmp_path / "a.json", {"x": 1})
    assert files.read_json(tmp_path / "a.json") == {"x": 1}
    refuse(errno.EIO)
    with pytest.raises(OSError, match=r"cannot write .*a\.json: Input/output error"):
        files.write_json(tmp_path / "a.json", {"x": 2})


def test_a_folder_that_cannot_be_opened(tmp_path, monkeypatch):
    """Right: Windows opens no folder; its contents are on disk all the same."""
    really = os.open

    def only_files(path, *args):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, *args)

    monkeypatch.setattr(os, "open", only_files)
    with files.replacing(tmp_path / "folder") as aside:
        files.write_text(aside / "inner" / "a", "x")
    assert (tmp_path / "folder" / "inner" / "a").read_text() == "x"


def test_windows_holds_a_file_that_is_read(tmp_path, monkeypatch):
    """Right: a rename that is refused because another process reads the file is tried again, and
    our own handle is closed before it; elsewhere a refusal is one."""
    really, refusals = os.replace, 2

    def replace(old, new):
        nonlocal refusals
        opened = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
        assert str(old) not in opened
        if refusals:
            refusals -= 1
            raise PermissionError(errno.EACCES, "Access is denied", str(old))
        really(old, new)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError, match="cannot write"):
        files.write_text(tmp_path / "a", "x")
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(files, "RETRY_DELAYS", (0, 0))
    refusals = 2
    files.write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x" and refusals == 0


def test_windows_locks(tmp_path, monkeypatch):
    """Right: without flock the first byte of the lock's file is locked, which msvcrt refuses while
    another holds it."""
    taken = []

    def locking(handle, mode, count):
        if taken:
            raise OSError(errno.EDEADLK, "Resource deadlock avoided")
        taken.append(handle)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "WINDOWS", True)
    with lock.exclusive_lock(tmp_path / "lock", "the run"):
        with (
            pytest.raises(lock.InUseError, match="the run is in use by another process"),
            lock.exclusive_lock(tmp_path / "lock", "the run"),
        ):
            raise AssertionError("two at once")
        assert names(tmp_path) == ["lock"]
    assert names(tmp_path) == []


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Right: the work is done, and a warning says that nothing watches over it."""

    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="file system without locks .*start nothing else"):
        files.write_text(tmp_path / "a", "x")
    assert contents(tmp_path) == {"a": b"x"}


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "x" * 101])
def test_a_long_name(name, tmp_path):
    """Was: a name of 247 bytes or more failed, for its temporary name was longer still.
    Right: what the file system takes is written.
    """
    for text in ("one", "two"):
        files.write_text(tmp_path / name, text)
    with files.replacing(tmp_path / name[::-1][:-1]) as aside:
        files.write_text(aside / "a", "x")
    assert (tmp_path / name).read_text() == "two" and len(names(tmp_path)) == 2


def test_a_symbolic_link(tmp_path):
    """Was: writing to a link replaced the link, and what it points to stayed as it was.
    Right: the link stays, and its target is written, though it is in another folder.
    """
    (tmp_path / "there").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(Path("there") / name)
    (tmp_path / "there" / "old").write_text("before")
    for name in ("old", "new"):
        files.write_text(tmp_path / name, "after")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / name).read_text() == "after"
    assert names(tmp_path / "there") == ["new", "old"]


def test_a_link_to_a_folder_is_removed_alone(tmp_path):
    """Was: removing a link to a folder renamed it, then failed: "cannot call rmtree on a link".
    Right: the link goes, and the folder stays.
    """
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    files.remove(tmp_path / "link")
    assert names(tmp_path) == ["there"]


def test_permissions_stay(tmp_path):
    """Was: a file that only its owner may read became one for everybody when it was written again.
    Right: a file that is replaced keeps its permissions.
    """
    files.write_text(tmp_path / "a", "x")
    (tmp_path / "a").chmod(0o600)
    files.write_text(tmp_path / "a", "y")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_exchanged_comes_back(tmp_path, monkeypatch):
    """Was: a folder was deleted before the new one had its name.
    Right: until the new one has it, the old one can come back.
    """
    with files.replacing(tmp_path / "folder") as aside:
        files.write_text(aside / "a", "before")
    really = os.replace

    def refuse(old, new):
        if Path(new).name == "folder":
            raise PermissionError(errno.EACCES, "Permission denied")
        really(old, new)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError), files.replacing(tmp_path / "folder") as aside:
        files.write_text(aside / "a", "after")
    assert names(tmp_path) == ["folder"]
    assert (tmp_path / "folder" / "a").read_text() == "before"


def test_two_writers_of_one_file(tmp_path):
    """Was: two processes shared a temporary name, and one renamed what the other had half written.
    Right: the second is refused while the first writes.
    """
    with files.writing(tmp_path / "a") as file:
        file.write(b"first")
        with pytest.raises(ValueError, match="a is in use by another process; wait for its end"):
            files.write_bytes(tmp_path / "a", b"second")
    assert contents(tmp_path) == {"a": b"first"}


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_sentences_is_a_model_last(world, tmp_path, monkeypatch):
    """Was: a kill between config.json and modules.json left a model with another pooling.
    Right: what says how vectors are made is there before the model is.
    """
    model = md.from_pretrained(world.teacher, task="sentence-embedding")

    def killed(*args):
        raise SystemExit

    monkeypatch.setattr("minidistil.model.model.write_folder", killed)
    with pytest.raises(SystemExit):
        model.save_pretrained(tmp_path)
    assert {"1_Pooling", "modules.json"} <= set(names(tmp_path))
    with pytest.raises(ValueError, match="config"):
        md.from_pretrained(tmp_path)
