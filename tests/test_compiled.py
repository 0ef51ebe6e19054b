"""Kernels on disk: compiled once, never mixed up, and never a reason to stop."""

from __future__ import annotations

import compileall
import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

import mfcore
from mfcore import compiled

if os.environ.get("NUMBA_DISABLE_JIT") not in (None, "", "0"):
    pytest.skip("nothing is compiled", allow_module_level=True)

import numba  # noqa: E402
from numba import config  # noqa: E402
from numba.core import event  # noqa: E402
from numba.core.compiler import Flags  # noqa: E402
from numba.extending import intrinsic  # noqa: E402

PACKAGE = Path(mfcore.__file__).parent
FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder of kernels, and a process that has warned of nothing yet."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_told", False)
    compiled._remove_unused.cache_clear()
    return tmp_path / "cache" / "mfcore"


def kernel(factor=2):
    """A kernel as a new process finds it: not yet compiled, or on disk."""
    @compiled.njit()
    def times(x):
        return factor * x

    return times


def asked(factor=2, x=3):
    """Call a kernel in what stands for a new process; return whether it came from disk."""
    times = kernel(factor)
    assert times(x) == factor * x
    return bool(times.stats.cache_hits)


def only(folder):
    """The one file of a folder."""
    file, = folder.iterdir()
    return file


# ------------------------------------------------------------------- one file per kernel


def test_a_kernel_is_compiled_once_and_then_found(folder):
    assert [asked(), asked(), asked()] == [False, True, True]
    assert only(folder).suffix == ".nbc"


def test_each_signature_and_constant_has_a_file_of_its_own(folder):
    for factor in 2, 3:
        for x in 3, 3.0:
            assert not asked(factor, x)
    assert len(list(folder.iterdir())) == 4
    assert all(asked(factor, x) for factor in (2, 3) for x in (3, 3.0))


def written_kernel(factor):
    """A kernel of what is written in the language of LLVM, as a new process finds it."""
    @intrinsic
    def times(context, x):
        return x(x), lambda context, builder, signature, values: builder.mul(
            values[0], values[0].type(factor))

    @compiled.njit()
    def call(x):
        return times(x)

    return call


def test_what_is_written_for_a_kernel_is_known_by_its_constants_in_every_process(folder):
    for factor in 2, 3:
        for known in 0, 1:
            call = written_kernel(factor)
            assert call(5) == 5 * factor
            assert sum(call.stats.cache_hits.values()) == known
    assert len(list(folder.iterdir())) == 2


def test_a_folder_of_kernels_can_be_copied(folder, monkeypatch, tmp_path):
    asked()
    shutil.copytree(folder, tmp_path / "copy" / "mfcore")
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "copy"))
    assert asked()


def test_a_setting_that_changes_code_changes_the_file(folder, monkeypatch):
    asked()
    monkeypatch.setattr(config, "BOUNDSCHECK", 1)
    compiled.machine.cache_clear()
    try:
        assert not asked()
    finally:
        monkeypatch.undo()
        compiled.machine.cache_clear()
    assert len(list(folder.iterdir())) == 2


def test_code_that_was_read_before_an_update_is_not_kept(folder, monkeypatch):
    monkeypatch.setattr(compiled, "sources", lambda: "new")
    assert not asked()
    assert not folder.exists()


# ---------------------------------------------------------------------- quick to compile


def test_cycles_are_not_collected_while_a_kernel_is_compiled_and_are_afterwards(folder):
    seen = []

    class Listens(event.Listener):
        def on_start(self, event):
            seen.append(gc.isenabled())

        on_end = on_start

    @compiled.njit()
    def wrong(x):
        return x.no_such_thing

    with event.install_listener("numba:run_pass", Listens()):
        asked()
        with pytest.raises(numba.TypingError):
            wrong(3)
    assert seen
    assert not any(seen)
    assert gc.isenabled()


def test_a_process_that_collects_no_cycles_goes_on_without(folder):
    gc.disable()
    try:
        asked()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_settings_of_a_kernel_are_found_as_those_of_numba_are():
    fast, exact = (compiled.Settings() for _ in range(2))
    same = compiled.Settings(fast)
    exact.error_model = "python"
    assert {fast: 1}[same] == 1
    assert exact not in {fast: 1}
    assert hash(fast) == hash(Flags())                  # which is that of equal ones


FILL = """
import sys, time
from mfcore import compiled
def kernel(factor):
    @compiled.njit()
    def times(x):
        return factor * x
    return times
first, last, at = map(float, sys.argv[1:])
time.sleep(max(0.0, at - time.time()))
kernels = {factor: kernel(factor) for factor in range(int(first), int(last))}
wrong = [factor for factor, times in kernels.items() if times(3) != 3 * factor]
print(wrong, sum(bool(times.stats.cache_hits) for times in kernels.values()))
"""


