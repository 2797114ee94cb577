"""The CPUs that a process may use: by its affinity and by the quotas of its cgroups."""

import os
from pathlib import Path

import pytest

import asr.cpus
from asr.cpus import available_cpus

_CGROUP = "proc/self/cgroup"
_MOUNT = "sys/fs/cgroup"


def _files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


_V1 = "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n0::/\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, 16, id="no cgroups"),
        pytest.param({_CGROUP: "0::/\n"}, 16, id="v2, no controller"),
        pytest.param({_CGROUP: "0::/\n", f"{_MOUNT}/cpu.max": "max 100000\n"}, 16, id="v2, no quota"),
        pytest.param({_CGROUP: "0::/\n", f"{_MOUNT}/cpu.max": "200000 100000\n"}, 2, id="v2"),
        pytest.param({_CGROUP: "0::/\n", f"{_MOUNT}/cpu.max": "150000 100000\n"}, 2, id="v2, rounded up"),
        pytest.param({_CGROUP: "0::/\n", f"{_MOUNT}/cpu.max": "10000 100000\n"}, 1, id="v2, less than one"),
        pytest.param({_CGROUP: "0::/\n", f"{_MOUNT}/cpu.max": "6400000 100000\n"}, 16, id="v2, more than there are"),
        pytest.param({_CGROUP: "0::/a/b c\n", f"{_MOUNT}/a/b c/cpu.max": "300000 100000"}, 3, id="v2, a folder's name"),
        pytest.param(
            {
                _CGROUP: "0::/a.slice/b.service\n",
                f"{_MOUNT}/a.slice/b.service/cpu.max": "800000 100000",
                f"{_MOUNT}/a.slice/cpu.max": "400000 100000",
            },
            4,
            id="v2, the group above grants less",
        ),
        pytest.param({_CGROUP: "0::/../x\n", f"{_MOUNT}/cpu.max": "200000 100000"}, 2, id="v2, outside the namespace"),
        pytest.param({_CGROUP: "0::/\n", f"{_MOUNT}/cpu.max": "garbage"}, 16, id="v2, unreadable"),
        pytest.param({_CGROUP: "0::/\n", f"{_MOUNT}/cpu.max": "1 0"}, 16, id="v2, a period of none"),
        pytest.param(
            {
                _CGROUP: _V1,
                f"{_MOUNT}/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                f"{_MOUNT}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3,
            id="v1, in a container",
        ),
        pytest.param(
            {
                _CGROUP: _V1,
                f"{_MOUNT}/cpu/docker/ab/cpu.cfs_quota_us": "100000",
                f"{_MOUNT}/cpu/docker/ab/cpu.cfs_period_us": "50000",
            },
            2,
            id="v1, a folder of one name",
        ),
        pytest.param(
            {_CGROUP: _V1, f"{_MOUNT}/cpu/cpu.cfs_quota_us": "-1", f"{_MOUNT}/cpu/cpu.cfs_period_us": "100000"},
            16,
            id="v1, no quota",
        ),
        pytest.param(
            {
                _CGROUP: "2:cpuset:/\n",
                f"{_MOUNT}/cpuset/cpu.cfs_quota_us": "100000",
                f"{_MOUNT}/cpuset/cpu.cfs_period_us": "100000",
            },
            16,
            id="v1, another controller",
        ),
    ],
)  # fmt: skip
def test_a_quota_bounds_the_cpus(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asr.cpus, "_affinity", lambda: 16)
    assert available_cpus(_files(tmp_path, files)) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_the_affinity_bounds_the_cpus(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cpus(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_cpus(tmp_path) == len(before)
