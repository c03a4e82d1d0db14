"""Peak memory: of a fresh process, not of the one that asks."""

from __future__ import annotations

import numpy as np
import pytest
from bench_stage import write_corpus, write_engine, write_run

from bench.memory import MemoryFailed, peak_bytes, peak_memory_mb, run_task
from bench.systems import Opener


def test_an_engine_needs_less_than_pytorch_and_the_parents_memory_does_not_count(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", clips=3)
    write_run(tmp_path / "run", "corpus")
    engine = Opener("engine", str(write_engine(tmp_path / "engine", "c1")), 1)
    ballast = np.ones(50_000_000)  # 400 MB in this process
    light = peak_memory_mb(engine, corpus.folder, ["clip0", "clip2"])
    heavy = peak_memory_mb(Opener("eager", str(tmp_path / "run"), 1), corpus.folder, ["clip0"])
    assert 20 < light < heavy < 2000
    assert light < 300 and peak_bytes() > ballast.nbytes


def test_a_process_that_fails_is_an_error_with_its_last_words(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", clips=1)
    with pytest.raises(MemoryFailed, match=r"peak memory not measured: .*not an engine folder"):
        peak_memory_mb(Opener("engine", str(tmp_path / "nothing"), 1), corpus.folder, ["clip0"])


def test_a_process_that_hangs_is_given_up(tmp_path):
    with pytest.raises(MemoryFailed, match="timed out"):
        peak_memory_mb(Opener("engine", str(tmp_path), 1), tmp_path, [], timeout=0.01)


def test_the_task_reads_the_clips_that_it_is_given(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", clips=1, frames=False)
    engine = write_engine(tmp_path / "engine", "c1")
    opener = {"kind": "engine", "path": str(engine), "threads": 1}
    assert run_task({"opener": opener, "corpus": str(corpus.folder), "clips": ["clip0"]}) > 10_000_000


def test_the_high_water_mark_comes_from_the_kernel_where_it_tells(tmp_path):
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t 99 kB\nVmHWM:\t    2048 kB\n")
    assert peak_bytes(tmp_path / "status") == 2048 * 1024
    assert peak_bytes(tmp_path / "absent") > 10_000_000
