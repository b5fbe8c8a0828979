"""Sixty mistakes outside the catalogue, planted in five independent modules: every one is found,
and at least 80 % are named."""

import re
from pathlib import Path

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
from mutations import loaded  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG, GPT2, PAIR, VIT, saved_each  # noqa: E402

pytestmark = [pytest.mark.usefixtures("calm"), pytest.mark.filterwarnings("ignore")]
HERE = Path(__file__).parent
ENDS = (PAIR.pad_token_id, PAIR.decoder_start_token_id, PAIR.eos_token_id)
MODULES = {  # {source: (config, task, builder of its module from a state)}
    "own_torch.py": (CONFIG, "fill-mask", lambda own, w: own.build(w, CONFIG.n_heads)),
    "own_sequence_first.py": (CONFIG, "fill-mask", lambda own, w: own.build(w, CONFIG.n_heads)),
    "own_gpt2.py": (GPT2, "text-generation", lambda own, w: own.Speaker(w, GPT2.n_head)),
    "own_vit.py": (VIT, "image-classification", lambda own, w: own.Looker(w, 3)),
    "own_seq2seq.py": (PAIR, "translation", lambda own, w: own.Translator(w, 3, ENDS)),
}
NAMED = 0.8


def planted(text):
    """{(source, mistake): (id or None, [(what is written, what is written instead), …])}."""
    found, source, changes = {}, None, []
    for line in text.splitlines():
        if line.startswith("=="):
            source = line.strip("= ")
        elif line[:2] in ("- ", "+ "):
            if line[0] == "-" and (not changes or changes[-1][1]):
                changes.append(([], []))
            changes[-1]["-+".index(line[0])].append(line[2:])
        elif said := re.fullmatch(r"([^#].*): (.*)", line):
            changes = []
            found[source, said[1]] = None if said[2] == "not named" else said[2], changes
    return {
        place: (id, [("\n".join(old), "\n".join(new)) for old, new in changes])
        for place, (id, changes) in found.items()
    }


MISTAKES = planted((HERE / "new_mistakes.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    models = {source: (config, task) for source, (config, task, _) in MODULES.items()}
    return saved_each(models, tmp_path_factory.mktemp("models"))


def compared(source, changes, folder):
    """The Report of a module with changes of its source."""
    text = (HERE / source).read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    module = MODULES[source][2](loaded(text), load_file(folder / "model.safetensors"))
    return md.check.compare(module, folder)


@pytest.mark.parametrize(("source", "mistake"), MISTAKES)
def test_a_new_mistake_is_found(source, mistake, folders):
    id, changes = MISTAKES[source, mistake]
    report = compared(source, changes, folders[source])
    assert report.code == 1 and report.first_difference and report.where, report.text()
    assert [d.id for d in report.diagnosis] == ([] if id is None else [id]), report.text()


@pytest.mark.parametrize("source", MODULES)
def test_none_is_accused_where_nothing_is_planted(source, folders):
    report = compared(source, [], folders[source])
    assert (report.code, report.diagnosis) == (0, []), report.text()


def test_sixty_are_found_and_most_are_named():
    assert len(MISTAKES) >= 60
    for source in MODULES:
        ids = [id for (of, _), (id, _) in MISTAKES.items() if of == source]
        assert len(ids) >= 12 and sum(id is not None for id in ids) >= NAMED * len(ids), source
