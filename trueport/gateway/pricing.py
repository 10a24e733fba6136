"""Usage times price book is a cost in nano-dollars. Pure, and integers all the way.

A price book is a TOML file (prices.toml beside this module is the one of the package):

    dated = "2026-01-01"            # the first half of the book's version; the other is a digest of the content

    [[price]]
    provider = "google"             # or "*" for any, or a list
    model = "gemini-2.5-pro"        # a glob, or a list of them; of the entries that match, the first one counts
    from = "2026-02-01"             # optional: in force from this day (UTC) on
    input = "1.25"                  # dollars for a million tokens, as text so that no float rounds them
    cached = "0.125"                # input read from the provider's cache         else: input
    cache_write = "1.25"            # input written to it, for a short time        else: input
    cache_write_1h = "1.25"         # and for a long time                          else: cache_write
    audio_input = "1.25"            # sounds read                                  else: input
    image_input = "1.25"            # images read                                  else: input
    output = "10.00"                # written                                      else: nothing
    reasoning = "10.00"             # of it, reasoning                             else: output
    audio_output = "10.00"          # of it, sounds                                else: output
    image_output = "10.00"          # of it, images                                else: output
    web_search = "35.00"            # 1,000 searches                               else: nothing
    image = "0.04"                  # an image                                     else: nothing
    audio_minute = "0.006"          # a minute of sound                            else: nothing
    tiers = { batch = "0.5" }       # times the price of tokens, by Usage.service_tier     else: 1
    long = { over = 200_000, input = "2.50", output = "15.00" }   # the whole call when its input is larger

    [ceiling]                       # what is reserved for a model without a price; else the dearest entry
    input = "15.00"
    output = "75.00"

Entries for the same provider and pattern are versions of one price: the newest that is in force counts.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from trueport.gateway.call import Usage
from trueport.gateway.snapshot import ModelPattern
from trueport.kit.money import nano_usd

_TOKENS_PER_PRICE: Final = 1_000_000
_MS_PER_MINUTE: Final = 60_000
_ONCE: Final = 1_000_000_000
"""Multipliers count in billionths, as many places as a decimal text may have."""
# All units in one: a millionth of a token's price, a thousandth of a search's, a millisecond of a minute's.
_PARTS: Final = 3 * _TOKENS_PER_PRICE
_OLDEST: Final = date.min
_MOST_KEPT: Final = 10_000

_AMOUNTS: Final = frozenset(
    {
        *("input", "cached", "cache_write", "cache_write_1h", "audio_input", "image_input", "output", "reasoning"),
        *("audio_output", "image_output", "web_search", "image", "audio_minute"),
    }
)


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a million tokens of each kind, for 1,000 searches, for an image, for a minute of sound.

    `tiers` are multipliers of the tokens' price in billionths. `long` replaces this price for calls that read more
    than `long_over` tokens.
    """

    input_nano_usd: int
    cached_nano_usd: int
    output_nano_usd: int
    cache_write_nano_usd: int
    cache_write_1h_nano_usd: int
    audio_input_nano_usd: int
    image_input_nano_usd: int
    reasoning_nano_usd: int
    audio_output_nano_usd: int
    image_output_nano_usd: int
    web_search_nano_usd: int = 0
    image_nano_usd: int = 0
    audio_minute_nano_usd: int = 0
    tiers: tuple[tuple[str, int], ...] = ()
    long_over: int | None = None
    long: "Price | None" = None

    @classmethod
    def of(cls, entry: Mapping[str, object]) -> "Price":
        """The price in the members of an entry, missing ones filled in as the module says.

        Raises ValueError for an amount that is none, a negative one, and a member that is not known.
        """
        unknown = entry.keys() - _AMOUNTS - {"tiers", "long"}
        if unknown:
            raise ValueError(f"{min(unknown)} is not known here")
        if "input" not in entry:
            raise ValueError("input is missing")
        said = {name: _amount(name, entry[name]) for name in _AMOUNTS & entry.keys()}
        read, written = said["input"], said.get("output", 0)
        write = said.get("cache_write", read)
        price = cls(
            input_nano_usd=read,
            cached_nano_usd=said.get("cached", read),
            output_nano_usd=written,
            cache_write_nano_usd=write,
            cache_write_1h_nano_usd=said.get("cache_write_1h", write),
            audio_input_nano_usd=said.get("audio_input", read),
            image_input_nano_usd=said.get("image_input", read),
            reasoning_nano_usd=said.get("reasoning", written),
            audio_output_nano_usd=said.get("audio_output", written),
            image_output_nano_usd=said.get("image_output", written),
            web_search_nano_usd=said.get("web_search", 0),
            image_nano_usd=said.get("image", 0),
            audio_minute_nano_usd=said.get("audio_minute", 0),
            tiers=_tiers(entry.get("tiers", {})),
        )
        return _with_long(price, entry)

    def multiplier(self, tier: str | None) -> int:
        """What the tier multiplies the price of tokens by, in billionths; a tier that is not listed by one."""
        return dict(self.tiers).get(tier, _ONCE) if tier is not None else _ONCE

    def at_length(self, input_tokens: int) -> "Price":
        """The price of a call that reads so many tokens."""
        if self.long is not None and self.long_over is not None and input_tokens > self.long_over:
            return self.long
        return self


