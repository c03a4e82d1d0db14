"""Errors that travel from a worker process to the one that tells the person."""

from __future__ import annotations

import pickle

import pytest

from runtime.errors import BadInput, CriterionFailed, MissingExtra, Refused, SignedgeError


@pytest.mark.parametrize("error", [BadInput("a"), CriterionFailed("b"), Refused("c"), MissingExtra("av", "train")])
def test_errors_survive_the_way_between_processes(error: SignedgeError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error) and str(arrived) == str(error)
    assert arrived.exit_status == error.exit_status