def filled(first, last, at=0.0):
    """Start a process that calls kernels which differ in a constant."""
    return subprocess.Popen([sys.executable, "-c", FILL, str(first), str(last), str(at)],
                            stdout=subprocess.PIPE, text=True,
                            env={**os.environ, "NUMBA_CACHE_DIR": config.CACHE_DIR})


def test_processes_that_fill_a_cold_cache_at_once_mix_nothing_up(folder):
    at = time.time() + 2
    for process in [filled(0, 8, at), filled(4, 12, at), filled(0, 12, at)]:
        assert process.communicate()[0].startswith("[]")
    assert filled(0, 12).communicate()[0] == "[] 12\n"


# --------------------------------------------------------------- files that are not whole


def cut(file, share):
    content = file.read_bytes()
    file.write_bytes(content[:int(share * len(content))])


def flip(file, share):
    content = bytearray(file.read_bytes())
    content[int(share * len(content))] ^= 1
    file.write_bytes(content)


def replaced(file, make):
    file.unlink()
    make(file)


DAMAGES = {
    "empty": lambda file: cut(file, 0),
    "cut in the mark": lambda file: cut(file, 0.0005),
    "cut in the key": lambda file: cut(file, 0.1),
    "cut in the code": lambda file: cut(file, 0.9),
    "a bit of the mark": lambda file: flip(file, 0),
    "a bit of the checksum": lambda file: flip(file, 0.002),
    "a bit of the key": lambda file: flip(file, 0.1),
    "a bit of the code": lambda file: flip(file, 0.9),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "another text": lambda file: file.write_text("no kernel"),
    "a pipe": lambda file: replaced(file, os.mkfifo),
    "a link to nothing": lambda file: replaced(file, lambda f: f.symlink_to("nothing")),
    "gone": lambda file: file.unlink(),
    "the folder gone": lambda file: shutil.rmtree(file.parent),
    "all gone": lambda file: shutil.rmtree(file.parents[1]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_is_not_whole_is_compiled_and_written_again(folder, damage):
    asked()
    damage(only(folder))
    assert sum(map(len, compiled.ready().values())) == 0
    assert not asked()
    assert asked()


def test_the_file_of_another_kernel_is_not_loaded(folder):
    asked(2)
    two = only(folder)
    asked(3)
    three, = set(folder.iterdir()) - {two}
    shutil.copy(two, three)
    assert len(compiled.ready()[str(folder)]) == 1
    assert not asked(3)
    assert asked(3)


def test_code_that_this_numba_cannot_read_is_compiled_again(folder, monkeypatch):
    def none(given):
        return dumps(given if given == (2,) else None)        # (2,): the constants of the kernel

    dumps = compiled.dumps
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "dumps", none)
        asked()
    assert sum(map(len, compiled.ready().values())) == 1
    assert not asked()
    assert asked()


def test_code_that_this_numba_cannot_write_is_used_and_a_warning_says_so(folder, monkeypatch):
    def refuse(*_):
        raise TypeError("no such thing")

    constant = compiled.dumps(2)
    monkeypatch.setattr(compiled, "dumps", lambda x: constant if x == 2 else refuse())
    with pytest.warns(UserWarning, match="times cannot be kept on disk.*no such thing"):
        assert not asked()


def test_a_file_that_may_not_be_read_is_written_again(folder, monkeypatch):
    def read(path):                        # (root may read everything)
        if not path.stat().st_mode & 0o400:
            raise PermissionError("not for you")
        return read_bytes(path)

    asked()
    only(folder).chmod(0)
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", read)
    assert not asked()
    assert only(folder).stat().st_mode & 0o400
    assert asked()


@FORK
def test_a_process_killed_while_it_writes_leaves_nothing_but_a_piece_for_the_next(folder):
    folder.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        asked()
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert only(folder).suffix == ".part"
    assert not asked()
    assert only(folder).suffix == ".nbc"


# --------------------------------------------------------- folders that take no kernels


def in_the_way_of_the_folder(folder):
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("a file")


def in_the_way_of_the_file(folder):
    asked()
    replaced(only(folder), Path.mkdir)


def full(folder):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))


@pytest.mark.parametrize("prevent", [in_the_way_of_the_folder, in_the_way_of_the_file])
def test_where_nothing_can_be_kept_one_warning_names_the_folder_and_the_cure(
        folder, prevent, monkeypatch, tmp_path):
    prevent(folder)
    with pytest.warns(UserWarning, match="set NUMBA_CACHE_DIR to another folder") as told:
        assert [asked(), asked(), asked()] == [False] * 3
    assert [str(folder) in str(each.message) for each in told] == [True]
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "another"))
    assert [asked(), asked()] == [False, True]