@dataclass(frozen=True, slots=True)
class Entry:
    """A price, what it is for, and since when."""

    provider: str
    model: str
    pattern: ModelPattern
    since: date
    price: Price


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices by provider and model pattern. `version` names exactly this content.

    `ceiling` is what a budget reserves for a model that has no price: never nothing.
    """

    version: str
    entries: tuple[Entry, ...]
    ceiling: Price
    _matching: dict[tuple[str, str], tuple[Entry, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def price_of(self, provider: str, model: str, at: datetime | None = None) -> Price | None:
        """The price at that moment, or at the end of days; None for a model the book does not know.

        The cost of a call to such a model is unknown, not zero.
        """
        day = at.astimezone(UTC).date() if at is not None else date.max
        # Entries of one pattern stand next to each other, the newest first.
        return next((entry.price for entry in self._of(provider, model) if entry.since <= day), None)

    def _of(self, provider: str, model: str) -> tuple[Entry, ...]:
        """The entries that match, in their order. Kept, for trying hundreds of patterns costs more than the rest."""
        found = self._matching.get((provider, model))
        if found is None:
            if len(self._matching) >= _MOST_KEPT:
                self._matching.clear()
            found = tuple(
                entry for entry in self.entries if entry.provider in (provider, "*") and entry.pattern.matches(model)
            )
            self._matching[provider, model] = found
        return found

    def with_overrides(self, entries: Sequence[Mapping[str, object]]) -> "PriceBook":
        """The book with a tenant's own prices before it, each as an entry of the file.

        Its version is the book's and a digest of the overrides. Raises ValueError that names the entry.
        """
        if not entries:
            return self
        mine = _entries(entries, "override")
        digest = hashlib.sha256(msgspec.json.encode(entries, order="deterministic")).hexdigest()[:12]
        return replace(self, version=f"{self.version}+{digest}", entries=mine + self.entries)


def cost_nano_usd(usage: Usage, price: Price) -> int:
    """Nano-dollars of `usage`, rounded half up once, on the sum.

    Each token is paid once. Cached tokens are taken to be text first: providers do not always say which of them were
    sounds or images. Never negative, whatever the parts say.
    """
    at = price.at_length(usage.input_tokens)
    stored = usage.cached_tokens + usage.cache_write_tokens + usage.cache_write_1h_tokens
    fresh = max(0, usage.input_tokens - stored)
    audio = min(usage.audio_input_tokens, fresh)
    image = min(usage.image_input_tokens, fresh - audio)
    special = usage.reasoning_tokens + usage.audio_output_tokens + usage.image_output_tokens
    plain = max(0, usage.output_tokens - special)
    tokens = (
        (fresh - audio - image) * at.input_nano_usd
        + audio * at.audio_input_nano_usd
        + image * at.image_input_nano_usd
        + usage.cached_tokens * at.cached_nano_usd
        + usage.cache_write_tokens * at.cache_write_nano_usd
        + usage.cache_write_1h_tokens * at.cache_write_1h_nano_usd
        + plain * at.output_nano_usd
        + usage.reasoning_tokens * at.reasoning_nano_usd
        + usage.audio_output_tokens * at.audio_output_nano_usd
        + usage.image_output_tokens * at.image_output_nano_usd
    )
    pieces = (
        usage.web_searches * at.web_search_nano_usd * (_PARTS // 1_000)
        + usage.images * at.image_nano_usd * _PARTS
        + usage.audio_ms * at.audio_minute_nano_usd * (_PARTS // _MS_PER_MINUTE)
    )
    total = tokens * (_PARTS // _TOKENS_PER_PRICE) * price.multiplier(usage.service_tier) + pieces * _ONCE
    return _rounded(total, _PARTS * _ONCE)


def worst_case_nano_usd(price: Price, input_tokens: int, most_output_tokens: int, tier: str | None = None) -> int:
    """What a call may cost at most in tokens, to reserve before it is made.

    Every token at the dearest price of its direction, in the tier the request asks for and never below the plain
    price: a provider may serve another tier than the cheap one that was asked for. Searches, images and sounds by
    the minute cannot be known before.
    """
    at = price.at_length(input_tokens)
    read = max(
        at.input_nano_usd,
        at.cached_nano_usd,
        at.cache_write_nano_usd,
        at.cache_write_1h_nano_usd,
        at.audio_input_nano_usd,
        at.image_input_nano_usd,
    )
    written = max(at.output_nano_usd, at.reasoning_nano_usd, at.audio_output_nano_usd, at.image_output_nano_usd)
    most = (input_tokens * read + most_output_tokens * written) * max(_ONCE, price.multiplier(tier))
    return _rounded_up(most, _TOKENS_PER_PRICE * _ONCE)


def load_price_book(path: Path | None = None) -> PriceBook:
    """The price book of the package, or the TOML file at `path`.

    Raises ValueError that names the entry when the file is not a price book, OSError when it cannot be read.
    """
    text = path.read_text() if path else files("trueport.gateway").joinpath("prices.toml").read_text()
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the price book is not TOML: {error}") from error
    unknown = document.keys() - {"dated", "price", "ceiling"}
    if unknown:
        raise ValueError(f"{min(unknown)} in the price book is not known here")
    listed = document.get("price", [])
    if not isinstance(listed, list):
        raise ValueError("price in the price book: write [[price]] with two brackets")  # noqa: TRY004 - as promised
    entries = _entries(listed, "price")
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    version = f"{document.get('dated', 'undated')}+{digest}"
    return PriceBook(version, entries, _ceiling(document.get("ceiling"), entries))


def _entries(listed: Iterable[object], word: str) -> tuple[Entry, ...]:
    """The entries in the order in which they count: versions of one price together, the newest first."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for number, said in enumerate(listed, start=1):
        try:
            for entry in _entry(said):
                versions = groups.setdefault((entry.provider, entry.model), [])
                if any(entry.since == other.since for other in versions):
                    raise ValueError(f"{entry.provider} {entry.model} has a price from that day already")
                versions.append(entry)
        except ValueError as error:
            raise ValueError(f"{word} {number} in the price book: {error}") from error
    return tuple(
        entry for versions in groups.values() for entry in sorted(versions, key=lambda e: e.since, reverse=True)
    )


