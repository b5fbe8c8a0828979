"""A run knows what it reads, and whether what it wrote is still what it wrote.

A resumed run stops where its data, its teacher, its tokenizer or its options changed, and a bit
that flipped in a checkpoint, a corpus, a teacher's cache or a run's own files is noticed.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_world import SIZES, SMALL
from train_toy import ToyData, ToyObjective, config

from minidistil.cli import main
from minidistil.data import Corpus, train_wordpiece
from minidistil.io import checksums
from minidistil.train import Run
from minidistil.train.loop import run_loop

PAIRS = [("a text", ["another"]), ("ä", ["ö"]), ("line\u2028end", ["\x85"])]
TEXTS = ["the film was great and the actors were good", "what a dull plot and a dull film"]


def flipped(path, share=0.5):
    """Flip the lowest bit of the byte that lies at `share` of a file."""
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def refused(capsys, *argv):
    """The one line on stderr of a command that ends with 2."""
    capsys.readouterr()
    assert main([str(x) for x in argv]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning:")]
    assert line.startswith("error: ") and len(line) < 500
    return line


# ------------------------------------------------------- inputs


@pytest.fixture(scope="module")
def begun(world, tmp_path_factory):
    """A distilled run with all of its inputs in one folder, to be copied and spoilt."""
    home = tmp_path_factory.mktemp("begun")
    shutil.copytree(world.classifier, home / "teacher")
    shutil.copytree(world.teacher, home / "student")
    shutil.copy(world.labelled, home / "data.tsv")
    shutil.copy(world.labelled, home / "held-out.tsv")
    assert main(["distill", "--steps", "2", "--checkpoint-every", "1", "--no-baselines", *SMALL,
                 *here(home, "teacher", "student", "data.tsv", "held-out.tsv")]) == 0  # fmt: skip
    return home


def here(home, teacher, student, data, held_out):
    return ["--teacher", str(home / teacher), "--student", str(home / student), "--data",
            str(home / data), "--eval-data", str(home / held_out), "--out", str(home / "run"),
            "--alpha-cos", "0"]  # fmt: skip


@pytest.mark.parametrize(("option", "name"), [
    ("--teacher", "teacher/model.safetensors"), ("--teacher", "teacher/tokenizer.json"),
    ("--student", "student/vocab.txt"), ("--student", "student/config.json"),
    ("--data", "data.tsv"), ("--eval-data", "held-out.tsv"),
])  # fmt: skip
def test_an_input_that_changed(option, name, begun, capsys):
    """Was: a run resumed with other data, another teacher or tokenizer trained on without a word.
    Right: the run says what changed, and stops; with the former file it continues.
    """
    path, run = begun / name, begun / "run"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    try:
        found = refused(capsys, "distill", "--out", run, "--resume")
    finally:
        path.write_bytes(before)
    assert f"{option} changed since the run in {run} began; put back what was there" in found
    assert main(["distill", "--out", str(run), "--resume"]) == 0


def test_an_option_that_was_edited(begun, tmp_path, capsys):
    """Was: run.json edited by hand, or by a flipped bit, changed the run.
    Right: run.json carries a checksum; what it holds is what was asked.
    """
    run = Path(shutil.copytree(begun / "run", tmp_path / "run"))
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"seed": 0', '"seed": 1', 1))
    found = refused(capsys, "distill", "--out", run, "--resume")
    assert "run.json is damaged: its checksum does not match its contents" in found


def test_a_tokenizer_that_was_learnt(world, tmp_path, capsys):
    """Was: a run that learns its words resumed with whatever tokenizer lay in its folder.
    Right: its tokenizer is one of its inputs.
    """
    out = tmp_path / "run"
    argv = ["pretrain", "--data", world.text, "--out", str(out), *SIZES, *SMALL, "--steps", "1"]
    assert main(argv) == 0
    before = (out / "tokenizer.json").read_bytes()
    (out / "tokenizer.json").write_bytes(before.replace(b'"film"', b'"mlif"'))
    assert "the tokenizer changed since" in refused(capsys, "pretrain", "--out", out, "--resume")
    (out / "tokenizer.json").write_bytes(before)
    assert main(["pretrain", "--out", str(out), "--resume"]) == 0


def test_data_that_changed_in_python(tmp_path):
    """Was: `run_loop` resumed on any data whose batches had the right form.
    Right: the order of an epoch and what its ends hold are compared.
    """
    run_loop(ToyObjective(), ToyData(), config(steps=5), run=tmp_path / "run", progress=False)

    class Other(ToyData):
        def collate(self, indices, **place):
            batch = super().collate(indices, **place)
            return batch | {"labels": (batch["labels"] + 1) % 4}

    with pytest.raises(ValueError, match=r"the data changed since the run in .* began"):
        run_loop(
            ToyObjective(), Other(), config(steps=5), run=tmp_path / "run", resume=True,
            progress=False,
        )  # fmt: skip


def test_a_run_of_another_command(world, capsys):
    """Was: `distill --resume` took up a run of pretrain, with the options of both.
    Right: a run is resumed by the command that began it.
    """
    found = refused(capsys, "distill", "--out", world.teacher, "--resume")
    assert "was begun by minidistil pretrain; resume it with that command" in found


def test_an_option_that_is_called_as_a_folder_is(world, tmp_path, capsys, monkeypatch):
    """Was: with a folder `bert` in the current one, `--family bert` was kept as that folder's path,
    and the run could not be resumed.
    Right: only options that name a path are made absolute.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    argv = ["pretrain", "--data", world.text, "--out", "run", "--family", "bert", *SIZES, *SMALL]
    assert main([*argv, "--steps", "1"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["family"] == "bert"
    assert main(["pretrain", "--out", "run", "--resume"]) == 0


def test_the_options_that_are_paths():
    """Right: every option of a training command that is shown with a path's name is made absolute,
    and is an input or the cache."""
    from minidistil.cli import parser_of
    from minidistil.cli.command_parser import PATHS
    from minidistil.cli.input_files import PATHS as KNOWN

    for command in ("pretrain", "finetune", "distill"):
        options = {a.dest for a in parser_of(command)._actions if a.metavar in PATHS}
        assert options - {"out"} <= set(KNOWN)


# ------------------------------------------------------- a flipped bit


@pytest.mark.parametrize("share", [0, 0.03, 0.2, 0.5, 0.8, 0.99, 1])
def test_a_bit_of_a_corpus(share, tmp_path):
    """Was: a corpus's checksum covered its ends; a flipped bit among the ids changed the text.
    Right: every bit counts, the padding's too.
    """
    tokenizer = train_wordpiece(TEXTS * 3, 80)
    path = tmp_path / "c.corpus"
    Corpus.build(path, TEXTS * 20, tokenizer, max_length=16, min_tokens=3)
    flipped(path, share)
    with pytest.raises(ValueError, match=r"c\.corpus"):
        Corpus.open(path)


@pytest.mark.parametrize("place", [100, 127])
def test_a_bit_of_a_corpus_that_means_nothing(place, tmp_path):
    """Right: the rest of the header is zero, and another number there is damage."""
    tokenizer = train_wordpiece(TEXTS * 3, 80)
    path = tmp_path / "c.corpus"
    Corpus.build(path, TEXTS * 20, tokenizer, max_length=16, min_tokens=3)
    data = bytearray(path.read_bytes())
    data[place] ^= 8
    path.write_bytes(data)
    with pytest.raises(ValueError, match="fails its checksum; it is damaged, build it again"):
        Corpus.open(path)


@pytest.mark.parametrize("name", ["arrays.safetensors", "state.json"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_bit_of_a_checkpoint(name, share, tmp_path):
    """Was: a flipped bit in a checkpoint trained on, and only a wrong size was noticed.
    Right: a damaged newest one gives way to the one before, which a warning names; the run ends
    with the same bits.
    """
    runs = []
    for folder in (tmp_path / "whole", tmp_path / "spoilt"):
        objective = ToyObjective()
        run_loop(objective, ToyData(), config(steps=15), run=folder, progress=False)
        runs.append(objective.model.params)
    newest = tmp_path / "spoilt" / "checkpoints" / "step-00000015"
    flipped(newest / name, share)
    objective = ToyObjective()
    with pytest.warns(UserWarning, match=r"step-00000015 is damaged .*resumes from step-00000010"):
        run_loop(
            objective, ToyData(), config(steps=15), run=tmp_path / "spoilt", resume=True,
            progress=False,
        )  # fmt: skip
    for key, p in objective.model.params.items():
        assert np.array_equal(p, runs[0][key])
    assert newest.exists()  # written anew


def test_no_checkpoint_is_whole(tmp_path):
    """Was: with every state.json damaged a run began again at step 0 without a word.
    Right: work is not thrown away in silence; one line says what would.
    """
    run_loop(ToyObjective(), ToyData(), config(steps=15), run=tmp_path / "run", progress=False)
    for state in (tmp_path / "run" / "checkpoints").glob("*/state.json"):
        state.write_text("{")
    with pytest.raises(ValueError, match=r"no checkpoint of .* is whole: .*to start at step 0"):
        run_loop(
            ToyObjective(), ToyData(), config(steps=15), run=tmp_path / "run", resume=True,
            progress=False,
        )  # fmt: skip
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*"))) == 2


@pytest.mark.parametrize("name", ["hidden", "checksums", "cache.json"])
def test_a_bit_of_a_teachers_cache(name, world, tmp_path, capsys):
    """Was: a flipped bit in a teacher's cache taught another lesson.
    Right: each sequence's rows have a checksum, which is compared when they are first read.
    """
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--epochs", 1, *SMALL,
            "--cache-teacher", tmp_path / "cache", "--no-baselines", "--out"]  # fmt: skip
    assert main([str(x) for x in [*argv, tmp_path / "one"]]) == 0
    flipped(tmp_path / "cache" / name)
    found = refused(capsys, *argv, tmp_path / "two")
    assert "cache" in found and "damaged" in found
    assert not (tmp_path / "two").exists()


def test_a_cache_that_is_cut(world, tmp_path, capsys):
    """Was: a file of a cache that was too short ended in a traceback of mmap.
    Right: one line says how many bytes there should be.
    """
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--steps", 1, *SMALL,
            "--cache-teacher", tmp_path / "cache", "--no-baselines", "--out"]  # fmt: skip
    assert main([str(x) for x in [*argv, tmp_path / "one"]]) == 0
    path = tmp_path / "cache" / "hidden"
    path.write_bytes(path.read_bytes()[:-4])
    assert "hidden has" in refused(capsys, *argv, tmp_path / "two")
    path.unlink()
    assert "hidden has 0 bytes where" in refused(capsys, *argv, tmp_path / "two")


def test_pairs_that_a_teacher_wrote(tmp_path):
    """Was: what a teacher's beams wrote was read again from a damaged file, or ended in a KeyError.
    Right: its lines have a checksum, too.
    """
    from minidistil.distill.objectives.sequence_step import TAUGHT, keep_pairs, taught_pairs

    keep_pairs(tmp_path, PAIRS)
    assert taught_pairs(None, None, None, tmp_path) == PAIRS
    flipped(tmp_path / TAUGHT, 0.7)
    with pytest.raises(ValueError, match=r"taught\.jsonl is damaged; delete it"):
        taught_pairs(None, None, None, tmp_path)


# ------------------------------------------------------- a run's own files


@pytest.mark.parametrize(("name", "text"), [
    ("run.json", ""), ("run.json", "[]"), ("run.json", "{}"), ("run.json", "\x00"),
    ("run.json", '{"command": 1}'), ("run.json", "[" * 100_000), ("metrics.jsonl", "[1]\n"),
    ("metrics.jsonl", '{"step": "x"}\n'), ("metrics.jsonl", "{\n"), ("metrics.jsonl", "\udcff\n"),
    ("metrics.jsonl", '{"loss": 1}\n'),
])  # fmt: skip
@pytest.mark.parametrize("command", ["report", "resume"])
def test_damaged_files_of_a_run(command, name, text, world, tmp_path, capsys):
    """Was: KeyError, TypeError or RecursionError; lines behind a damaged one were dropped.
    Right: one line names the file.
    """
    run = Path(shutil.copytree(world.teacher, tmp_path / "run"))
    before = (run / name).read_bytes() if name == "metrics.jsonl" else b""
    (run / name).write_bytes(text.encode("utf-8", "surrogateescape") + before)
    argv = ["report", run] if command == "report" else ["pretrain", "--out", run, "--resume"]
    found = refused(capsys, *argv)
    assert name in found
    assert name != "metrics.jsonl" or "line 1 is damaged" in found


def test_a_run_of_an_older_version(world, tmp_path, capsys):
    """Right: run.json without a checksum, as it was written before there was one, is read."""
    run = Path(shutil.copytree(world.teacher, tmp_path / "run"))
    stored = json.loads((run / "run.json").read_text())
    older = {name: stored[name] for name in ("command", "options", "plan")}
    (run / "run.json").write_text(json.dumps(older))
    assert main(["report", str(run)]) == 0
    assert Run(run, resume=True).plan == stored["plan"]


def test_a_line_that_was_being_written_is_no_damage(world, tmp_path):
    """Right: a last line without its end is what a kill leaves; it is dropped."""
    run = Path(shutil.copytree(world.teacher, tmp_path / "run"))
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 3, "lo')
    lines = Run(run, resume=True).metrics()
    assert lines and all("time" in line for line in lines)


@pytest.mark.parametrize("value", [{}, {"x": [1, 2.5, "ü", None]}, {"x": {"1": True}}])
def test_a_seal(value, tmp_path):
    """Right: what is sealed is read as it was; another value, or no seal, is damage."""
    checksums.write_sealed(tmp_path / "a.json", value)
    assert checksums.read_sealed(tmp_path / "a.json") == value
    stored = json.loads((tmp_path / "a.json").read_text())
    for wrong in (stored | {"y": 1}, {"checksum": stored["checksum"] + 1}, {}, [], 3):
        (tmp_path / "a.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=r"a\.json is damaged"):
            checksums.read_sealed(tmp_path / "a.json")
