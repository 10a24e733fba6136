"""`trueport`: the one program of the product."""

import click

from trueport import __version__
from trueport.cli.audit import audit
from trueport.cli.config import config
from trueport.cli.demo import demo
from trueport.cli.detect import detect
from trueport.cli.doctor import doctor
from trueport.cli.init import init
from trueport.cli.kek import kek
from trueport.cli.keys import keys
from trueport.cli.models import models
from trueport.cli.policy import policy
from trueport.cli.serve import serve
from trueport.cli.simulate import simulate
from trueport.cli.subjects import subjects
from trueport.cli.triton import triton
from trueport.cli.witness import witness


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trueport")
def main() -> None:
    """TruePortAI, a defensible AI gateway.

    Settings come from the environment (TRUEPORT_…) and from --config FILE of the commands that take it.
    Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings, 3 something needed is away.
    """


for command in (
    demo,
    serve,
    init,
    doctor,
    config,
    keys,
    simulate,
    detect,
    models,
    policy,
    triton,
    audit,
    subjects,
    kek,
    witness,
):
    main.add_command(command)
