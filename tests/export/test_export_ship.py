"""Shipping over SSH, to a real OpenSSH server on loopback that each test starts for itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bundle_stage import (
    HERE,
    ORIN,
    T4,
    bundle_for,
    fake_jetson,
    gate_clips,
    onnxruntime_library,
    rewrite_clips,
    stand_in_t4,
)

import signedge
from devices.profile import resolve
from distill.corpus.store import Corpus
from export.onnx_graph import ExportReport
from export.ship import Lost, looked_at, ship
from runtime.device.folder import read_bundle
from runtime.engine import PLAN_FACTS, PLAN_FILE, Engine, read_manifest
from runtime.errors import BadInput, CriterionFailed, Refused
from runtime.hashing import sha256_file
from runtime.trt.compat import check_plan
from runtime.trust import verify, verify_chain

CUT = """
import os, socket, sys, threading, time
left = int(sys.argv[2])
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def back():
    while True:
        data = server.recv(65536)
        if not data:
            os._exit(0)
        os.write(1, data)
threading.Thread(target=back, daemon=True).start()
while left > 0:
    data = os.read(0, min(left, 65536))
    if not data:
        break
    server.sendall(data)
    left -= len(data)
time.sleep(1)  # what was sent arrives
os._exit(1)
"""  # a wire that breaks after so many bytes


@dataclass
class Server:
    """An SSH server of this user on loopback, and a device's file system below `home`."""

    port: int
    process: subprocess.Popen[bytes]
    folder: Path  # of its keys
    work: Path  # where bundles are put

    @property
    def device(self) -> str:
        return f"{os.environ.get('USER') or 'root'}@127.0.0.1:{self.port}"

    def options(self, key: str = "key") -> str:
        """For $SIGNEDGE_SSH: this test's key and known hosts, nobody's configuration."""
        known = self.folder / "known_hosts"
        return f"-F none -i {self.folder / key} -o IdentitiesOnly=yes -o UserKnownHostsFile={known}"

    def sessions(self) -> list[int]:
        """Processes of connections that this server has open."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(word) for word in found.stdout.split()]

    def drop(self) -> None:
        """End every connection, as a cable that is pulled."""
        for session in self.sessions():
            below = subprocess.run(["ps", "-o", "pid=", "--ppid", str(session)], capture_output=True, text=True)
            for number in (session, *map(int, below.stdout.split())):
                with contextlib.suppress(ProcessLookupError):
                    command = Path(f"/proc/{number}/cmdline").read_bytes() if Path(f"/proc/{number}").exists() else b""
                    if b"sshd" in command:
                        os.kill(number, signal.SIGKILL)


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a server whose sessions have these variables; ends it after the test."""
    daemon = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if daemon is None or shutil.which("ssh") is None:
        pytest.skip("OpenSSH's server and client are needed (Debian: openssh-server, openssh-client)")
    if os.geteuid() == 0:  # it wants this empty folder, which the system's own service makes
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "key", "stranger"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    (folder / "authorized").write_text((folder / "key.pub").read_text())
    started: list[subprocess.Popen[bytes]] = []

    def run(work: Path | None = None, **variables: str) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        told = {
            "PYTHON": sys.executable, "SIGNEDGE_ONNXRUNTIME_LIBRARY": onnxruntime_library(), **variables,
        }  # fmt: skip
        setting = " ".join(f'"{name}={value}"' for name, value in told.items())
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\nSetEnv {setting}\n"
        )
        host = (folder / "host.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host[0]} {host[1]}\n")
        log = folder / "log"
        process = subprocess.Popen([daemon, "-D", "-e", "-f", str(folder / "config")], stderr=log.open("wb"))
        started.append(process)
        server = Server(port, process, folder, work or tmp_path / "device" / "bundles")
        monkeypatch.setenv("SIGNEDGE_SSH", server.options())
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return server
            if process.poll() is not None:
                pytest.skip(f"sshd does not start here: {log.read_text()[-300:]}")
            time.sleep(0.1)
        pytest.fail("sshd does not listen")

    monkeypatch.setenv("SIGNEDGE_KEY", str(tmp_path / "own-key"))
    yield run
    for process in started:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def bundles(exported: ExportReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles for a CPU like this one, for Orin Nano and for a T4."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, target in (("here", HERE), ("orin", ORIN), ("t4", T4)):
        bundle_for(target, exported, folder / name)
    return folder


def nothing_left(server: Server, out: Path) -> bool:
    """Neither there nor at `out`."""
    return not server.work.exists() and not out.exists() and not list(out.parent.glob(f".{out.name}*"))


def test_engine_is_built_there_and_brought_back(start: Start, bundles: Path, tmp_path: Path) -> None:
    server, lines = start(), []
    shipped = ship(bundles / "here", server.device, tmp_path / "engine", progress=lines.append, folder=str(server.work))
    engine = Engine.open(tmp_path / "engine", threads=1)
    clip = gate_clips()[0]
    assert tuple(engine.recognise(clip.clip)) == clip.reference
    assert engine.manifest["gate"]["passed"] and engine.signed.own
    assert {"gate.json", "latency.json", "machine.json", "steps.log"} <= {path.name for path in shipped.logs.iterdir()}
    assert any("copying" in line for line in lines) and any("WER" in line for line in lines)
    assert not server.work.exists(), "the device was not cleaned"


def test_a_plan_comes_back_with_its_records_and_is_signed_here(start: Start, bundles: Path, tmp_path: Path) -> None:
    """The far side has stand-ins for what needs a GPU: driver and trtexec."""
    server, lines, out = start(**stand_in_t4(tmp_path / "t4")), [], tmp_path / "engine"
    outcome = ship(bundles / "t4", server.device, out, progress=lines.append, folder=str(server.work))
    assert any("building with trtexec 10.3.0" in line for line in lines) and not server.work.exists()
    manifest = read_manifest(out)
    assert outcome.engine == out and outcome.manifest == manifest
    records = {"build.log", "gate.json", "layers.json", "machine.json"}
    names = {PLAN_FILE, "contract.json", "latency.json", *records}
    assert names == set(manifest["files"]) == {path.name for path in out.iterdir()} - {"manifest.json"}
    assert all((outcome.logs / name).read_bytes() == (out / name).read_bytes() for name in records)
    facts = manifest[PLAN_FACTS]
    assert (facts["compute_capability"], facts["version"]) == ("7.5", "10.3.0.26")
    check_plan(facts, facts, (out / PLAN_FILE).read_bytes())
    verify_chain(out, manifest, Engine.from_onnx(bundles / "t4" / "model.onnx", 1).contract, PLAN_FILE)
    assert manifest["chain"]["bundle"] == sha256_file(bundles / "t4" / "manifest.json")
    assert manifest["chain"]["gate_clips"] == read_bundle(bundles / "t4")["chain"]["gate_clips"]
    assert manifest["gate"]["passed"] and verify(manifest).own


def test_cpu_check_of_a_jetson_bundle(start: Start, bundles: Path, tmp_path: Path) -> None:
    server = start()
    shipped = ship(bundles / "orin", server.device, tmp_path / "engine", cpu=True, folder=str(server.work))
    assert shipped.engine is None and (shipped.logs / "gate.json").is_file()
    assert nothing_left(server, tmp_path / "engine")


def test_broken_wire_is_told_and_taken_up_again(
    start: Start, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, out, lines = start(), tmp_path / "engine", []
    (tmp_path / "cut.py").write_text(CUT)
    cut = f"'ProxyCommand={sys.executable} {tmp_path / 'cut.py'} {server.port} 400000'"
    monkeypatch.setenv("SIGNEDGE_SSH", f"{server.options()} -o {cut}")
    with pytest.raises(Lost, match="the connection was lost"):
        ship(bundles / "here", server.device, out, progress=lines.append, folder=str(server.work))
    assert not out.exists() and any(server.work.rglob("*.uint8"))
    monkeypatch.setenv("SIGNEDGE_SSH", server.options())
    ship(bundles / "here", server.device, out, progress=lines.append, folder=str(server.work))
    assert any("are there already" in line for line in lines)
    assert Engine.open(out, threads=1).manifest["gate"]["passed"] and not server.work.exists()


def test_session_that_dies_in_the_build(start: Start, bundles: Path, tmp_path: Path) -> None:
    server, out, lines = start(), tmp_path / "engine", []

    def drop(line: str) -> None:
        lines.append(line)
        if "reading the clips" in line:
            server.drop()

    with pytest.raises(Lost, match="the connection was lost"):
        ship(bundles / "here", server.device, out, progress=drop, folder=str(server.work))
    assert not out.exists() and not list(tmp_path.glob("engine*"))
    lines.clear()
    ship(bundles / "here", server.device, out, progress=lines.append, folder=str(server.work))
    assert not any("copying" in line for line in lines), "all of it was there"
    assert Engine.open(out, threads=1).manifest["gate"]["passed"] and not server.work.exists()


def test_no_room_is_told_before_copying(start: Start, bundles: Path, tmp_path: Path, tiny_disk: Path) -> None:
    server = start(work=tiny_disk / "bundles")
    with pytest.raises(BadInput, match="has 0 MiB of room; copying and building need"):
        ship(bundles / "here", server.device, tmp_path / "engine", folder=str(server.work))
    assert nothing_left(server, tmp_path / "engine")


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Path]:
    """A file system with much room, on which only 20 files fit: it is full in the middle of a copy."""
    folder = tmp_path / "few"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256m,nr_inodes=20", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(["mount", *options], capture_output=True).returncode != 0:
        pytest.skip("a small tmpfs cannot be mounted here (needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_disk_that_fills_while_copying(start: Start, bundles: Path, tmp_path: Path, few_files: Path) -> None:
    server = start(work=few_files / "bundles")
    with pytest.raises(BadInput, match=r"the disk of .* is full"):
        ship(bundles / "here", server.device, tmp_path / "engine", folder=str(server.work))
    assert nothing_left(server, tmp_path / "engine")


def test_missing_tensorrt(start: Start, bundles: Path, tmp_path: Path) -> None:
    server = start(SIGNEDGE_ROOT=str(fake_jetson(tmp_path / "root")))
    with pytest.raises(Refused, match="tensorrt is missing: neither its Python module nor trtexec is there"):
        ship(bundles / "orin", server.device, tmp_path / "engine", folder=str(server.work))
    assert nothing_left(server, tmp_path / "engine")
    assert "tensorrt is missing" in (tmp_path / "engine.logs" / "error.log").read_text()


def test_wrong_jetpack(start: Start, bundles: Path, tmp_path: Path) -> None:
    server = start(SIGNEDGE_ROOT=str(fake_jetson(tmp_path / "root", l4t="35 4.1")))
    with pytest.raises(Refused, match=r"for JetPack 6\.2, this machine has JetPack 5 \(L4T 35\.4\.1\)"):
        ship(bundles / "orin", server.device, tmp_path / "engine", folder=str(server.work))
    assert nothing_left(server, tmp_path / "engine")


def test_failed_gate(start: Start, bundles: Path, tmp_path: Path) -> None:
    shutil.copytree(bundles / "here", tmp_path / "bad")
    rewrite_clips(tmp_path / "bad", reference=["RED"], baseline=["RED"])
    server = start()
    with pytest.raises(CriterionFailed, match="failed the WER gate"):
        ship(tmp_path / "bad", server.device, tmp_path / "engine", folder=str(server.work))
    assert nothing_left(server, tmp_path / "engine") and (tmp_path / "engine.logs" / "gate.json").is_file()


def test_python_without_numpy(start: Start, bundles: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    server = start(PYTHON=str(bare))
    with pytest.raises(BadInput, match="has no numpy"):
        ship(bundles / "here", server.device, tmp_path / "engine", folder=str(server.work))
    assert nothing_left(server, tmp_path / "engine")


def test_who_cannot_be_reached(
    start: Start, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, out = start(), tmp_path / "engine"
    with pytest.raises(BadInput, match="there is no host of this name"):
        ship(bundles / "here", "user@no-such-host.invalid", out)
    monkeypatch.setenv("SIGNEDGE_SSH", server.options("stranger"))
    with pytest.raises(BadInput, match="it accepts none of your keys"):
        ship(bundles / "here", server.device, out)
    monkeypatch.setenv("SIGNEDGE_SSH", server.options())
    (server.folder / "known_hosts").write_text("")
    with pytest.raises(BadInput, match="its host key is not known"):
        ship(bundles / "here", server.device, out)
    server.process.terminate()
    server.process.wait()
    with pytest.raises(BadInput, match="no SSH server answers there"):
        ship(bundles / "here", server.device, out)
    assert not out.exists()


@pytest.mark.parametrize("device", ["", "-oProxyCommand=x", "a b", "user@", "user@host:port", "user@-host"])
def test_what_is_no_device(device: str, bundles: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not user@host"):
        ship(bundles / "here", device, tmp_path / "engine")


def test_place_that_is_taken(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "file").touch()
    with pytest.raises(BadInput, match="already exists"):
        ship(bundles / "here", "user@host", tmp_path / "engine")


def test_the_device_is_looked_at_before_anything_is_made_for_it(start: Start, tmp_path: Path) -> None:
    """`jetson` means the module at the other end, whatever this machine is."""
    root = fake_jetson(tmp_path / "root", l4t="35 4.1", chip="tegra194", model="AGX Xavier")
    (root / "proc" / "device-tree" / "compatible").write_text("nvidia,p2822-0000+p2888-0001\0nvidia,tegra194\0")
    server = start(SIGNEDGE_ROOT=str(root))
    with looked_at(server.device) as seen:
        found = resolve("jetson", seen)
    assert (found.profile.name, found.software.name) == ("jetson-agx-xavier", "JetPack 5.1")
    assert not seen.exists()


def test_an_order_for_a_device_is_carried_out_there(
    start: Start, exported: ExportReport, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This machine, as one that is reached over SSH: it is not the one that builds, though it could."""
    server = start()
    words = ["engine", str(exported.path), "--corpus", str(corpus.folder), "--out", str(tmp_path / "engine")]
    assert signedge.main([*words, "--device", server.device]) == 0
    told = capsys.readouterr()
    assert f"built and judged on {server.device}" in told.out and "WER gate passed" in told.out
    assert "has every file as it was made" in told.err
    engine = Engine.open(tmp_path / "engine", 1)
    assert engine.signed.own and engine.manifest["machine"].startswith("x86") and engine.manifest["chain"]["bundle"]
    assert signedge.main([*words, "--device", server.device]) == 2
    assert "already exists" in capsys.readouterr().err
