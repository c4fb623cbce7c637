from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_tasks import defect, die, refuse_name, refuse_three, refuse_three_and_rest, square, tell, threads
from geodistill.engine import TRIES, Machines, WorkerError, run_tasks
from geodistill.errors import DataError, RecipeError, UnknownNameError
from where import SUPPORT


def wait_for(path: Path, seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while not path.is_file() or not path.read_text():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)
    return path.read_text()


def kill_worker_of(path: Path) -> threading.Thread:
    """Kill the process whose id the file holds, as soon as it is there."""
    thread = threading.Thread(target=lambda: os.kill(int(wait_for(path)), signal.SIGKILL))
    thread.start()
    return thread


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_one_worker_keeps_the_order_and_starts_late() -> None:
    begun: list[int] = []

    def note(value: int) -> int:
        begun.append(value)
        return -value

    results = run_tasks(note, [5, 6, 7], keep_going=True)
    assert begun == []
    assert [(r.index, r.item, r.value, r.error) for r in results] == [
        (0, 5, -5, None),
        (1, 6, -6, None),
        (2, 7, -7, None),
    ]


def test_no_items_no_results() -> None:
    assert list(run_tasks(square, [], Machines(workers=3), keep_going=True)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_are_results_and_the_run_goes_on(workers: int) -> None:
    results = sorted(
        run_tasks(refuse_three, range(6), Machines(workers=workers), keep_going=True), key=lambda r: r.index
    )
    assert [r.value for r in results] == [0, 1, 2, None, 4, 5]
    error = results[3].error
    assert isinstance(error, DataError)
    assert (error.received, error.expected, error.mend) == ("item 3", "another", "leave it out")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_failure_ends_the_run(workers: int) -> None:
    values: list[int | None] = []
    results = run_tasks(refuse_three_and_rest, range(1000), Machines(workers=workers), keep_going=False)
    with pytest.raises(DataError, match="item 3"):
        values.extend(result.value for result in results)
    assert None not in values
    assert {0, 1, 2} <= set(values)
    # Others go on until the refusal comes, however late the machine lets it: 10 s late, not to the end.
    assert len(values) < 200 * workers


def test_errors_of_every_kind_cross_processes() -> None:
    (result, _) = run_tasks(refuse_name, [8, 9], Machines(workers=2), keep_going=True)
    assert isinstance(result.error, UnknownNameError)
    assert "one of one, two" in str(result.error)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_defect_ends_the_run(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(run_tasks(defect, [1, 2], Machines(workers=workers), keep_going=True))


def test_a_killed_process_costs_a_try_and_nothing_else(tmp_path: Path) -> None:
    items = [(tmp_path, i, 30.0 if i == 2 else 0.05) for i in range(8)]
    killer = kill_worker_of(tmp_path / "2.0")
    results = list(run_tasks(tell, items, Machines(workers=2), keep_going=True))
    killer.join()
    assert sorted(r.index for r in results) == list(range(8))
    assert all(r.error is None and r.value is not None and r.value[0] == r.index for r in results)
    assert (tmp_path / "2.1").exists()
    assert sorted(p.name for p in tmp_path.glob("*.1")) == ["2.1"]


def test_an_item_that_kills_every_worker_fails_alone(tmp_path: Path) -> None:
    results = {
        r.index: r for r in run_tasks(die, [(tmp_path, i) for i in range(4)], Machines(workers=2), keep_going=True)
    }
    assert isinstance(results.pop(1).error, WorkerError)
    assert [results[i].value for i in (0, 2, 3)] == [0, 2, 3]
    assert len(list(tmp_path.iterdir())) == TRIES


def test_leaving_early_ends_the_processes(tmp_path: Path) -> None:
    results = run_tasks(tell, [(tmp_path, 0, 0.0), (tmp_path, 1, 60.0)], Machines(workers=2), keep_going=True)
    first = next(results)
    assert first.value is not None
    sleeper = int(wait_for(tmp_path / "1.0"))
    results.close()  # type: ignore[attr-defined]
    assert not alive(first.value[1])
    assert not alive(sleeper)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from engine_tasks import tell; from geodistill.engine import Machines, run_tasks\n"
        f"if __name__ == '__main__':\n    p = Path({str(tmp_path)!r})\n"
        "    list(run_tasks(tell, [(p, 0, 60.0), (p, 1, 60.0)], Machines(workers=2), keep_going=True))\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    env = os.environ | {"PYTHONPATH": str(SUPPORT)}
    parent = subprocess.Popen([sys.executable, str(script)], env=env)
    pids = [int(wait_for(tmp_path / f"{i}.0")) for i in (0, 1)]
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert [pid for pid in pids if alive(pid)] == []


def test_processes_share_the_cores() -> None:
    told = {r.value for r in run_tasks(threads, range(4), Machines(workers=2), keep_going=True)}
    assert told == {str(max((os.cpu_count() or 1) // 2, 1))}


def test_wrong_arguments() -> None:
    with pytest.raises(UnknownNameError, match="one of local, ray"):
        run_tasks(square, [1], Machines(engine="dask"), keep_going=True)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="0 workers"):
        run_tasks(square, [1], Machines(workers=0), keep_going=True)


def test_without_ray_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r"geodistill\[ray\]"):
        list(run_tasks(square, [1], Machines(engine="ray"), keep_going=True))


def test_ray_does_not_load_with_the_engine() -> None:
    code = "import sys, geodistill.engine; sys.exit('ray' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture
def ray_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's processes find the functions of `engine_tasks`; nothing stays running."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT), *sys.path]))
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else they get nothing done on a busy machine
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_path")
def test_a_ray_worker_killed_mid_run_loses_and_doubles_nothing(tmp_path: Path) -> None:
    import ray

    items = [(tmp_path, i, 30.0 if i == 2 else 0.05) for i in range(8)]
    killer = kill_worker_of(tmp_path / "2.0")
    results = list(run_tasks(tell, items, Machines(engine="ray", workers=2), keep_going=True))
    killer.join()
    assert sorted(r.index for r in results) == list(range(8))
    assert all(r.error is None and r.value is not None and r.value[0] == r.index for r in results)
    assert sorted(p.name for p in tmp_path.glob("*.1")) == ["2.1"]
    assert len({r.value[1] for r in results if r.value}) >= 2
    assert not ray.is_initialized()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_path")
def test_failures_over_ray(tmp_path: Path) -> None:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, logging_level="error")  # a place for one of two workers
    results = sorted(
        run_tasks(refuse_three, range(5), Machines(engine="ray", workers=2), keep_going=True), key=lambda r: r.index
    )
    assert [r.value for r in results] == [0, 1, 2, None, 4]
    assert isinstance(results[3].error, DataError)
    with pytest.raises(DataError, match="item 3"):
        list(run_tasks(refuse_three, range(5), Machines(engine="ray"), keep_going=False))
    with pytest.raises(ZeroDivisionError):
        list(run_tasks(defect, [1], Machines(engine="ray"), keep_going=True))
    died = {
        r.index: r for r in run_tasks(die, [(tmp_path, i) for i in range(3)], Machines(engine="ray"), keep_going=True)
    }
    assert isinstance(died[1].error, WorkerError)
    assert len(list(tmp_path.iterdir())) == TRIES
    with pytest.raises(RecipeError, match="2 GPUs an item and 0 in the Ray cluster"):
        list(run_tasks(square, [1], Machines(engine="ray", gpus=2), keep_going=True))
    assert ray.is_initialized(), "a cluster that was joined stays"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_path")
def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    begun = time.monotonic()
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", f"[::1]:{port}", "127.0.0.1:70000"):
        with pytest.raises(RecipeError, match=re.escape(f"no Ray cluster at {address} (")) as caught:
            list(run_tasks(square, [1], Machines(engine="ray", address=address), keep_going=True))
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(RecipeError, match="no Ray cluster at 127"):
        list(run_tasks(square, [1], Machines(engine="ray"), keep_going=True))
    assert time.monotonic() - begun < 240, "Ray itself tries for many minutes an address"


@pytest.mark.usefixtures("ray_path")
def test_no_cluster_to_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def finds_none(**_: object) -> None:  # as on a machine without one: others' tests may run theirs on this one
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify the one to connect to.")

    monkeypatch.setattr(pytest.importorskip("ray"), "init", finds_none)
    with pytest.raises(
        RecipeError, match=r"no Ray cluster at auto \(Could not find any running Ray instance"
    ) as caught:
        list(run_tasks(square, [1], Machines(engine="ray", address="auto"), keep_going=True))
    assert "\n" not in str(caught.value)
