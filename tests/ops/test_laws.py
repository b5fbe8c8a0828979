"""What every op has to answer, in this order: is the backward the transpose of the forward's
derivative, do the backends agree, does PyTorch say the same? Then: NaN is never swallowed, and
threads change no bit. What is peculiar to an op is in a file of its name.
"""

import numpy as np
import op_checks
import pytest
from op_cases import MAKERS, all_cases, has_torch_twin, is_plain, stored_cases

from minidistil.ops import OPS

each = pytest.mark.parametrize("case", all_cases(), ids=str)


def test_every_op_has_cases():
    assert tuple(MAKERS) == OPS


@pytest.mark.parametrize("case", list(filter(is_plain, all_cases())), ids=str)
def test_backward_is_the_transpose(case):
    op_checks.transpose(case)


@each
def test_backends_agree(case):
    op_checks.backends_agree(case)


@pytest.mark.parametrize("case", list(filter(has_torch_twin, all_cases())), ids=str)
def test_parity_live(case):
    pytest.importorskip("torch")
    theirs = (op_checks.torch_numbers(case, dtype) for dtype in (np.float32, np.float64))
    op_checks.parity(case, *theirs)


@pytest.mark.parametrize("case", stored_cases(), ids=str)
def test_parity_stored(case):
    op_checks.parity(*op_checks.stored(case))


@each
def test_nan_is_not_swallowed(case):
    op_checks.nan_spreads(case)


@each
def test_threads_change_no_bit(case):
    op_checks.thread_free(case)


@each
def test_nothing_is_written_into_the_arguments(case):
    op_checks.leaves_arguments(case)
