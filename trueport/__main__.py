"""`python -m trueport` is `trueport`."""

from trueport.cli.main import main

main()
