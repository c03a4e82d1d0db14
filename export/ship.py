"""A bundle over SSH: copied to its device, built and judged there, engine and records brought back, nothing left there.

Uses the system's ssh. What it asks of the far side: sh, tar, sha256sum, df, and what `build.sh` asks.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from devices import jetson
from export.bundle import COMMAND, add_file
from export.outcome import Outcome, Running, failure_of, keep, started
from runtime.atomic import check_free
from runtime.device.build import ENGINE, LOGS
from runtime.device.folder import MANIFEST, read_bundle
from runtime.device.machine import ROOT_VARIABLE
from runtime.errors import BadInput, SignedgeError
from runtime.hashing import sha256_file

OPTIONS_VARIABLE = "SIGNEDGE_SSH"  # more options for ssh, as on its command line; they go before ours and win
SETTINGS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=5", "ServerAliveCountMax=3")
OPTIONS = [word for setting in SETTINGS for word in ("-o", setting)]
FOLDER = ".signedge"  # on the device, below the user's home
RUN = "run"
ROOM = 32 << 20  # bytes that a build may write beside twice the graph: plan, logs
MARK = "signedge-begin"  # what a login script prints before it is not ours
LOST = 255  # ssh's own exit status; no command of ours has it
TELLING = (jetson.MODEL, jetson.COMPATIBLE, jetson.RELEASE, "proc/cpuinfo", "proc/meminfo")  # what a machine is told by

# What ssh says where it cannot connect -> what it means.
MEANINGS = (
    (r"Could not resolve hostname", "there is no host of this name"),
    (r"IDENTIFICATION HAS CHANGED|Host key verification failed|No .* host key is known",
     "its host key is not known, or another than before; connect once by hand and judge the key: ssh {host}"),
    (r"Permission denied|Too many authentication failures", "it accepts none of your keys; try: ssh-copy-id {host}"),
    (r"Connection refused", "no SSH server answers there"),
    (r"No route to host|Network is unreachable|[Oo]peration timed out|[Cc]onnection timed out", "it does not answer"),
    (r"Bad configuration option|command-line|Bad port", "ssh does not take its port or options (${variable}?)"),
)  # fmt: skip


class Lost(BadInput):
    """The connection ended in the middle. Running the same again goes on with what was copied."""


def ship(
    bundle: Path,
    device: str,
    out: Path,
    cpu: bool = False,
    progress: Callable[[str], None] = print,
    folder: str = FOLDER,
) -> Outcome:
    """Build `bundle` on `device` (user@host[:port]) and bring the engine to `out`, logs and records to `out`.logs.

    `cpu` only compares what the device's CPU reads (no engine). `folder` is where to work on the device, relative to
    the user's home. Its build.sh speaks through `progress`, a line a call.
    Raises what the device's build ended with: `CriterionFailed` (WER gate), `Refused` (not the target, TensorRT
    missing), `BadInput`; `BadInput` for what is wrong with the connection, `Lost` where it ended in the middle.
    In every such case nothing is at `out`; logs are where there are any.
    """
    bundle, out = Path(bundle), Path(out)
    manifest = read_bundle(bundle)
    check_free(out)
    far = _Far(device, f"{folder}/{_name(manifest['name'])}-{sha256_file(bundle / MANIFEST)[:16]}")
    hashes = {MANIFEST: sha256_file(bundle / MANIFEST), **manifest["files"]}
    try:
        _send(far, bundle, hashes, progress)
        failure = far.build(cpu, progress)
        outcome = _bring(far, out, wanted=failure is None and not cpu)
    except Lost:
        raise
    except BaseException:
        with contextlib.suppress(SignedgeError):
            far.clean()
        raise
    try:
        far.clean()
    except SignedgeError as error:
        progress(f"{far.folder} was left on {far.host}: {error}")
    if failure is not None:
        raise failure
    return outcome


@contextlib.contextmanager
def looked_at(device: str) -> Iterator[Path]:
    """A folder with the files that tell what `device` (user@host[:port]) is, to be looked at as one's own /.

    Raises `BadInput` where the device cannot be reached.
    """
    script = f'for name in {" ".join(TELLING)}; do file="${{{ROOT_VARIABLE}:-}}/$name"; '
    lines = _Far(device, ".").ask(script + '[ -r "$file" ] && echo "$name $(base64 < "$file" | tr -d "\\n")"; done; :')
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        for name, _, text in (line.partition(" ") for line in lines):
            if name in TELLING:
                path = Path(work) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(binascii.Error):
                    path.write_bytes(base64.b64decode(text))
        yield Path(work)


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:40]


class _Far:
    """One folder on one device, and commands there."""

    def __init__(self, device: str, folder: str) -> None:
        found = re.fullmatch(r"((?:[^@\s:/-][^@\s:/]*@)?[^@\s:/-][^@\s:/]*)(?::(\d{1,5}))?", device)
        if not found:
            raise BadInput(f"'{device}' is not user@host or user@host:port")
        self.host, port = found.groups()
        self.folder = folder
        program = shutil.which("ssh")
        if program is None:
            raise BadInput("there is no ssh here; install OpenSSH's client")
        given = shlex.split(os.environ.get(OPTIONS_VARIABLE, ""))
        self._words = [program, *given, *OPTIONS, *(("-p", port) if port else ()), "--", self.host]

    def start(self, script: str, **pipes: Any) -> AbstractContextManager[Running]:
        """A script of sh on the device, in our folder there."""
        place = shlex.quote(self.folder)
        words = [*self._words, f"sh -c {shlex.quote(f'mkdir -p {place} && cd {place} || exit 73; {script}')}"]
        return started(words, **pipes)

    def ask(self, script: str) -> list[str]:
        """The lines that a script prints. Raises `BadInput`, or `Lost`, where it fails."""
        with self.start(f"echo {MARK}; {script}", stdout=subprocess.PIPE) as running:
            assert running.process.stdout is not None
            text = running.process.stdout.read().decode("utf-8", "replace")
            self.check(running)
        return text.partition(f"{MARK}\n")[2].splitlines()

    def check(self, running: Running) -> None:
        """Raise what the end of a command means, unless it ended well."""
        status = running.process.wait()
        if status == 0:
            return
        said = running.errors()
        if status == LOST or status < 0:
            raise self._unreached(said)
        if "No space left on device" in "".join(said):
            raise BadInput(f"{self.host}: the disk of {self.folder} is full; make room there and try again")
        raise BadInput(f"{self.host}: {said[-1] if said else f'a command ended with status {status}'}")

    def _unreached(self, said: Sequence[str]) -> BadInput:
        text = "\n".join(said)
        for pattern, meaning in MEANINGS:
            if re.search(pattern, text):
                return BadInput(f"{self.host}: {meaning.format(host=self.host, variable=OPTIONS_VARIABLE)}")
        why = f" ({said[-1]})" if said else ""
        return Lost(
            f"{self.host}: the connection was lost{why}; nothing was written here. Run the same again: what was copied "
            "whole is not copied again"
        )

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file that is there, by name."""
        lines = self.ask(f"find . -path ./{RUN} -prune -o -type f -exec sha256sum {{}} +")
        return _listed(lines)

    def room(self) -> int:
        """Free bytes where our folder is."""
        try:
            return 1024 * int(self.ask("df -Pk . | tail -n 1")[0].split()[3])
        except (IndexError, ValueError) as error:
            raise BadInput(f"{self.host}: df does not tell how much room {self.folder} has") from error

    def build(self, cpu: bool, progress: Callable[[str], None]) -> SignedgeError | None:
        """Run the one command; the error that it ended with, if it did."""
        # What a lost connection left running is ended first. The key that signs there is thrown away: it is not ours.
        script = (
            f"{_END_EARLIER}; rm -rf {RUN}; echo $$ > pid; SIGNEDGE_KEY=$PWD/key; export SIGNEDGE_KEY; "
            f"exec sh {COMMAND} --out {RUN}{' --cpu' if cpu else ''}"
        )
        with self.start(script, stdout=subprocess.PIPE) as running:
            status, said = running.follow(progress), running.errors()
        if status == LOST or status < 0:
            raise self._unreached(said)
        return failure_of(status, said, f"{self.host}: ")

    def clean(self) -> None:
        """Remove what was copied and built there."""
        place = shlex.quote(self.folder)
        parent = shlex.quote(str(Path(self.folder).parent))
        back = "cd" if not self.folder.startswith("/") else "cd /"
        self.ask(f"{_END_EARLIER}; {back}; rm -rf {place}; rmdir {parent} 2>/dev/null || true")


