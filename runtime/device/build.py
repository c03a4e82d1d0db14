"""The one command of a bundle, `sh build.sh`: look at the machine, build, judge by WER, time; only then an engine.

Exit status: 0 the engine is there, 1 it failed the WER gate, 2 the bundle is broken or something unforeseen happened, 3
this machine is not the target or cannot judge. Logs are left in every case, an engine only in the first.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import platform
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence

import numpy as np

from runtime.atomic import atomic_folder, unwinding_on_sigterm
from runtime.contract import Contract
from runtime.device import folder as bundles
from runtime.device import machine as machines
from runtime.device.builders import BUILDERS, Built, on_cpu
from runtime.device.fitting import Needs, require_fit
from runtime.device.judging import Verdict, judge, require
from runtime.engine import read_manifest
from runtime.errors import BadInput, CriterionFailed, SignedgeError
from runtime.hashing import sha256_file
from runtime.trust import sign, verify_chain

ENGINE, LOGS = "engine", "logs"
STEPS, ERROR = "steps.log", "error.log"
RECORDS = ("build.log", "gate.json", "latency.json", "layers.json", "machine.json")  # logs that go with the engine
NUMBERS_SHOWN = 5  # names of clips in one line


class Build:
    """One run of the command over one bundle: says each step aloud and keeps what was said in `logs`."""

    def __init__(self, bundle: Path, out: Path) -> None:
        self.bundle, self.out, self.logs = bundle, out, out / LOGS
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            for name in (STEPS, ERROR, *RECORDS):  # of an earlier build; what else lies there is not ours
                with contextlib.suppress(FileNotFoundError):
                    (self.logs / name).unlink()
        except OSError as error:
            raise BadInput(f"cannot write to {self.logs}: {error.strerror}") from error

    def say(self, text: str) -> None:
        """To the terminal and to the log."""
        print(f"signedge: {text}", flush=True)
        with (self.logs / STEPS).open("a", encoding="utf-8") as handle:
            handle.write(text + "\n")

    def run(self, cpu_only: bool) -> None:
        """Everything. Raises `SignedgeError` with its exit status."""
        if (self.out / ENGINE).exists() and not cpu_only:
            raise BadInput(f"{self.out / ENGINE} already exists; remove it first, or give another --out")
        manifest = bundles.read_bundle(self.bundle)
        needs = Needs.from_dict(manifest["needs"])
        made = bundles.read_json(self.bundle / bundles.MADE)
        frames = f", clips of {made['frames']} frames" if "frames" in made else ""
        where = f"the DLA of {needs.target}" if "dla" in made else needs.target
        self.say(f"bundle {manifest['name']}, {manifest['precision']} for {where}{frames}: every file as it was made")
        machine = machines.here()
        for name, text in machine.described().items():
            self.say(f"{name}: {text}")
        bundles.write_json(self.logs / "machine.json", machine.described())
        if cpu_only:
            self._check_on_cpu(manifest)
            return
        require_fit(needs, machine)
        contract = Contract.from_json((self.bundle / bundles.CONTRACT).read_text(encoding="utf-8"))
        build = BUILDERS[needs.runtime]
        with build(self.bundle, contract, needs, machine, self.logs, self.say) as built:
            verdict = self._judged(built, manifest)
            require(verdict, f"{manifest['name']} in {manifest['precision']} on {needs.target}")
            latency = self._timed(built)
            self._keep(built, manifest, verdict, latency, machine, needs)

    def _check_on_cpu(self, manifest: Dict[str, Any]) -> None:
        model = bundles.JUDGED if bundles.JUDGED in manifest["files"] else bundles.MODEL
        with on_cpu(self.bundle, model, self.say) as built:
            verdict = self._judged(built, manifest)
        if verdict.unexpected:
            some = ", ".join(verdict.unexpected[:NUMBERS_SHOWN])
            raise CriterionFailed(
                f"{len(verdict.unexpected)} of {verdict.clips} clips are read otherwise here than where the bundle was "
                f"made, such as {some}"
            )
        self.say(f"all {verdict.clips} clips are read as where the bundle was made")

    def _judged(self, built: Built, manifest: Dict[str, Any]) -> Verdict:
        self.say(f"reading the clips of the gate through {built.through}")
        verdict = judge(built.recognise, bundles.read_clips(self.bundle), float(manifest["budget"]))
        bundles.write_json(self.logs / "gate.json", {"through": built.through, **verdict.described()})
        self.say(verdict.sentence())
        return verdict

    def _timed(self, built: Built) -> Dict[str, Any]:
        record = built.timed(bundles.read_json(self.bundle / bundles.REQUEST))
        bundles.write_json(self.logs / "latency.json", record)
        if record["samples"]:
            self.say(f"{record['median_ms']:.2f} ms median of {record['samples']} calls: {record['what']}")
        return record

    def _keep(
        self, built: Built, manifest: Dict[str, Any], verdict: Verdict, latency: Dict[str, Any],
        machine: machines.Machine, needs: Needs,
    ) -> None:  # fmt: skip
        """The engine folder under its final name: the gate was passed."""
        with atomic_folder(self.out / ENGINE) as folder:
            for name, data in built.files.items():
                (folder / name).write_bytes(data)
            if bundles.PAGE in manifest["files"]:
                shutil.copyfile(str(self.bundle / bundles.PAGE), str(folder / bundles.PAGE))
            for name in RECORDS:
                if (self.logs / name).is_file():
                    shutil.copyfile(str(self.logs / name), str(folder / name))
            files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
            made = bundles.read_json(self.bundle / bundles.MADE)
            told = {
                "target": needs.target,
                **made,
                **built.facts,
                "format": bundles.BUNDLE_FORMAT,
                "name": manifest["name"],
                "precision": manifest["precision"],
                "runtime": needs.runtime,
                "files": files,
                "chain": {
                    **manifest["chain"],
                    "bundle": sha256_file(self.bundle / bundles.MANIFEST),
                    "engine": files[built.engine_file],
                },
                "gate": {"split": manifest["split"], **verdict.described()},
                "latency": latency,
                "host": machine.described(),
                "versions": {"python": platform.python_version(), "numpy": np.__version__, **built.versions},
            }
            bundles.write_json(folder / bundles.MANIFEST, sign(told))
            written = read_manifest(folder)  # what was written must be what any user's reader accepts
            verify_chain(folder, written, built.contract, built.engine_file)
        self.say(f"the engine passed its gate: it is in {ENGINE}/, beside {LOGS}/")


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """One build at a time in a folder. Raises `BadInput` where another is at work."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".building").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"another build is at work in {out}; wait for it, or end it") from error
        yield


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; its exit status. Errors meant for people become one line on stderr."""
    parser = argparse.ArgumentParser("build.sh", description="Build the engine of this bundle on this machine.")
    parser.add_argument("--out", type=Path, help="where engine/ and logs/ are written (default: the bundle's folder)")
    parser.add_argument("--cpu", action="store_true", help="no engine: only see that the CPU reads the clips alike")
    parser.add_argument("--bundle", type=Path, default=Path(), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    bundle: Path = given.bundle.resolve()
    out: Path = (given.out or bundle).resolve()
    try:
        with unwinding_on_sigterm(), alone(out):
            build = Build(bundle, out)
            try:
                build.run(given.cpu)
            except SignedgeError as error:
                (build.logs / ERROR).write_text(f"{error}\n", encoding="utf-8")
                raise
            except Exception:
                (build.logs / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
                raise
    except SignedgeError as error:
        print(f"signedge: {error}", file=sys.stderr, flush=True)
        return error.exit_status
    except OSError as error:
        print(f"signedge: {error.filename or out}: {error.strerror or error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("\nsignedge: interrupted; no engine was left", file=sys.stderr)
        return 130
    except Exception as error:  # a status of 1, which Python would give, means that the gate was failed
        line = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"signedge: unexpected {line}; no engine was left, see {LOGS}/{ERROR}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
