"""Timings of kernels outlive the build that took them; nothing depends on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.errors import Refused
from runtime.trt import build, cuda, timing_cache

OLD, NEW = "tensorrt 10.3.0", "tensorrt 10.16.2"


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GPU, and an empty folder for caches."""
    monkeypatch.setattr(cuda, "gpu", lambda: cuda.Gpu("NVIDIA T4 / 2", "7.5", 40, "12.6"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_they_are_kept_for_the_same_version_and_gpu(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert timing_cache.kept(OLD) == b""
    timing_cache.keep(OLD, b"")
    assert not gpu.exists()
    timing_cache.keep(OLD, b"timings")
    timing_cache.keep(NEW, b"others")
    assert (timing_cache.kept(OLD), timing_cache.kept(NEW)) == (b"timings", b"others")
    assert {path.name.split("-NVIDIA-T4")[0] for path in (gpu / "signedge").iterdir()} == {
        "tensorrt-10.3.0", "tensorrt-10.16.2",
    }  # fmt: skip
    monkeypatch.setattr(cuda, "gpu", lambda: cuda.Gpu("NVIDIA L4", "8.9", 58, "12.6"))
    assert timing_cache.kept(OLD) == b""


def test_where_they_cannot_be_kept_nobody_minds(
    gpu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    timing_cache.keep(OLD, b"timings")
    assert timing_cache.kept(OLD) == b""

    def none() -> Any:
        raise Refused("no GPU")

    monkeypatch.setattr(cuda, "gpu", none)
    timing_cache.keep(OLD, b"timings")
    assert timing_cache.kept(OLD) == b""


@pytest.mark.parametrize("kind", ["good", "mismatch", "damaged"])
def test_a_build_begins_without_those_that_do_not_fit(kind: str) -> None:
    set_: list[bytes] = []

    class Config:
        def create_timing_cache(self, data: bytes) -> bytes | None:
            return None if data == b"damaged" else data

        def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            if cache == b"mismatch":
                return False
            set_.append(cache)
            return True

    build._start_from(Config(), kind.encode())
    assert set_ == [b"good" if kind == "good" else b""]
