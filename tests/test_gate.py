"""The gate for kernels: it opens and closes at the stated ratio."""

from __future__ import annotations

import pytest

from benchmarks import gate


def spin(n):
    return lambda: sum(i * i for i in range(n))


@pytest.mark.parametrize(("floor", "status"), [(1.5, 0), (60.0, 1)])
def test_a_kernel_below_its_floor_fails_the_gate(floor, status, monkeypatch, capsys):
    monkeypatch.setattr(gate, "GATES", (
        gate.Gate("ten times", lambda: (spin(20_000), spin(200_000)), floor),))
    with pytest.raises(SystemExit) as end:
        gate.main([])
    assert end.value.code == status
    assert ("FAILED" in capsys.readouterr().out) == bool(status)


def test_every_floor_is_a_ratio_that_can_fail():
    assert all(each.floor > 0 for each in gate.GATES)
