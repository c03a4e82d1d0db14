"""Whose engine it is: signatures under manifests, and the chain of hashes that a manifest carries.

An engine for ONNX Runtime or OpenVINO is data that these interpret. A TensorRT plan holds native code that runs with
the rights of whoever loads it, so one is loaded only if its manifest was signed with the user's own key, or with
`--trust`.

The key is `~/.config/signedge/key`, made at first use, or the file that $SIGNEDGE_KEY names, such as one that a team
shares: its group may read it, nobody but its owner may write it. A signature is an HMAC-SHA256 over the manifest, which
holds the hash of every file: whoever has not the key can neither make one nor change anything under it. It says who
compiled, not that the compiler was given something good.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple

from runtime.contract import Contract
from runtime.errors import BadInput, Refused

KEY_VARIABLE = "SIGNEDGE_KEY"
SIGNATURE = "signature"
ALGORITHM = "HMAC-SHA256"
CHAINED_SOURCES = ("corpus", "recipe", "checkpoint")  # in the contract and in the chain, which must agree
CODE = ("tensorrt", "tensorrt-rtx")  # runtimes whose engines are code

_SHORTEST, _LONGEST = 32, 4096  # characters of a key
_TOO_OPEN = 0o027  # of a file's mode: written by the group, anything by others
_ELSEWHERE = f"another place for it can be named in ${KEY_VARIABLE}"
_AGAIN = "build the engine again with: signedge engine"


class Trust(NamedTuple):
    """Whether a manifest was signed with the user's own key, and what is to be said of that."""

    own: bool
    why: str
    changed: bool = False  # it bears the user's own signature, and is not what was signed


class _NoKey(Exception):
    """There is no key to be used; its text says why."""


def key_path() -> Path:
    """Where the user's key is, or will be."""
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return Path(given)
    try:
        return Path.home() / ".config" / "signedge" / "key"
    except (RuntimeError, KeyError) as error:  # a user without a home, as in many containers
        raise _NoKey(f"this user has no home folder to keep a key in; {_ELSEWHERE}") from error


def sign(manifest: Mapping[str, Any]) -> Dict[str, Any]:
    """The manifest with a `signature` by the user's key, which is made if there is none yet.

    Where no key can be had the manifest stays unsigned and one of its `warnings` says so: the work that went before is
    not lost, and the engine opens with `--trust`.
    """
    unsigned = {name: value for name, value in manifest.items() if name != SIGNATURE}
    try:
        key = _own_key(make=True)
    except _NoKey as error:
        warning = f"the manifest is not signed: {error}"
        return {**unsigned, "warnings": [*unsigned.get("warnings", []), warning]}
    value = _mac(key, unsigned)
    return {**unsigned, SIGNATURE: {"algorithm": ALGORITHM, "key": _name(key), "value": value}}


def verify(manifest: Mapping[str, Any]) -> Trust:
    """Whether the manifest bears the signature of the user's own key. Makes no key."""
    found = manifest.get(SIGNATURE)
    if found is None:
        return Trust(False, "its manifest is not signed")
    parts = found if isinstance(found, dict) else {}
    signer, value = parts.get("key"), parts.get("value")
    if parts.get("algorithm") != ALGORITHM or not isinstance(signer, str) or not isinstance(value, str):
        return Trust(False, f"its manifest has a signature that is not read here; this version reads {ALGORITHM}")
    try:
        key = _own_key(make=False)
    except _NoKey as error:
        return Trust(False, f"its signature cannot be checked: {error}")
    if signer != _name(key):
        return Trust(False, f"its manifest was signed with another key ({signer[:16]!a}; yours is '{_name(key)}')")
    unsigned = {name: value for name, value in manifest.items() if name != SIGNATURE}
    try:
        same = hmac.compare_digest(_mac(key, unsigned).encode("ascii"), value.encode("utf-8", "replace"))
    except (ValueError, RecursionError):  # what json.dumps has no words for, such as NaN, was never signed
        same = False
    if not same:
        return Trust(False, "its manifest was changed after it was signed", changed=True)
    return Trust(True, f"signed with your key '{_name(key)}'")


def demand(where: object, runtime: str, manifest: Mapping[str, Any], trust: bool) -> Trust:
    """What `verify` says, for the engine at `where` that `runtime` is to load.

    Raises `Refused` where loading would run code that is not signed with the user's own key, unless `trust` is given.
    """
    found = verify(manifest)
    if runtime in CODE and not (found.own or trust):
        raise Refused(
            f"{where} is an engine for {runtime}: code, which would run with your rights. It is not known to be yours: "
            f"{found.why}. If you trust where it comes from, say so with --trust; or build it here: signedge engine"
        )
    return found


