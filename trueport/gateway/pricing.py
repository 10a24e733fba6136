"""Usage times price book is a cost in nano-dollars. Pure, and integers all the way."""

import hashlib
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from trueport.gateway.call import Usage
from trueport.gateway.snapshot import ModelPattern
from trueport.kit.money import nano_usd

_TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a million tokens of each kind."""

    input_nano_usd: int
    cached_nano_usd: int
    output_nano_usd: int


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices by provider and model pattern, first match wins. `version` names exactly this content."""

    version: str
    entries: tuple[tuple[str, ModelPattern, Price], ...]

    def price_of(self, provider: str, model: str) -> Price | None:
        """The price, or None for a model the book does not know; its cost is then unknown, not zero."""
        for known, pattern, price in self.entries:
            if known in (provider, "*") and pattern.matches(model):
                return price
        return None


def cost_nano_usd(usage: Usage, price: Price) -> int:
    """Nano-dollars of `usage`, rounded half up once, on the sum."""
    total = (
        (usage.input_tokens - usage.cached_tokens) * price.input_nano_usd
        + usage.cached_tokens * price.cached_nano_usd
        + usage.output_tokens * price.output_nano_usd
    )
    return (2 * total + _TOKENS_PER_PRICE) // (2 * _TOKENS_PER_PRICE)


def load_price_book(path: Path | None = None) -> PriceBook:
    """The price book of the package, or the TOML file at `path`.

    Raises ValueError that names the entry when the file is not a price book, OSError when it cannot be read.
    """
    text = path.read_text() if path else files("trueport.gateway").joinpath("prices.toml").read_text()
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the price book is not TOML: {error}") from error
    listed = document.get("price", [])
    if not isinstance(listed, list):
        raise ValueError("price in the price book: write [[price]] with two brackets")  # noqa: TRY004 - as promised
    entries = []
    for number, entry in enumerate(listed, start=1):
        try:
            price = Price(
                input_nano_usd=_amount(entry["input"]),
                cached_nano_usd=_amount(entry.get("cached", entry["input"])),
                output_nano_usd=_amount(entry.get("output", "0")),
            )
            entries.append((str(entry["provider"]), ModelPattern.of(str(entry["model"])), price))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"price {number} in the price book: {error}") from error
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return PriceBook(version=f"{document.get('dated', 'undated')}+{digest}", entries=tuple(entries))


def _amount(text: str) -> int:
    amount_nano_usd = nano_usd(text)
    if amount_nano_usd < 0:
        raise ValueError("a price cannot be negative")
    return amount_nano_usd
