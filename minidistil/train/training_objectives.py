"""Objectives: a model and the gradients of its loss, `.model` and `.gradients`, for the loop.

An objective is pure: the same batch, seed and step give the same gradients.
"""

from minidistil.distill import DistillConfig, distill_step, weight_schedules
from minidistil.distill.dropout_seed import DropoutSeed
from minidistil.distill.mean_counts import counts
from minidistil.model.finite import first_not_finite
from minidistil.model.label_counts import PLAIN, WHOLE, Counting
from minidistil.model.model import Model
from minidistil.model.task_loss import check_counting
from minidistil.model.vision.vision_model import VisionModel


class Supervised:
    """The task's own loss: masked language modelling, or the labels of a classifier."""

    def __init__(self, model, counting: Counting = PLAIN):
        check_counting(counting, model)
        self.model, self.counting = model, counting

    def counts(self, batch, *, step, width=None):
        """{name: n}, what the means of the loss are over."""
        return self.model.counts(batch, self.counting)

    def gradients(self, batch, *, seed, step, first_sequence, shares=WHOLE):
        """One batch  ->  {"loss": …, part: …}, {name: gradient}.

        shares: of a micro-batch, see `minidistil.model.label_counts`.
        """
        counting = self.counting._replace(shares=shares)
        return _parts(_supervised(self.model, batch, seed, step, first_sequence, counting))

    def diagnose(self, batch, *, seed, step, first_sequence, shares=WHOLE):
        """The model's first op whose result is not finite, as text, or ""."""
        how = batch, seed, step, first_sequence, self.counting._replace(shares=shares)
        return first_not_finite({"": self.model}, lambda model: _supervised(model, *how))


class Distillation:
    """Distillation of a student from a teacher, which is in evaluation mode and never updated.

    teacher: a Model, or one of `minidistil.distill.teachers`.
    """

    def __init__(
        self, student, teacher, config: DistillConfig | None = None, counting: Counting = PLAIN
    ):
        self.model, self.teacher, self.config = student, teacher, config or DistillConfig()
        self.steps = None
        self.count_labels(counting)

    def count_labels(self, counting):
        """Set class weights and label smoothing. Raises ValueError for labels without classes."""
        check_counting(counting, self.model)
        self.counting = counting

    def begin(self, steps):
        """Called by the loop before the first step: schedules of the config need the number of
        steps."""
        self.steps = steps

    def varying(self, step):
        """{name: value} at this step of the config's numbers with a schedule."""
        return weight_schedules.values(self.config.vary, self._share(step))

    def counts(self, batch, *, step, width=None):
        """{name: n}, what the means of the loss are over; width: columns of the whole batch."""
        return counts(self.model, batch, self.config.at(self._share(step)), width, self.counting)

    def gradients(self, batch, *, seed, step, first_sequence, shares=WHOLE):
        """One batch  ->  {"loss": …, part: …}, {name: gradient} of the student."""
        dropout_seed = DropoutSeed(True, seed, step, first_sequence)
        return _parts(self._step(self.model, self.teacher, batch, dropout_seed, shares))

    def _share(self, step):
        return 0.0 if self.steps is None else step / self.steps

    def diagnose(self, batch, *, seed, step, first_sequence, shares=WHOLE):
        """The first op of the two models whose result is not finite, as text, or ""."""
        models = {"": self.model}
        if isinstance(self.teacher, Model | VisionModel):
            models["teacher"] = self.teacher

        dropout_seed = DropoutSeed(True, seed, step, first_sequence)

        def again(student, teacher=self.teacher):
            self._step(student, teacher, batch, dropout_seed, shares)

        return first_not_finite(models, again)

    def _step(self, student, teacher, batch, dropout_seed, shares):
        config = self.config.at(self._share(dropout_seed.step))
        counting = self.counting._replace(shares=shares)
        how = dropout_seed._asdict()
        return distill_step(student, teacher, batch, config, **how, counting=counting)


def _supervised(model, batch, seed, step, first_sequence, counting):
    return model.gradients(
        batch, train=True, seed=seed, step=step, first_sequence=first_sequence, counting=counting
    )


def _parts(done):
    return {"loss": done.loss} | done.parts, done.grads


def counting_of(config) -> Counting:
    """The class weights and the label smoothing of a TrainConfig."""
    return Counting(class_weights=config.class_weights, label_smoothing=config.label_smoothing)


def objective_for(model_or_pair, distill: DistillConfig | None = None, counting: Counting = PLAIN):
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
