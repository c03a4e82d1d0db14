"""Profiles: data that is checked, agrees with itself and with what vendors state, and what it says of a machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from devices import dialect as dialects
from devices import profile as profiles
from devices.host import Host, detect
from devices.schema import Profile, calculate
from runtime.errors import BadInput

HOST = Host("Some CPU", "x86_64", 4, ("avx2", "avx512_vnni"), 8192, "Linux")
ALL = profiles.profile_names()
WANTED = {
    "jetson-nano", "jetson-tx2", "jetson-xavier-nx", "jetson-agx-xavier",
    "jetson-orin-nano-4gb", "jetson-orin-nano-8gb", "jetson-orin-nano-4gb-super",
    "jetson-orin-nano-8gb-super", "jetson-orin-nx-8gb", "jetson-orin-nx-16gb",
    "jetson-agx-orin-32gb", "jetson-agx-orin-64gb", "jetson-t4000", "jetson-t5000", "t4", "l4", "a10", "a100", "h100",
    "h200", "rtx-3090", "rtx-4090", "rtx-5090", "x86-avx2", "x86-vnni", "raspberry-pi-4", "raspberry-pi-5",
}  # fmt: skip

# Dense operations per clock and SM, by compute capability: FP32, FP16 with sums in FP32, INT8.
OPERATIONS = {
    "5.3": (256, 512, None), "6.2": (256, 512, None), "7.2": (128, 1024, 2048), "7.5": (128, 1024, 2048),
    "8.0": (128, 2048, 4096), "8.6": (256, 1024, 2048), "8.7": (256, 2048, 4096), "8.9": (256, 1024, 2048),
    "9.0": (256, 4096, 8192), "11.0": (256, 8192, None), "12.0": (256, 512, 2048),
}  # fmt: skip
GEFORCE = (256, 512, 2048)  # sums in FP32 at half the rate of the data centre cards


@pytest.fixture(params=ALL)
def profile(request: pytest.FixtureRequest) -> Profile:
    return profiles.load(request.param)


def test_every_target_is_there_and_valid() -> None:
    assert set(ALL) >= WANTED
    assert all(profiles.load(name).name == name for name in ALL)
    assert profiles.names()[:2] == ["jetson", "x86-cpu"]  # families first


def test_peaks_are_clocks_times_sms_times_operations(profile: Profile) -> None:
    if profile.kind != "gpu":
        return
    clock = profile.figures["gpu_clock"].value
    tensor = profile.figures.get("tensor_clock", profile.figures["gpu_clock"]).value
    rates = GEFORCE if profile.family == "geforce" else OPERATIONS[profile.compute_capability]
    for precision, rate in zip(("fp32", "fp16", "int8"), rates, strict=True):
        peak = profile.peak(precision)
        if rate is None:
            assert peak is None
            continue
        hertz = clock if precision == "fp32" else tensor
        assert peak is not None and peak.value == pytest.approx(hertz * profile.sms * rate / 1e6, rel=0.03), precision


def test_narrower_numbers_are_never_slower(profile: Profile) -> None:
    peaks = [peak.value for precision in ("fp32", "fp16", "int8") if (peak := profile.peak(precision))]
    assert peaks == sorted(peaks)
    assert all(profile.peak(precision) is None for precision in profile.lacks)


def test_headline_of_orin_is_gpu_and_dla_with_zeros_skipped(profile: Profile) -> None:
    if profile.soc == "tegra234":
        dla = profile.dla.count * profile.dla.int8.value if profile.dla else 0
        whole = 2 * (profile.figures["int8_peak"].value + dla)
        assert whole == pytest.approx(profile.figures["marketing_tops"].value, rel=0.03)


def test_bandwidth_is_within_what_clock_and_bus_allow(profile: Profile) -> None:
    figures = profile.figures
    if "memory_clock" in figures:
        widest = figures["memory_clock"].value * 2 * figures["memory_bus"].value / 8 / 1000
        assert figures["bandwidth"].value == pytest.approx(widest, rel=0.03)


def test_every_figure_has_unit_and_origin(profile: Profile) -> None:
    figures = [*profile.figures.values(), *([profile.dla.clock, profile.dla.int8] if profile.dla else [])]
    assert all(item.unit and item.origin and item.value > 0 for item in figures)
    assert not any(item.source.isidentifier() for item in figures)  # a short name whose text is missing


def test_power_modes_cap_and_never_exceed(profile: Profile) -> None:
    modes = profile.power_modes
    assert [mode.id for mode in modes] == list(range(len(modes)))
    for mode in modes:
        assert mode.sms is None or mode.sms <= profile.sms
        assert mode.gpu_mhz is None or mode.gpu_mhz <= profile.figures["gpu_clock"].value
        assert mode.dla_mhz is None or (profile.dla and mode.dla_mhz <= profile.dla.clock.value)


def test_missing_precisions_are_explained() -> None:
    for name in ("jetson-nano", "jetson-tx2"):
        lack = profiles.load(name).lacks["int8"]
        assert "platform_has_fast_int8" in lack.reason and lack.instead.startswith("fp16")
    assert "A72" in profiles.load("raspberry-pi-4").lacks["fp16"].reason
    assert "FP32" in profiles.load("x86-vnni").lacks["fp16"].reason


def test_software_speaks_dialects_that_exist() -> None:
    for row in profiles.software().values():
        assert dialects.load(row.dialect).name == row.dialect
    used = {row.key for name in ALL for row in profiles.load(name).software}
    assert used == set(profiles.software())  # no row that no target has
    releases = [l4t for row in profiles.software().values() for l4t in row.releases]
    assert len(releases) == len(set(releases)) and not set(releases) & set(profiles._too_old())


def test_unverified_figures_are_told_and_so_is_what_rests_on_them() -> None:
    thor = profiles.load("jetson-t4000")
    assert thor.figures["gpu_clock"].unverified and thor.doubts("fp32_peak") == ("gpu_clock",)
    assert not profiles.load("jetson-orin-nano-8gb").doubts("fp16_peak")


def test_members_know_their_machines_and_when_int8_is_exact() -> None:
    old, pi = dataclasses.replace(HOST, flags=("avx2",)), dataclasses.replace(HOST, machine="aarch64", flags=("asimd",))
    avx2, vnni = profiles.load("x86-avx2"), profiles.load("x86-vnni")
    assert vnni.runs_on(HOST) and not vnni.runs_on(old) and vnni.int8_exact
    assert avx2.runs_on(old) and not avx2.int8_exact  # made for machines without VNNI, wherever it is built
    five = profiles.load("raspberry-pi-5")
    assert five.runs_on(dataclasses.replace(pi, board="Raspberry Pi 5 Model B Rev 1.0")) and not five.runs_on(pi)


def test_unknown_target_names_the_known_ones() -> None:
    for known in (profiles.load, profiles.resolve):
        with pytest.raises(BadInput, match="no target 'toaster'; known targets: jetson, x86-cpu, a10, "):
            known("toaster")
        with pytest.raises(BadInput, match=r"no target 'rtx4090'; did you mean rtx-4090 "):
            known("rtx4090")
        with pytest.raises(BadInput, match=r"no target 'orin-nx'; did you mean jetson-orin-nx-16gb or "):
            known("orin-nx")


@pytest.mark.parametrize(
    "name, line, change, words",
    [
        ("x86-vnni", "description", 'description = "d"\ncolour = "red"', "colour: Extra inputs"),
        ("x86-vnni", "description", "", "description: Field required"),
        ("x86-vnni", "machines", "machines = 'x86_64'", "machines: Input should be a valid tuple"),
        ("x86-vnni", "kind", 'kind = "abacus"', "kind: String should match"),
        ("x86-vnni", "name", 'name = "other"', "name and file must agree"),
        ("x86-vnni", "name", "name = ", "cannot read profile"),
        ("x86-vnni", "software", 'software = ["windows-95"]', "software 'windows-95' is not in software.toml"),
        ("x86-vnni", "precisions", 'precisions = ["fp32"]', "either in precisions or, with the reason, in lacks"),
        ("x86-vnni", "fp32_per_clock", 'clock = { value = 1, unit = "MHz" }', "clock: .* needs a source or a formula"),
        ("t4", "sms", "", "needs compute_capability, sms and chip_source"),
        ("t4", "bandwidth", "", "figures.bandwidth is missing"),
        ("jetson-nano", "power_source", "", "power_modes need power_source"),
        ("jetson-nano", "gpu_clock", 'gpu_clock = { value = 800, unit = "MHz", source = "x" }', "fp32_peak is 0.2359"),
        ("jetson-nano", "fp16_peak", 'fp16_peak = { value = 1, unit = "T", formula = "warp * 9" }', "no figure 'warp'"),
        ("jetson-nano", "fp16_peak", 'fp16_peak = { value = 1, unit = "T", formula = "sms ** 2" }', "only names"),
    ],
)
def test_broken_profile_is_told_by_file_and_field(
    tmp_path: Path, name: str, line: str, change: str, words: str
) -> None:
    path = tmp_path / f"{name}.toml"
    lines = (profiles.FOLDER / path.name).read_text().splitlines()
    assert sum(item.startswith(f"{line} =") for item in lines) == 1
    path.write_text("\n".join(change if item.startswith(f"{line} =") else item for item in lines))
    with pytest.raises(BadInput, match=words) as error:
        profiles.parse(path)
    assert str(path) in str(error.value)


def test_formulas_are_sums_and_products_only() -> None:
    assert calculate("(a + 2) * b / 4 - 1", {"a": 2, "b": 3}) == 2
    for formula in ("__import__('os')", "a.b", "a if a else 1", "'x'"):
        with pytest.raises((ValueError, SyntaxError)):
            calculate(formula, {"a": 1})


def test_this_machine_is_recognised() -> None:
    host = detect()
    assert host.cpu and host.machine and host.cores >= 1 and host.os
    assert all(isinstance(value, str) for value in host.described().values())


def _machine(root: Path, cpuinfo: str, meminfo: str = "", limit: str = "") -> Path:
    for name, text in (("proc/cpuinfo", cpuinfo), ("proc/meminfo", meminfo), ("sys/fs/cgroup/memory.max", limit)):
        if text:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def test_other_machines_are_read_from_their_files(tmp_path: Path) -> None:
    x86 = _machine(
        tmp_path / "x86",
        "model name\t: Fast CPU\nflags\t\t: fpu avx2 avx512_vnni\nmodel name\t: Other\n",
        "MemTotal:       16777216 kB\nMemFree: 1 kB\n",
        "4294967296\n",
    )
    host = detect(x86)
    assert host.cpu == "Fast CPU" and host.flags == ("avx2", "avx512_vnni") and host.board == ""
    assert host.memory_mb == 4096  # the container's limit, not the machine's 16 GiB
    arm = detect(_machine(tmp_path / "arm", "Features : asimd asimddp\nModel : Raspberry Pi 5\n", limit="max\n"))
    assert arm.cpu == "Raspberry Pi 5" and arm.flags == ("asimd", "asimddp") and arm.memory_mb is None
    assert detect(tmp_path / "nowhere").described()["memory"] == "unknown"