_END_EARLIER = (
    'if [ -f pid ] && grep -q runtime.device.build "/proc/$(cat pid)/cmdline" 2>/dev/null; '
    'then kill "$(cat pid)"; sleep 1; fi'
)


def _listed(lines: Sequence[str]) -> dict[str, str]:
    """`sha256sum`'s lines as name -> hash."""
    rows = (line.split(None, 1) for line in lines)
    return {row[1].lstrip("*").removeprefix("./"): row[0] for row in rows if len(row) == 2}


def _send(far: _Far, bundle: Path, hashes: Mapping[str, str], progress: Callable[[str], None]) -> None:
    """Copy what is not there yet, then see that all of it arrived."""
    there = far.hashes()
    missing = [name for name in sorted(hashes) if there.get(name) != hashes[name]]
    size = sum((bundle / name).stat().st_size for name in missing)
    needed = size + 2 * (bundle / "model.onnx").stat().st_size + ROOM
    room = far.room()
    if room < needed:
        far.clean()
        raise BadInput(
            f"{far.host}: {far.folder} has {room >> 20} MiB of room; copying and building need {(needed >> 20) + 1} MiB"
        )
    if missing:
        kept = f", {len(hashes) - len(missing)} are there already" if len(missing) < len(hashes) else ""
        progress(f"copying {len(missing)} files, {size / (1 << 20):.1f} MiB, to {far.host}{kept}")
        with far.start("exec tar -xf - --no-same-owner", stdin=subprocess.PIPE) as running:
            assert running.process.stdin is not None
            # A pipe that breaks is explained by how ssh ended.
            with (
                contextlib.suppress(BrokenPipeError),
                running.process.stdin as pipe,
                tarfile.open(fileobj=pipe, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
            ):
                for name in missing:
                    add_file(tar, bundle / name, name)
            far.check(running)
        there = far.hashes()
    damaged = [name for name in sorted(hashes) if there.get(name) != hashes[name]]
    if damaged:
        raise BadInput(f"{far.host}: {damaged[0]} did not arrive as it was sent; try again")
    progress(f"{far.host} has every file as it was made")


def _bring(far: _Far, out: Path, wanted: bool) -> Outcome:
    """What the far run left, logs and, if wanted, the engine, each as it is there, kept here."""
    names = [LOGS, ENGINE] if wanted else [LOGS]
    told = _listed(far.ask(f"cd {RUN} 2>/dev/null && find {' '.join(names)} -type f -exec sha256sum {{}} + || true"))
    listed = {name: digest for name, digest in told.items() if re.fullmatch(r"(logs|engine)/[\w-][\w.-]*", name)}
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        if listed:
            _fetch(far, names, listed, Path(work))
        return keep(Path(work), out, wanted)


def _fetch(far: _Far, names: Sequence[str], listed: Mapping[str, str], work: Path) -> None:
    """The listed files of the far run, each with the hash that it has there."""
    with far.start(f"cd {RUN} && exec tar -cf - {' '.join(names)}", stdout=subprocess.PIPE) as running:
        assert running.process.stdout is not None
        try:
            with tarfile.open(fileobj=running.process.stdout, mode="r|") as tar:
                for entry in tar:
                    source = tar.extractfile(entry) if entry.isfile() and entry.name in listed else None
                    if source is not None:
                        (work / entry.name).parent.mkdir(parents=True, exist_ok=True)
                        with source, (work / entry.name).open("wb") as target:
                            shutil.copyfileobj(source, target)
        except tarfile.TarError:
            far.check(running)
            raise Lost(f"{far.host}: what was to be brought back broke off; run the same again") from None
        far.check(running)
    for name, expected in listed.items():
        if not (work / name).is_file() or sha256_file(work / name) != expected:
            raise BadInput(f"{far.host}: {name} did not come back as it is there; run the same again")
