"""A task is one folder and one entry of the table, with what `pipeline` and the commands call."""

from pathlib import Path

import pytest

from minidistil import tasks
from minidistil.tasks.base_predictor import Predictor

FOLDER = Path(tasks.__file__).parent
HOOKS = ("add_options", "training", "evaluation", "distillation", "measure", "answers", "describe")


def test_every_folder_is_in_the_table():
    folders = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    assert {entry.partition(".")[0] for entry in tasks.TASKS.values()} == folders


@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_task_has_a_predictor(task):
    predictor = tasks.predictor_of(task)
    assert issubclass(predictor, Predictor) and predictor.__call__.__doc__


@pytest.mark.parametrize("task", tasks.TRAINED)
def test_a_trained_task_has_every_hook(task):
    command = tasks.command_of(task)
    assert all(callable(getattr(command, hook, None)) for hook in HOOKS)


@pytest.mark.parametrize("task", tasks.PREDICTING)
def test_a_task_without_hooks_is_refused_by_the_commands(task):
    assert not (FOLDER / tasks.TASKS[task].partition(".")[0] / "command.py").exists()
    with pytest.raises(ValueError, match=f"a task to train or measure must be one of .*{task!r}"):
        tasks.command_of(task)
