"""The Triton server's own Python environment, built once from pinned and hash-checked wheels.

It cannot be the gateway's: the server's Python stub is built for numpy 1.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trueport.detection.sidecar.files import SidecarFailed, triton_files

_MACHINES: Final = ("x86_64", "aarch64")
_PYTHONS: Final = ("3.11", "3.12")
_GLIBC: Final = (2, 35)
_READY: Final = ".ready"
_INSTALL_S: Final = 900

_DESCRIBE: Final = """
import json, platform, sys, sysconfig
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "implementation": platform.python_implementation(),
    "machine": platform.machine(),
    "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "",
    "system": platform.system(),
    "libraries": sysconfig.get_config_var("LIBDIR") or "",
    "executable": sys._base_executable,
}))
"""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that could run the server's models, as it describes itself. `glibc` is empty on another C library."""

    executable: Path
    version: str
    implementation: str
    machine: str
    system: str
    glibc: str
    libraries: Path

    @property
    def shared_library(self) -> str:
        return f"libpython{self.version}.so.1.0"


@dataclass(frozen=True, slots=True)
class Environment:
    """A finished one, in `folder`."""

    folder: Path
    interpreter: Interpreter

    @property
    def server(self) -> Path:
        """The server's tree: `bin`, `backends`, `caches`."""
        return _packages(self.folder, self.interpreter) / "pytriton" / "tritonserver"

    def variables(self) -> Mapping[str, str]:
        """What the server's process needs to find.

        The Python stub takes its prefix from the first `python3` on the path and ignores PYTHONHOME; with another one
        first it would load another numpy.
        """
        return {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": str(self.interpreter.libraries),
            "TOKENIZERS_PARALLELISM": "false",
            **{name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ") if name in os.environ},
        }


def default_folder() -> Path:
    """Shared by all data folders of a user: it is half a gigabyte and always the same."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "trueport" / "triton"


def describe(python: Path) -> Interpreter:
    """What the Python at `python` says of itself. Raises SidecarFailed."""
    try:
        ran = subprocess.run([python, "-c", _DESCRIBE], capture_output=True, check=True, timeout=30)
        told = json.loads(ran.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SidecarFailed(f"{python} does not run as a Python: {type(error).__name__}.") from error
    return Interpreter(
        executable=Path(told["executable"]),
        version=told["version"],
        implementation=told["implementation"],
        machine=told["machine"],
        system=told["system"],
        glibc=told["glibc"],
        libraries=Path(told["libraries"]),
    )


def find_interpreter(python: Path | None = None) -> Interpreter:
    """`python`, or the first that fits of the running one and those on the path. Raises SidecarFailed."""
    if python is not None:
        return _checked(describe(python))
    running = describe(Path(sys.executable))
    if reason := unsuitable_machine(running):
        raise SidecarFailed(reason)
    if unsuitable_python(running) is None:
        return running
    for version in _PYTHONS:
        found = shutil.which(f"python{version}")
        # A name on the path may be the shim of a Python that is not installed.
        with suppress(SidecarFailed):
            if found is not None:
                return _checked(describe(Path(found)))
    return _checked(running)


def unsuitable_machine(one: Interpreter) -> str | None:
    """Why the server cannot run on this machine, None where it can."""
    if one.system != "Linux" or one.machine not in _MACHINES:
        return (
            f"The Triton server is built for Linux on {' and '.join(_MACHINES)}; this is {one.system} on "
            f"{one.machine}. Use TRUEPORT_DETECTION_URL=onnx:, or a Triton server on another machine."
        )
    if not one.glibc:
        return "The Triton server needs the GNU C library; this system (such as Alpine) has another one."
    if tuple(int(part) for part in one.glibc.split(".")[:2]) < _GLIBC:
        return (
            f"The Triton server needs glibc {_GLIBC[0]}.{_GLIBC[1]} or newer (Debian 12, Ubuntu 22.04, RHEL 10); "
            f"this system has {one.glibc}. Use TRUEPORT_DETECTION_URL=onnx: here."
        )
    return None


def unsuitable_python(one: Interpreter) -> str | None:
    """Why this Python cannot run the models, None where it can."""
    if one.implementation != "CPython" or one.version not in _PYTHONS:
        return (
            f"The Triton server's models run on CPython {' or '.join(_PYTHONS)}; {one.executable} is "
            f"{one.implementation} {one.version}. Install one of those and name it with --python."
        )
    if _library_folder(one) is None:
        return (
            f"{one.executable} comes without {one.shared_library}, which the Triton server loads. "
            f"On Debian and Ubuntu: apt-get install libpython{one.version}. Another Python can be named with --python."
        )
    return None


def build(folder: Path, interpreter: Interpreter, progress: Progress) -> Environment:
    """The environment in a folder below `folder`, installed there unless it is already.

    Several processes may ask at the same time: one builds and the others wait. Raises SidecarFailed.
    """
    requirements = triton_files() / "cpu" / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes() + str(interpreter.executable).encode()).hexdigest()[:12]
    target = folder / f"python{interpreter.version}-{digest}"
    libraries = _library_folder(interpreter)
    if libraries is None:
        raise SidecarFailed(unsuitable_python(interpreter) or "The Python has no shared library.")
    environment = Environment(target, replace(interpreter, libraries=libraries))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{target.name}.lock"):
        if not (target / _READY).exists():
            progress(f"Installing the Triton server into {target} (about 90 MB to fetch, once)")
            _install(target, environment, requirements)
            (target / _READY).touch()
    return environment


def _install(target: Path, environment: Environment, requirements: Path) -> None:
    # What an interrupted installation left.
    shutil.rmtree(target, ignore_errors=True)
    _run([str(environment.interpreter.executable), "-m", "venv", str(target)], "create a Python environment")
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input"]
    _run([*pip, *options, "-r", str(requirements)], "install the Triton server")
    stubs = environment.server / "python_backend_stubs"
    stub = stubs / environment.interpreter.version / "triton_python_backend_stub"
    if not stub.is_file():
        raise SidecarFailed(f"The Triton server has no Python stub for {environment.interpreter.version}.")
    shutil.copy(stub, environment.server / "backends" / "python")


def _run(command: list[str], deed: str) -> None:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SidecarFailed(f"Could not {deed}: {type(error).__name__}.") from error
    if ran.returncode != 0:
        lines = [line for line in ran.stderr.splitlines() if line.strip()]
        raise SidecarFailed(f"Could not {deed}: {' '.join(lines[-3:]) or f'exit code {ran.returncode}'}")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _checked(interpreter: Interpreter) -> Interpreter:
    reason = unsuitable_machine(interpreter) or unsuitable_python(interpreter)
    if reason is not None:
        raise SidecarFailed(reason)
    return interpreter


def _library_folder(one: Interpreter) -> Path | None:
    """Where the Python's shared library is. Debian keeps it in a folder that is named after the machine."""
    multiarch = Path("/usr/lib") / f"{one.machine}-linux-gnu"
    for folder in (one.libraries, multiarch, Path("/usr/lib64"), one.executable.parent.parent / "lib"):
        if (folder / one.shared_library).exists():
            return folder
    return None


def _packages(folder: Path, interpreter: Interpreter) -> Path:
    return folder / "lib" / f"python{interpreter.version}" / "site-packages"
