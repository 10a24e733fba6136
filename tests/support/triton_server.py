"""The real inference server, as `trueport triton run` starts it, over a tiny guard model."""

import shutil
from functools import cache
from pathlib import Path

import pytest

from tests.support import triton_guard
from trueport.detection.sidecar import environment, repository
from trueport.detection.sidecar.files import SidecarFailed
from trueport.detection.sidecar.server import TritonServer
from trueport.detection.sidecar.versions import version_number

MODELS = ("guard", "toxicity", "injection", "pii", "exfiltration")


@cache
def installed() -> environment.Environment:
    """The server's environment, installed once for a user; skips the test where that cannot be."""
    try:
        return environment.build(environment.default_folder(), environment.find_interpreter(), print)
    except SidecarFailed as error:
        pytest.skip(f"no Triton server here: {error.message}")


def prepare(folder: Path, *options: str) -> TritonServer:
    """A server that is not started yet, with everything it needs in `folder`."""
    found = installed()
    triton_guard.write(folder / "guard")
    models = repository.lay_out(folder / "models", folder / "guard", threads=1)
    return TritonServer(found, models, folder / "server.log", options=options)


def put_second_guard(folder: Path, *, shift: float) -> str:
    """Lay another model beside the first, without taking that away, and return the new one's hash.

    Until they are loaded, toxicity, injection and pii stay with the first.
    """
    sha256 = triton_guard.write(folder / "second", shift=shift)
    fresh = repository.lay_out(folder / "fresh", folder / "second", threads=1)
    models = folder / "models"
    old = next(path.name for path in (models / "guard").iterdir() if path.is_dir())
    new = str(version_number(sha256))
    for name in ("guard", "toxicity", "injection", "pii"):
        shutil.copytree(fresh / name / new, models / name / new)
        shutil.copyfile(fresh / name / "config.pbtxt", models / name / "config.pbtxt")
    config = models / "guard" / "config.pbtxt"
    both = config.read_text().replace(f"versions: [ {new} ]", f"versions: [ {old}, {new} ]")
    config.write_text(both)
    return sha256
