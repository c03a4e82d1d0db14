"""Files by which a machine tells what it is, as real boards have them."""

from __future__ import annotations

from pathlib import Path

from devices import jetson

RELEASE = "# R{} (release), REVISION: {}, GCID: 38968081, BOARD: generic, EABI: aarch64, "
RELEASE += "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"

# Device tree's model, its compatible list, L4T, MemTotal in kB -> profile, software key, JetPack.
BOARDS = {
    "orin nano 8gb, JetPack 5": (
        "NVIDIA Orin Nano Developer Kit",
        "nvidia,p3768-0000+p3767-0003 nvidia,p3768-0000+p3767-0005 nvidia,p3767-0003 nvidia,p3767-0005 nvidia,tegra234 "
        "nvidia,tegra23x",
        ("35", "3.1"), 6481404, "jetson-orin-nano-8gb", "5.1", "JetPack 5.1.1",
    ),
    "orin nano super": (
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "nvidia,p3768-0000+p3767-0005-super nvidia,p3767-0005 nvidia,tegra234",
        ("36", "4.7"), 7802996, "jetson-orin-nano-8gb-super", "6.2", "JetPack 6.2.1",
    ),
    "orin nano super of an image that names itself first": (
        "NVIDIA Jetson Orin Nano Developer Kit",
        "oe4t,p3768-0000+p3767-0005+tegrademo nvidia,p3768-0000+p3767-0005-super nvidia,p3767-0005 nvidia,tegra234",
        ("36", "5.0"), 7802996, "jetson-orin-nano-8gb-super", "6.2", "JetPack 6.2.2",
    ),
    "orin nano 4gb": (
        "NVIDIA Jetson Orin Nano", "nvidia,p3768-0000+p3767-0004 nvidia,p3767-0004 nvidia,tegra234",
        ("36", "4.3"), 3608000, "jetson-orin-nano-4gb", "6.2", "JetPack 6.2",
    ),
    "orin nx 16gb": (
        "NVIDIA Jetson Orin NX", "nvidia,p3509-0000+p3767-0000 nvidia,p3767-0000 nvidia,tegra234",
        ("36", "3.0"), 15655940, "jetson-orin-nx-16gb", "6.0", "JetPack 6.0",
    ),
    "agx orin 64gb": (
        "NVIDIA Jetson AGX Orin Developer Kit", "nvidia,p3737-0000+p3701-0005 nvidia,p3701-0005 nvidia,tegra234",
        ("39", "2.0"), 64325016, "jetson-agx-orin-64gb", "7.2", "JetPack 7.2",
    ),
    "agx orin 32gb": (
        "NVIDIA Jetson AGX Orin", "nvidia,p3737-0000+p3701-0004 nvidia,p3701-0004 nvidia,tegra234",
        ("36", "4.0"), 31282560, "jetson-agx-orin-32gb", "6.1", "JetPack 6.1",
    ),
    "thor": (
        "NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008 nvidia,p3834-0008 nvidia,tegra264",
        ("38", "2.0"), 128800000, "jetson-t5000", "7.0", "JetPack 7.0",
    ),
    "xavier nx": (
        "NVIDIA Jetson Xavier NX Developer Kit", "nvidia,p3509-0000+p3668-0001 nvidia,p3668-0001 nvidia,tegra194",
        ("35", "4.1"), 6847184, "jetson-xavier-nx", "5.1", "JetPack 5.1.2",
    ),
    "agx xavier": (
        "Jetson-AGX", "nvidia,galen nvidia,jetson-xavier nvidia,tegra194",
        ("32", "7.1"), 32689000, "jetson-agx-xavier", "4.6", "JetPack 4.6.1",
    ),
    "tx2": (
        "quill", "nvidia,p2597-0000+p3310-1000 nvidia,tegra186",
        ("32", "7.6"), 8046480, "jetson-tx2", "4.6", "JetPack 4.6.6",
    ),
    "nano": (
        "NVIDIA Jetson Nano Developer Kit", "nvidia,p3449-0000-b00+p3448-0000-b00 nvidia,jetson-nano nvidia,tegra210",
        ("32", "7.5"), 4059304, "jetson-nano", "4.6", "JetPack 4.6.5",
    ),
}  # fmt: skip


def board(
    root: Path, model: str, compatible: str, l4t: tuple[str, str] | None = ("36", "4.3"), memory_kb: int = 7802996
) -> Path:
    """A file tree of a Jetson: strings of the device tree end in NUL."""
    files = {
        jetson.MODEL: model + "\0",
        jetson.COMPATIBLE: "".join(f"{item}\0" for item in compatible.split()),
        "proc/meminfo": f"MemTotal:       {memory_kb} kB\nMemFree:          187000 kB\n",
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimdhp asimddp\nCPU part\t: 0xd42\n",
    }
    if l4t:
        files[jetson.RELEASE] = RELEASE.format(*l4t)
    return written(root, files)


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root
