"""I limiti come dati, la loro traduzione nei file delle due versioni, il conto letto da quei file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import rundir
from labkit.client import accounting, options
from labkit.engine.limits import Setting, limit_operations, settings, supported
from labkit.errors import InvalidError, NotFoundError
from labkit.kernel import accounts, cgroups
from labkit.kernel.cgroups import CONTROLLERS, SWAP, Cgroup, Hierarchy
from labkit.limits import UNLIMITED, Limits, Stats, show_bytes
from labkit.model import to_json

MIB = 1 << 20

LIMITS = st.builds(
    Limits,
    memory=st.sampled_from([0, 6 * MIB, 64 * MIB]),
    cpus=st.sampled_from([0.0, 0.01, 0.5, 2.0]),
    cpu_shares=st.sampled_from([0, 2, 512, 262144]),
    cpuset_cpus=st.sampled_from(["", "0", "0-1"]),
    pids_limit=st.integers(0, 1000),
    device_read_bps=st.sampled_from([(), (("/dev/sda", MIB),), (("/dev/sda", 5), ("/dev/sdb", 7))]),
)


# ---- as data


@given(LIMITS)
def test_limits_cross_the_wire_as_they_are(limits: Limits) -> None:
    assert Limits.from_json(to_json(limits)) == limits


@pytest.mark.parametrize(
    ("given_", "read"),
    [
        ({"memory": "64m"}, Limits(memory=64 * MIB)),
        ({"memory": 64 * MIB, "memory_swap": -1}, Limits(memory=64 * MIB, memory_swap=-1)),
        ({"memory": "-1", "pids_limit": -1}, UNLIMITED),
        ({"cpus": "0.5", "cpu_shares": "512", "pids_limit": "9"}, Limits(cpus=0.5, cpu_shares=512, pids_limit=9)),
        ({"cpuset_cpus": 0}, Limits(cpuset_cpus="0")),
        ({"device_read_bps": "/dev/sda:4m"}, Limits(device_read_bps=(("/dev/sda", 4 * MIB),))),
        ({"device_read_bps": {"/dev/sda": "1k"}}, Limits(device_read_bps=(("/dev/sda", 1024),))),
        (
            {"device_write_bps": ["/dev/sda:1", "/dev/sdb:2"]},
            Limits(device_write_bps=(("/dev/sda", 1), ("/dev/sdb", 2))),
        ),
    ],
)
def test_limits_are_written_as_in_docker(given_: dict[str, object], read: Limits) -> None:
    assert options.spec("busybox", None, **given_).limits == read


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": 5 * MIB}, {"memory": -1}, {"memory": 1.5}, {"memory": True}, {"memory_swap": MIB},
        {"memory": 64 * MIB, "memory_swap": 6 * MIB}, {"cpus": 0.001}, {"cpus": "1"}, {"cpus": -1}, {"cpu_shares": 1},
        {"cpu_shares": 262145}, {"cpuset_cpus": "0;1"}, {"cpuset_cpus": "٣"}, {"pids_limit": -1},
        {"pids_limit": 1 << 62}, {"device_read_bps": (("sda", 1),)}, {"device_read_bps": (("/dev/sda", 0),)},
    ],
)  # fmt: skip
def test_a_wrong_limit_is_refused_at_birth(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        Limits(**wrong)  # type: ignore[arg-type]


def test_an_unknown_limit_on_the_wire_is_refused() -> None:
    with pytest.raises(InvalidError, match="Limiti sconosciuti: ram"):
        Limits.from_json({"ram": 1})


def test_a_change_keeps_the_rest() -> None:
    limits = Limits(memory=64 * MIB, cpus=0.5)
    assert limits.changed({"cpus": 2.0}) == Limits(memory=64 * MIB, cpus=2.0)


# ---- the translation

SIXTY_FOUR = {"memory.max": "67108864", "memory.oom.group": "1"}


@pytest.mark.parametrize(
    ("limits", "written"),
    [
        (Limits(memory=64 * MIB), {**SIXTY_FOUR, "memory.swap.max": "67108864"}),
        (Limits(memory=64 * MIB, memory_swap=64 * MIB), {**SIXTY_FOUR, "memory.swap.max": "0"}),
        (Limits(memory=64 * MIB, memory_swap=-1), {**SIXTY_FOUR, "memory.swap.max": "max"}),
        (Limits(cpus=1.5), {"cpu.max": "150000 100000"}),
        (Limits(cpu_shares=1024), {"cpu.weight": "100"}),
        (Limits(cpuset_cpus="0-1"), {"cpuset.cpus": "0-1"}),
        (Limits(pids_limit=20), {"pids.max": "20"}),
        (Limits(device_read_bps=(("/dev/sda", 5),)), {"io.max": "/dev/sda rbps=5"}),
        (UNLIMITED, {}),
    ],
)  # fmt: skip
def test_a_limit_becomes_a_file_of_version_two(limits: Limits, written: dict[str, str]) -> None:
    assert {setting.file: setting.value for setting in settings(limits)} == written


@given(LIMITS, LIMITS)
def test_a_change_and_its_undoing_write_the_same_files(one: Limits, other: Limits) -> None:
    assert [setting.file for setting in settings(one, other)] == [setting.file for setting in settings(other, one)]
    assert settings(one, one) == ()


@pytest.mark.parametrize(
    ("file", "value", "written"),
    [
        ("memory.max", "67108864", (("memory.limit_in_bytes", "67108864"),)),
        ("memory.max", "max", (("memory.limit_in_bytes", "-1"),)),
        ("cpu.max", "max 100000", (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "-1"))),
        ("cpu.weight", "100", (("cpu.shares", "1024"),)),
        ("pids.max", "max", (("pids.max", "max"),)),
        (
            "io.max",
            "8:0 rbps=5 wbps=max",
            (("blkio.throttle.read_bps_device", "8:0 5"), ("blkio.throttle.write_bps_device", "8:0 0")),
        ),
    ],
)
def test_what_version_two_says_version_one_says_in_its_files(
    file: str, value: str, written: tuple[tuple[str, str], ...]
) -> None:
    assert cgroups.spell(file, value) == written


def test_what_version_one_does_not_have_is_said() -> None:
    with pytest.raises(NotFoundError, match=r"La versione 1 dei cgroup non ha «memory.oom.group»"):
        cgroups.spell("memory.oom.group", "1")


@given(st.integers(1, 10000))
def test_weight_and_shares_are_each_others_contrary(weight: int) -> None:
    assert abs(cgroups.weight(cgroups.shares(weight)) - weight) <= max(1, weight // 50)


def test_a_limit_that_cannot_be_had_leaves_and_says_why() -> None:
    group = Cgroup((Hierarchy(1, ("pids",), "/x/pids"),))
    kept, lines = supported(group, Limits(memory=64 * MIB, pids_limit=9), {"memory": "lo scrive solo root"})
    assert kept == Limits(pids_limit=9)
    (line,) = lines
    assert line.startswith("Il limite memory qui non vale: lo scrive solo root. Rimedio: ")


def test_where_there_is_no_memory_controller_the_sum_with_swap_goes_too() -> None:
    kept, lines = supported(Cgroup(()), Limits(memory=16 * MIB, memory_swap=16 * MIB), {"": "lo scrive solo root"})
    assert kept == UNLIMITED
    assert [line.split(":")[0] for line in lines] == [
        "Il limite memory qui non vale",
        "Il limite memory_swap qui non vale",
    ]


def test_on_version_one_there_is_no_file_for_dying_together() -> None:
    group = Cgroup((Hierarchy(1, ("memory", SWAP), "/x/memory"),))
    files = [operation.setting.file for operation in limit_operations(group, Limits(memory=64 * MIB))]
    assert files == ["memory.max", "memory.swap.max"]
    assert group.path("memory.max") == "/x/memory/memory.limit_in_bytes"


# ---- folders that look like cgroups


@pytest.fixture
def two(tmp_path: Path) -> Cgroup:
    return Cgroup((Hierarchy(2, CONTROLLERS, str(tmp_path)),))


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def test_the_account_of_version_two(tmp_path: Path, two: Cgroup) -> None:
    fill(tmp_path, {
        "memory.current": "4096\n", "memory.peak": "8192\n", "memory.max": "max\n",
        "memory.events": "oom 2\noom_kill 1\n",
        "cpu.stat": "usage_usec 1500000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 250000\n",
        "pids.current": "3\n", "pids.max": "20\n", "pids.events": "max 7\n",
        "io.stat": "8:0 rbytes=100 wbytes=50 rios=1\n8:16 rbytes=1 wbytes=2\n",
        "cpu.pressure": "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\n",
    })  # fmt: skip
    stats = Stats.from_json({"name": "c", "time": 1.0, **accounts.account(two)})
    assert stats == Stats(
        "c", 1.0, memory=4096, memory_peak=8192, oom_kills=1, cpu_seconds=1.5, periods=10, throttled_periods=4,
        throttled_seconds=0.25, pids=3, pids_limit=20, pids_refused=7, io_read=101, io_written=52,
        pressure={"cpu": 12.5},
    )  # fmt: skip


def test_the_account_of_version_one_says_the_same(tmp_path: Path) -> None:
    group = Cgroup(tuple(Hierarchy(1, (name,), str(tmp_path)) for name in ("memory", "cpu", "cpuacct", "pids", "io")))
    fill(tmp_path, {
        "memory.usage_in_bytes": "4096\n", "memory.max_usage_in_bytes": "8192\n",
        "memory.limit_in_bytes": "9223372036854771712\n", "memory.oom_control": "under_oom 0\noom_kill 1\n",
        "cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 250000000\n", "cpuacct.usage": "1500000000\n",
        "pids.current": "3\n", "pids.max": "max\n", "pids.events": "max 7\n",
        "blkio.throttle.io_service_bytes": "8:0 Read 100\n8:0 Write 50\n8:0 Total 150\nTotal 150\n",
    })  # fmt: skip
    stats = Stats.from_json({"name": "c", "time": 1.0, **accounts.account(group)})
    assert stats == Stats(
        "c", 1.0, memory=4096, memory_peak=8192, oom_kills=1, cpu_seconds=1.5, periods=10, throttled_periods=4,
        throttled_seconds=0.25, pids=3, pids_refused=7, io_read=100, io_written=50,
    )  # fmt: skip


def test_a_group_that_is_gone_has_an_empty_account(two: Cgroup) -> None:
    assert accounts.account(two).get("memory") is None
    assert accounts.oom_kills(two) == 0


@pytest.mark.parametrize("record", ["", "6,1,2,-;qualcosa", "oom-kill:task_memcg=,task=,pid=x,uid=0"])
def test_a_line_of_the_kernel_that_is_not_about_a_victim_is_nothing(record: str) -> None:
    assert accounts.victim(record) is None


def test_a_name_that_leaves_its_folder_is_no_group(two: Cgroup) -> None:
    for name in ("", "..", "a/b", ".nascosto", "a\0b"):
        with pytest.raises(InvalidError):
            two.child(name)


# ---- what a dead lab left


def test_only_groups_of_dead_labs_of_this_pid_namespace_are_removed(tmp_path: Path) -> None:
    me, born = os.getpid(), rundir.start_time(os.getpid())
    here = os.stat("/proc/self/ns/pid").st_ino
    dead = [f"labkit-{me}-{born + 1}-{here}", f"labkit-{me}-{born + 1}-{here}-guard"]
    others = [
        rundir.cgroup_name(me, born),
        f"labkit-{me}-{born + 1}-1",
        "labkit-prova",
        "labkit-1-2",
        "docker",
        f"x-{me}-1-{here}",
    ]
    for name in (*dead, *others):
        (tmp_path / name / "c1").mkdir(parents=True)
    rundir.reap_cgroups(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


# ---- the table of `labkit stats`


def test_the_table_shows_what_is_not_counted_with_a_dash() -> None:
    before = {"a": Stats("a", 1.0, cpu_seconds=1.0)}
    now = {
        "a": Stats("a", 2.0, memory=16 * MIB, memory_limit=64 * MIB, cpu_seconds=1.5, pids=3, pids_limit=9,
                   io_read=1024, io_written=0, oom_kills=1),
        "b": Stats("b", 2.0),
    }  # fmt: skip
    lines = [line.split("   ") for line in accounting.table(before, now).splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows[1] == ["a", "50.0", "16 MiB / 64 MiB", "25.0", "3 / 9", "1 KiB / 0 B", "1"]
    assert rows[2] == ["b", "–", "– / –", "–", "–", "– / –", "–"]


@given(st.integers(0, 1 << 50))
def test_bytes_are_said_in_a_few_letters(count: int) -> None:
    assert len(show_bytes(count)) <= 14


def test_a_setting_says_what_it_means() -> None:
    assert settings(Limits(pids_limit=20)) == (Setting("pids.max", "20", "al massimo 20 processi e thread"),)
