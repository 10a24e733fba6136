"""Money is an integer count of nano-dollars until it is printed; no float ever touches it."""

from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Final

NANO_PER_USD: Final = 1_000_000_000
# The default context would round to 28 digits without a word.
_EXACT: Final = Context(prec=60, traps=[InvalidOperation, Inexact, Overflow])


def nano_usd(amount: str | int | Decimal) -> int:
    """Nano-dollars of a decimal amount of dollars such as "2.50".

    Raises ValueError for a float, for anything that is not a finite decimal of at most 50 digits, and for one that
    needs more than nine places.
    """
    # A float is one already rounded, whatever its type says: prices read from a file arrive without a type checker.
    if isinstance(amount, float | bool):
        raise ValueError(f"not a decimal text or an integer: {amount!r}")  # noqa: TRY004 - one kind of refusal
    try:
        nanos = _EXACT.scaleb(_EXACT.create_decimal(amount), 9)
        whole = _EXACT.quantize(nanos, Decimal(1))
    except (InvalidOperation, Overflow) as error:
        raise ValueError(f"not an amount of money: {amount!r}") from error
    except Inexact as error:
        raise ValueError(f"an amount has at most nine decimal places: {amount!r}") from error
    if not whole.is_finite():
        raise ValueError(f"not an amount of money: {amount!r}")
    return int(whole)


def usd(amount_nano_usd: int, *, places: int = 9) -> str:
    """Dollars as a plain decimal string, rounded half up to `places`: 1_842_000 -> "0.001842000"."""
    exact = _EXACT.scaleb(_EXACT.create_decimal(amount_nano_usd), -9)
    return f"{exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, Context(prec=60)):f}"
