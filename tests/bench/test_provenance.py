"""Provenance: what it says of the machine, and that it names no folder of it."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest

from bench.provenance import command_line, host, processor_name, provenance, usable_cores, versions


def test_a_provenance_holds_hashes_versions_host_and_utc_time():
    found = provenance("signedge bench", corpus="c", checkpoint="p", onnx="o", engine="e")
    assert (found.corpus, found.checkpoint, found.onnx, found.engine) == ("c", "p", "o", "e")
    assert datetime.datetime.fromisoformat(found.time).utcoffset() == datetime.timedelta(0)
    assert {"python", "numpy", "signedge"} <= set(found.versions)
    assert found.host.keys() == {"cpu", "cores", "memory", "os"} and all(found.host.values())


def test_the_command_line_hides_folders_of_the_machine():
    words = ["/opt/env/bin/signedge", "bench", "/home/me/project/out/a.engine", "--corpus=/data/secret/corpus", "--seconds", "5"]
    shown = command_line(words, Path("/home/me/project"))
    assert shown == "signedge bench out/a.engine --corpus=.../corpus --seconds 5"


def test_relative_words_and_options_stay_as_typed():
    words = ["signedge", "bench", "out/engine", "--set", "a=b", "--limit-clips=3"]
    assert command_line(words, Path("/home/me")) == "signedge bench out/engine --set a=b --limit-clips=3"


def test_a_program_without_arguments_has_a_name():
    assert command_line([], Path("/")) == "signedge"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor : 0\nmodel : 17\nmodel name : AMD EPYC 9R14\n\nprocessor : 1\nmodel name : other\n", "AMD EPYC 9R14"),
        ("processor : 0\nBogoMIPS : 108.00\nModel : Raspberry Pi 5 Model B Rev 1.0\n", "Raspberry Pi 5 Model B Rev 1.0"),
    ],
)
def test_processor_name(tmp_path, text, name):
    (tmp_path / "cpuinfo").write_text(text)
    assert processor_name(tmp_path / "cpuinfo") == name


def test_a_machine_that_tells_nothing_still_has_a_processor(tmp_path):
    assert processor_name(tmp_path / "absent")


def test_usable_cores_follow_the_affinity():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert host()["cores"] == str(usable_cores())


def test_packages_that_are_not_installed_are_left_out():
    assert "tensorrt" not in versions()
