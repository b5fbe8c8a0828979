"""What is trained, and on which loss: the two things the loop asks for, `.model` and `.gradients`.

An objective is pure: the same batch, seed and step give the same gradients.
"""

from minidistil.distill import DistillConfig, distill_step, weight_schedules
from minidistil.distill.mean_counts import counts
from minidistil.model.finite import first_not_finite
from minidistil.model.label_counts import PLAIN, WHOLE, Counting
from minidistil.model.model import Model
from minidistil.model.task_loss import check_counting
from minidistil.model.vision.vision_model import VisionModel


class Supervised:
    """The task's own loss: masked language modelling, or the labels of a classifier."""

    def __init__(self, model, counting=PLAIN):
        check_counting(counting, model)
        self.model, self.counting = model, counting

    def counts(self, batch, *, step, width=None):
        """What the means of the loss are over, {name: n}."""
        return self.model.counts(batch, self.counting)

    def gradients(self, batch, *, seed, step, first_sequence, shares=WHOLE):
        """One batch  ->  {"loss": …, part: …}, {name: gradient}.

        shares: of a micro-batch, see `minidistil.model.label_counts`.
        """
        counting = self.counting._replace(shares=shares)
        return _parts(_supervised(self.model, batch, seed, step, first_sequence, counting))

    def diagnose(self, batch, *, seed, step, first_sequence, shares=WHOLE):
        """Where in the model the first number that is not finite appears, or ""."""
        place = batch, seed, step, first_sequence, self.counting._replace(shares=shares)
        return first_not_finite({"": self.model}, lambda model: _supervised(model, *place))


class Distillation:
    """A student that learns from a teacher; the teacher is only read, in evaluation mode.

    teacher: a Model, or one of `minidistil.distill.teachers`.
    """

    def __init__(self, student, teacher, config=None, counting=PLAIN):
        self.model, self.teacher, self.config = student, teacher, config or DistillConfig()
        self.steps = None
        self.count_labels(counting)

    def count_labels(self, counting):
        """How the labels count from now on. Raises ValueError for a student without such labels."""
        check_counting(counting, self.model)
        self.counting = counting

    def begin(self, steps):
        """Told by the loop before the first step: what varies in the config knows its end."""
        self.steps = steps

    def varying(self, step):
        """The numbers of the config that vary, as this step has them."""
        return weight_schedules.values(self.config.vary, self._share(step))

    def counts(self, batch, *, step, width=None):
        """What the means of the loss are over, {name: n}; width: columns of the whole batch."""
        return counts(self.model, batch, self.config.at(self._share(step)), width, self.counting)

    def gradients(self, batch, *, seed, step, first_sequence, shares=WHOLE):
        """The same."""
        place = seed, step, first_sequence, shares
        return _parts(self._step(self.model, self.teacher, batch, *place))

    def _share(self, step):
        return 0.0 if self.steps is None else step / self.steps

    def diagnose(self, batch, *, seed, step, first_sequence, shares=WHOLE):
        """Where in the two models the first number that is not finite appears, or ""."""
        models = {"": self.model}
        if isinstance(self.teacher, Model | VisionModel):
            models["teacher"] = self.teacher

        def again(student, teacher=self.teacher):
            self._step(student, teacher, batch, seed, step, first_sequence, shares)

        return first_not_finite(models, again)

    def _step(self, student, teacher, batch, seed, step, first_sequence, shares):
        config, counting = self.config.at(self._share(step)), self.counting._replace(shares=shares)
        return distill_step(
            student, teacher, batch, config, True, seed, step, first_sequence=first_sequence,
            counting=counting,
        )  # fmt: skip


def _supervised(model, batch, seed, step, first_sequence, counting):
    return model.gradients(
        batch, train=True, seed=seed, step=step, first_sequence=first_sequence, counting=counting
    )


def _parts(done):
    return {"loss": done.loss} | done.parts, done.grads


def counting_of(config):
    """How the labels count that a TrainConfig trains on."""
    return Counting(class_weights=config.class_weights, label_smoothing=config.label_smoothing)


def objective_for(model_or_pair, distill=None, counting=PLAIN):
    """A model -> Supervised; a pair (student, teacher) -> Distillation; an objective as it is."""
    if hasattr(model_or_pair, "gradients") and hasattr(model_or_pair, "model"):
        return model_or_pair
    if isinstance(model_or_pair, tuple | list):
        if len(model_or_pair) != 2:
            raise ValueError(
                f"distillation takes the pair (student, teacher), not {len(model_or_pair)} models"
            )
        return Distillation(*model_or_pair, distill, counting)
    if distill is not None:
        raise ValueError("distill options need a pair: train((student, teacher), ...)")
    return Supervised(model_or_pair, counting)
