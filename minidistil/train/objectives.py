"""What is trained, and on which loss: the two things the loop asks for, `.model` and `.gradients`.

An objective is pure: the same batch, seed and step give the same gradients.
"""

from minidistil.distill import DistillConfig, distill_step, vary
from minidistil.model.finite import first_not_finite
from minidistil.model.model import Model
from minidistil.model.vision_model import VisionModel


class Supervised:
    """The task's own loss: masked language modelling, or the labels of a classifier."""

    def __init__(self, model):
        self.model = model

    def gradients(self, batch, *, seed, step, first_sequence):
        """One batch  ->  {"loss": …, part: …}, {name: gradient}."""
        return _parts(_supervised(self.model, batch, seed, step, first_sequence))

    def diagnose(self, batch, *, seed, step, first_sequence):
        """Where in the model the first number that is not finite appears, or ""."""
        place = batch, seed, step, first_sequence
        return first_not_finite({"": self.model}, lambda model: _supervised(model, *place))


class Distillation:
    """A student that learns from a teacher; the teacher is only read, in evaluation mode.

    teacher: a Model, or one of `minidistil.distill.teachers`.
    """

    def __init__(self, student, teacher, config=None):
        self.model, self.teacher, self.config = student, teacher, config or DistillConfig()
        self.steps = None

    def begin(self, steps):
        """Told by the loop before the first step: what varies in the config knows its end."""
        self.steps = steps

    def gradients(self, batch, *, seed, step, first_sequence):
        """The same; among the parts are the numbers that vary, as this step has them."""
        done = _parts(self._step(self.model, self.teacher, batch, seed, step, first_sequence))
        return {**done[0], **vary.values(self.config.vary, self._share(step))}, done[1]

    def _share(self, step):
        return 0.0 if self.steps is None else step / self.steps

    def diagnose(self, batch, *, seed, step, first_sequence):
        """Where in the two models the first number that is not finite appears, or ""."""
        models = {"": self.model}
        if isinstance(self.teacher, Model | VisionModel):
            models["teacher"] = self.teacher

        def again(student, teacher=self.teacher):
            self._step(student, teacher, batch, seed, step, first_sequence)

        return first_not_finite(models, again)

    def _step(self, student, teacher, batch, seed, step, first_sequence):
        return distill_step(
            student, teacher, batch, self.config.at(self._share(step)),
            train=True, seed=seed, step=step, first_sequence=first_sequence,
        )  # fmt: skip


def _supervised(model, batch, seed, step, first_sequence):
    return model.gradients(batch, train=True, seed=seed, step=step, first_sequence=first_sequence)


def _parts(done):
    return {"loss": done.loss} | done.parts, done.grads


def objective_for(model_or_pair, distill=None):
    """A model -> Supervised; a pair (student, teacher) -> Distillation; an objective as it is."""
    if hasattr(model_or_pair, "gradients") and hasattr(model_or_pair, "model"):
        return model_or_pair
    if isinstance(model_or_pair, tuple | list):
        if len(model_or_pair) != 2:
            raise ValueError(
                f"distillation takes the pair (student, teacher), not {len(model_or_pair)} models"
            )
        return Distillation(*model_or_pair, distill)
    if distill is not None:
        raise ValueError("distill options need a pair: train((student, teacher), ...)")
    return Supervised(model_or_pair)
