"""A toy row of `minidistil reproduce`: its file, its data, and the arguments that reproduce it."""

import json
import shutil

import pytest

from minidistil.cli import main
from minidistil.cli.reproduce import model_speed

SMALL = "--backend numpy --batch-tokens 256 --tokens 2000"
ROW = {
    "use": "a toy", "metric": "accuracy", "seeds": [0, 1],
    "data": {"folder": "toy", "source": "nowhere", "prepare": "glue"},
    "stages": [
        {"name": "teacher", "minutes": 2,
         "command": f"finetune --model {{minilm}} --data {{train}} --held-out 8 {SMALL}"},
        {"name": "distilled", "minutes": 1, "seeds": True,
         "command": f"distill --teacher {{teacher}} --data {{train}} --held-out 8 --layers 0 "
                    f"--no-baselines --seed {{seed}} {SMALL}"},
        {"name": "int8", "minutes": 1, "seeds": True, "command": "quantize --model {distilled}"},
    ],
    "measure": "evaluate --backend numpy --data {test}",
    "results": {},
}  # fmt: skip


@pytest.fixture
def row(world, tmp_path, monkeypatch):
    """The arguments of a row in tmp_path; speeds are measured briefly."""
    monkeypatch.setattr(model_speed, "SECONDS", 0.1)
    monkeypatch.setattr(model_speed, "ROUNDS", 2)
    toy = tmp_path / "data" / "toy"
    toy.mkdir(parents=True)
    for name in ("train.tsv", "dev.tsv"):
        shutil.copy(world.labelled, toy / name)
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(ROW))
    return [str(path), "--data", str(toy.parent), "--minilm", world.teacher,
            "--out", str(tmp_path / "out")]  # fmt: skip


def reproduced(capsys, *argv):
    """The result of a row that is run."""
    assert main(["reproduce", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)
