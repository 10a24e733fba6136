"""`trueport policy`: try policies before they count."""

from typing import Final

import click

from trueport.cli.policy_replay import replay
from trueport.cli.policy_trial import trial

policy: Final = click.Group("policy", commands=[replay, trial], help="Try policies before they count.")
