"""What is trained, and on which loss: the two things the loop asks for, `.model` and `.gradients`.

An objective is pure: the same batch, seed and step give the same gradients.
"""


class Supervised:
    """The task's own loss: masked language modelling, or the labels of a classifier."""

    def __init__(self, model):
        self.model = model

    def gradients(self, batch, *, seed, step, first_sequence):
        done = self.model.gradients(
            batch, train=True, seed=seed, step=step, first_sequence=first_sequence
        )
        return {"loss": done.loss} | done.parts, done.grads
