"""What a Jetson tells of itself: device tree, L4T release, memory. Standard library only.

Facts only; which target and which JetPack they mean is data of the profiles (`devices.profile.resolve`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from devices.host import read_text, total_memory_mb

MODEL = "proc/device-tree/model"
COMPATIBLE = "proc/device-tree/compatible"
RELEASE = "etc/nv_tegra_release"
PACKAGES = "var/lib/dpkg/status"  # tells the release where a container hides /etc/nv_tegra_release

# "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: ..."
_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")
_PACKAGE = re.compile(r"^Package: nvidia-l4t-core\n(?:\S.*\n| .*\n)*?Version: (\d+(?:\.\d+)+)", re.MULTILINE)


class Jetson(NamedTuple):
    """One Jetson as its files describe it."""

    model: str  # as the device tree words it: "NVIDIA Jetson AGX Orin Developer Kit"
    compatible: Tuple[str, ...]  # the device tree's list: "nvidia,p3768-0000+p3767-0005-super", ...
    soc: str  # tegra210, tegra186, tegra194, tegra234, tegra264; "" where it is not told
    l4t: str  # release of Jetson Linux, "36.4.3"; "" where it is not told
    memory_mb: Optional[int]  # what the kernel manages: a little less than the module has


def read(root: Path = Path("/")) -> Optional[Jetson]:
    """What the files below `root` tell of this Jetson; None where they tell of none."""
    compatible = tuple(item.strip() for item in read_text(root / COMPATIBLE).split("\0") if item.strip())
    l4t = _l4t(root)
    socs = [item.split(",")[1] for item in compatible if re.match(r"nvidia,tegra\d+$", item)]
    if not socs and not l4t:
        return None
    return Jetson(
        model=read_text(root / MODEL).strip("\0 \n"),
        compatible=compatible,
        soc=socs[0] if socs else "",
        l4t=l4t,
        memory_mb=total_memory_mb(root),
    )


def tokens(jetson: Jetson) -> List[str]:
    """Numbers and names of module, carrier and chip in the device tree, vendor and board revision taken off.

    "nvidia,p3449-0000-b00+p3448-0000-b00" gives p3449-0000 and p3448-0000.
    """
    found = []
    for item in jetson.compatible:
        for word in item.split(",", 1)[-1].split("+"):
            number = re.match(r"p\d{4}-\d{4}(-super)?", word)
            found.append(number.group(0) if number else word)
    return found


def told(jetson: Jetson) -> str:
    """All that was read, in one line, for messages."""
    release = f"L4T {jetson.l4t}" if jetson.l4t else "no L4T release"
    memory = "memory unknown" if jetson.memory_mb is None else f"{jetson.memory_mb} MiB"
    return f"'{jetson.model}', {' '.join(jetson.compatible) or 'no device tree'}, {release}, {memory}"


def _l4t(root: Path) -> str:
    found = _RELEASE.search(read_text(root / RELEASE))
    if found:
        return ".".join(found.groups())
    package = _PACKAGE.search(read_text(root / PACKAGES))
    return package.group(1) if package else ""