@FORK
@pytest.mark.skipif(sys.platform == "win32", reason="no limits of resources")
def test_a_full_disk_stops_no_computation(folder):
    answer, told = os.pipe()
    child = os.fork()
    if child == 0:
        full(folder)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            found = [asked(), asked()]
        os.write(told, json.dumps([found, [str(each.message) for each in seen]]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    found, (message,) = json.loads(os.read(answer, 10_000))
    assert found == [False, False]
    assert f"{folder} (File too large)" in message
    assert list(folder.iterdir()) == []
    assert [asked(), asked()] == [False, True]            # with room again


def test_kernels_are_read_out_of_a_folder_that_nobody_can_write_to(folder, monkeypatch):
    asked()
    monkeypatch.setattr(compiled, "replacing", None)
    assert asked()


def test_what_a_folder_lacks_that_nobody_can_write_to_is_compiled_in_memory_with_one_warning(
        folder, monkeypatch):
    for factor in 2, 3, 4:
        asked(factor)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    lost = folder / next(iter(before))
    lost.unlink()

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(compiled, "replacing", refused)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = [asked(factor) for factor in (2, 3, 4, 5, 2, 3, 4)]
    assert sorted(found[:3]) == [False, True, True]     # the others are read, as before
    assert found[3:] == [False, *found[:3]]
    assert [f"not written to {folder} (Permission denied)" in str(each.message)
            for each in told] == [True]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == \
        {name: data for name, data in before.items() if name != lost.name}


@pytest.fixture
def default(monkeypatch, tmp_path, folder):
    """The folders of a user who sets nothing: next to the kernels, and of this user."""
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "mfcore" / "compiled.py"))
    by_sources, of_user = compiled.folders()
    assert by_sources == tmp_path / "mfcore" / "kernels" / "__pycache__"
    return by_sources, of_user


def test_without_a_setting_kernels_are_kept_next_to_their_sources(default):
    by_sources, of_user = default
    assert [asked(), asked()] == [False, True]
    assert only(by_sources)
    assert not of_user.exists()


def test_where_the_sources_are_read_only_kernels_are_kept_in_the_cache_of_the_user(default):
    by_sources, of_user = default
    by_sources.parents[1].write_text("in the way")
    assert [asked(), asked()] == [False, True]
    assert only(of_user)


def test_kernels_next_to_read_only_sources_are_used(default, monkeypatch):
    by_sources, of_user = default
    asked()
    monkeypatch.setattr(compiled, "replacing", None)
    assert asked()
    assert not of_user.exists()


def test_a_user_without_a_home_gets_no_folder_called_tilde(default, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert compiled.folders() == [default[0]]


# --------------------------------------------------------------------- what is counted


def test_kernels_that_can_be_used_are_counted_and_not_files(folder, monkeypatch):
    assert compiled.ready() == {str(folder): set()}
    asked(2)
    asked(3)
    (folder / "times-1.nbc").write_text("no kernel")
    assert len(compiled.ready()[str(folder)]) == 2
    monkeypatch.setattr(compiled, "machine", lambda: "another machine")
    assert compiled.ready() == {str(folder): set()}


def test_files_that_another_version_left_unused_are_removed(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "machine", lambda: "another machine")
        asked(2)
        asked(3)
    asked(2)
    left, kept, mine = sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime_ns)
    (folder / "times.nbi").write_text("an index of Numba")
    compiled._remove_unused.cache_clear()
    for file in left, mine, folder / "times.nbi":
        os.utime(file, (time.time() - 2 * compiled.UNUSED,) * 2)
    asked(4)
    assert {left, kept, mine} & set(folder.iterdir()) == {kept, mine}
    assert not (folder / "times.nbi").exists()


# ------------------------------------------------------ other ways to come by the package


PRINT = ("import mfcore, sys; from mfcore.kernels.draws import mix; mix(1, 2); "
         "print(mfcore.__file__, sum(mix.stats.cache_hits.values()))")


def sourceless(place):
    shutil.copytree(PACKAGE, place / "mfcore", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(place, quiet=2, legacy=True)
    for source in place.rglob("*.py"):
        source.unlink()
    return place


def zipped(place):
    return shutil.make_archive(str(place / "all"), "zip", PACKAGE.parent, "mfcore")


@pytest.mark.parametrize(("made", "options"), [
    (sourceless, []), (zipped, []), (lambda place: PACKAGE.parent, ["-O"])],
    ids=["sourceless", "zipped", "optimised"])
def test_kernels_are_kept_however_python_reads_the_package(made, options, tmp_path):
    place = made(tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    env |= {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(place)}
    runs = [subprocess.run([sys.executable, *options, "-c", PRINT], cwd=tmp_path, env=env,
                           text=True, capture_output=True, check=True) for _ in range(2)]
    assert [run.stdout.split()[-1] for run in runs] == ["0", "1"]
    assert all(run.stdout.startswith(str(place)) and run.stderr == "" for run in runs)


# ------------------------------------------------------------------------------- forks


@FORK
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_that_was_forked_while_a_thread_compiled_compiles():
    compiles, go_on = threading.Event(), threading.Event()

    def compile_long():
        with compiled.global_compiler_lock:
            compiles.set()
            go_on.wait(20)

    thread = threading.Thread(target=compile_long)
    thread.start()
    compiles.wait()
    threading.Timer(0.5, go_on.set).start()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if asked() in (True, False) else 1)
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
