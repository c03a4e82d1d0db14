"""Synthetic corpora that cannot be: more movements than there are, sentences of no length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.corpus.synth.lexicon import make_lexicon
from runtime.errors import BadInput
from signedge import main


def test_all_movements_that_there_are_can_be_drawn_and_no_more() -> None:
    signs = make_lexicon(np.random.default_rng(0), 406, 1, 0)
    assert len({(frozenset((s.start, s.end)), s.path, s.other) for s in signs}) == 405
    with pytest.raises(BadInput, match=r"407 glosses need 406 movements and there are 405: ask for 406 glosses"):
        make_lexicon(np.random.default_rng(0), 407, 1, 0)


def test_impossible_settings_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change, message in (("glosses=3000", "there are 405"), ("shortest=9", "shortest is 9 and longest 6")):
        assert main(["corpus", "synth", "--out", str(tmp_path / "corpus"), "--set", change]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "corpus").exists()
