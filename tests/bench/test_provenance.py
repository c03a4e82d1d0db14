"""Provenance: what it says of the machine, and that it names no folder of it."""

from __future__ import annotations

import datetime
from pathlib import Path

from bench.provenance import command_line, provenance, versions


def test_a_provenance_holds_versions_host_and_utc_time():
    found = provenance("signedge bench", corpus="c")
    assert (found.command, found.corpus, found.checkpoint, found.engine) == ("signedge bench", "c", "", "")
    assert datetime.datetime.fromisoformat(found.time).utcoffset() == datetime.timedelta(0)
    assert {"python", "numpy", "signedge"} <= set(found.versions)
    assert {"cpu", "cores", "memory", "os"} <= found.host.keys() and found.host["cpu"]


def test_the_command_line_hides_folders_of_the_machine():
    words = [
        "/opt/env/bin/signedge",
        "bench",
        "/home/me/project/out/a.engine",
        "--corpus=/data/secret/corpus",
        "--seconds",
        "5",
    ]
    shown = command_line(words, Path("/home/me/project"))
    assert shown == "signedge bench out/a.engine --corpus=.../corpus --seconds 5"


def test_relative_words_and_options_stay_as_typed():
    words = ["signedge", "bench", "out/engine", "--set", "a=b", "--limit-clips=3"]
    assert command_line(words, Path("/home/me")) == "signedge bench out/engine --set a=b --limit-clips=3"


def test_a_program_without_arguments_has_a_name():
    assert command_line([], Path("/")) == "signedge"


def test_packages_that_are_not_installed_are_left_out():
    assert "tensorrt" not in versions()