def _entry(said: object) -> list[Entry]:
    """The entries that a table of the file stands for: one for each of its providers and models."""
    if not isinstance(said, Mapping):
        raise ValueError("not a table")  # noqa: TRY004 - one kind of refusal
    providers, models = _names(said, "provider"), _names(said, "model")
    amounts = {name: value for name, value in said.items() if name not in ("provider", "model", "from")}
    try:
        price, since = Price.of(amounts), _day(said.get("from"))
    except ValueError as error:
        raise ValueError(f"{providers[0]} {models[0]}: {error}") from error
    return [Entry(provider, model, ModelPattern.of(model), since, price) for provider in providers for model in models]


def _names(said: Mapping[str, object], member: str) -> list[str]:
    value = said.get(member)
    listed = value if isinstance(value, list) else [value]
    names = [name for name in listed if isinstance(name, str) and name]
    if not names or len(names) < len(listed):
        raise ValueError(f"{member} must be a name or a list of names")
    return names


def _day(text: object) -> date:
    if text is None:
        return _OLDEST
    if isinstance(text, str):
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"from is not a day such as 2026-01-31: {text!r}") from error
    if isinstance(text, date) and not isinstance(text, datetime):
        return text
    raise ValueError(f"from is not a day such as 2026-01-31: {text!r}")


def _amount(name: str, text: object) -> int:
    if not isinstance(text, str):
        raise ValueError(f"{name} is not an amount in quotes: {text!r}")  # noqa: TRY004 - one kind of refusal
    try:
        amount_nano_usd = nano_usd(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if amount_nano_usd < 0:
        raise ValueError(f"{name} cannot be negative")
    return amount_nano_usd


def _tiers(said: object) -> tuple[tuple[str, int], ...]:
    if not isinstance(said, Mapping):
        raise ValueError("tiers must be a table of multipliers")  # noqa: TRY004 - one kind of refusal
    # A multiplier is a decimal text with nine places, like an amount.
    return tuple(sorted((str(tier), _amount(f"tier {tier}", text)) for tier, text in said.items()))


def _with_long(price: Price, entry: Mapping[str, object]) -> Price:
    said = entry.get("long")
    if said is None:
        return price
    if not isinstance(said, Mapping) or type(said.get("over")) is not int or said["over"] <= 0:
        raise ValueError("long must be a table with over, a number of tokens")
    inherited = {name: value for name, value in entry.items() if name not in ("tiers", "long")}
    changed = {name: value for name, value in said.items() if name != "over"}
    try:
        long = Price.of({**inherited, **changed})
    except ValueError as error:
        raise ValueError(f"long: {error}") from error
    return replace(price, long_over=said["over"], long=long)


def _ceiling(said: object, entries: Sequence[Entry]) -> Price:
    if said is not None:
        if not isinstance(said, Mapping):
            raise ValueError("ceiling in the price book: write [ceiling] with one bracket")
        try:
            return Price.of(said)
        except ValueError as error:
            raise ValueError(f"ceiling in the price book: {error}") from error
    if not entries:
        raise ValueError("the price book has neither a [[price]] nor a [ceiling]")
    million = _TOKENS_PER_PRICE
    return max((entry.price for entry in entries), key=lambda price: worst_case_nano_usd(price, million, million))


def _rounded(total: int, parts: int) -> int:
    return (2 * total + parts) // (2 * parts)


def _rounded_up(total: int, parts: int) -> int:
    return -(-total // parts)
