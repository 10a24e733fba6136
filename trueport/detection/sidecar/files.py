"""Where the files that a Triton server needs come from: deploy/triton, which a wheel carries inside the package."""

from functools import cache
from pathlib import Path
from typing import Final

from trueport.kit.errors import TrueportError

_IN_PACKAGE: Final = Path(__file__).parent / "deploy"
_IN_CHECKOUT: Final = Path(__file__).parents[3] / "deploy" / "triton"


class SidecarFailed(TrueportError):
    """The Triton server beside the gateway cannot be prepared or started. The message says what to do."""

    code = "sidecar_failed"


@cache
def triton_files() -> Path:
    """The folder with `cpu/` and `models/`. Raises SidecarFailed."""
    for folder in (_IN_PACKAGE, _IN_CHECKOUT):
        if (folder / "cpu" / "requirements.txt").is_file():
            return folder
    raise SidecarFailed("This installation has no files for a Triton server; install trueport from its wheel again.")


def filled(template: Path, **values: object) -> str:
    """The template with every `@NAME@` in it replaced; names are given in lower case."""
    text = template.read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name.upper()}@", str(value))
    return text