def verify_chain(where: object, manifest: Mapping[str, Any], contract: Contract, model: str) -> None:
    """Raise `BadInput` unless the manifest tells what the engine was made from, and all of it agrees.

    where: the engine, for the message. contract: the one that the engine carries. model: name of the file that the
    runtime loads. The hashes of the files themselves are `runtime.engine.read_manifest`'s to check.
    """
    chain = manifest.get("chain")
    if not isinstance(chain, dict) or not all(isinstance(value, str) for value in chain.values()):
        raise BadInput(f"{where}: its manifest has no chain of hashes back to what it was made from; {_AGAIN}")
    if chain.get("engine") != manifest["files"].get(model):
        raise BadInput(f"{where}: the chain in its manifest ends in another engine than {model}; {_AGAIN}")
    for name in CHAINED_SOURCES:
        told, carried = chain.get(name, ""), contract.sources.get(name, "")
        if told != carried:
            raise BadInput(
                f"{where}: its manifest says that it comes from {name} {_short(told)}, its contract from "
                f"{_short(carried)}; {_AGAIN}"
            )
    if not chain.get("onnx"):
        raise BadInput(f"{where}: the chain in its manifest names no ONNX file that it was made from; {_AGAIN}")
    if not isinstance(manifest.get("target"), str) or not manifest["target"]:
        raise BadInput(f"{where}: its manifest does not say which target it is for; {_AGAIN}")
    versions = manifest.get("versions")
    if not isinstance(versions, dict) or not versions:
        raise BadInput(f"{where}: its manifest does not say by which versions of its tools it was made; {_AGAIN}")


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON of one form only: sorted keys, no spaces, ASCII. A manifest's equals that of what is read from its file."""
    once = json.loads(json.dumps(value, allow_nan=False))  # keys become text before they are sorted
    return json.dumps(once, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def unique_members(pairs: List[Any]) -> Dict[str, Any]:
    """For `json.loads(object_pairs_hook=)`: raises ValueError where a name comes twice.

    Of two members of one name, readers differ in which they take: a signed manifest could say one thing to the check
    and another to the library.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!a} is named twice")
    return members


def _mac(key: bytes, unsigned: Mapping[str, Any]) -> str:
    return hmac.new(key, b"signedge manifest 1\n" + canonical(unsigned), hashlib.sha256).hexdigest()


def _name(key: bytes) -> str:
    """What a key is called: 16 hex digits that tell keys apart and tell nothing of the key."""
    return hmac.new(key, b"signedge key 1\n", hashlib.sha256).hexdigest()[:16]


def _own_key(make: bool) -> bytes:
    """The user's key; `make` it if there is none. Raises `_NoKey`."""
    path = key_path()
    try:
        return _read_key(path)
    except FileNotFoundError as error:
        if not make:
            raise _NoKey(f"this user has no key yet ({path}), so nothing was signed with it") from error
    except OSError as error:
        raise _NoKey(f"cannot read the key {path}: {error.strerror or error}; {_ELSEWHERE}") from error
    try:
        _make_key(path)
        return _read_key(path)
    except OSError as error:
        raise _NoKey(f"cannot make a key at {path}: {error.strerror or error}; {_ELSEWHERE}") from error


def _read_key(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _NoKey(f"the key {path} is not a file")
        if found.st_mode & _TOO_OPEN:
            mode = stat.S_IMODE(found.st_mode)
            raise _NoKey(f"the key {path} is open to others (mode {mode:04o}) and proves nothing; chmod 600 {path}")
        if hasattr(os, "geteuid") and found.st_uid not in (os.geteuid(), 0) and not os.environ.get(KEY_VARIABLE):
            raise _NoKey(f"the key {path} belongs to another user")
        key = os.read(handle, _LONGEST + 1).strip()
    finally:
        os.close(handle)
    if not _SHORTEST <= len(key) <= _LONGEST:
        size = f"{len(key)} characters, not {_SHORTEST} to {_LONGEST}"
        raise _NoKey(f"the key {path} is damaged: it has {size}; remove it, and another will be made")
    return key


def _make_key(path: Path) -> None:
    """Write a new key whole or not at all; one that another process made meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # unlike a rename, it replaces nothing
    finally:
        temporary.unlink()


def _short(value: str) -> str:
    return f"{value[:12]}..." if value else "none"
