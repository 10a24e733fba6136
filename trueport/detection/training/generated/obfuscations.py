"""Disguises of a text: what evades a word list and what ordinary people type as well."""

from collections.abc import Callable
from random import Random
from typing import Final

Disguise = Callable[[str, Random], str]

_LEET: Final = str.maketrans("aeiost", "431057")
_HOMOGLYPHS: Final = str.maketrans("aeopcxy", "аеорсху")


def leet(text: str, random: Random) -> str:
    """Some letters as digits."""
    return "".join(letter.translate(_LEET) if random.random() < 0.6 else letter for letter in text)


def spaced(text: str, random: Random) -> str:  # noqa: ARG001 - a Disguise
    """Letters apart in the longer words."""
    return " ".join(" ".join(word) if len(word) > 4 else word for word in text.split())


def misspelt(text: str, random: Random) -> str:
    """Neighbouring letters swapped, dropped or doubled here and there."""
    words = text.split(" ")
    for at, word in enumerate(words):
        if len(word) > 3 and random.random() < 0.35:
            cut = random.randint(1, len(word) - 2)
            swapped = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
            words[at] = random.choice((swapped, word[:cut] + word[cut + 1 :], word[:cut] + word[cut] + word[cut:]))
    return " ".join(words)


def homoglyphs(text: str, random: Random) -> str:
    """Some Latin letters as Cyrillic ones that look alike."""
    return "".join(letter.translate(_HOMOGLYPHS) if random.random() < 0.4 else letter for letter in text)


def dotted(text: str, random: Random) -> str:
    """Signs within words."""
    sign = random.choice((".", "-", "_", "*", "\u200b"))
    return " ".join(sign.join(word) if len(word) > 5 and random.random() < 0.6 else word for word in text.split())


def shouted(text: str, random: Random) -> str:
    """Without punctuation, with exclamation marks."""
    return text.upper().replace(".", "!" * random.randint(1, 3)).replace(",", "")


def careless(text: str, random: Random) -> str:
    """As typed on a phone."""
    short = {"you": "u", "your": "ur", "please": "pls", "are": "r", "and": "n", "for": "4", "to": "2"}
    return " ".join(short.get(word, word) if random.random() < 0.7 else word for word in text.lower().split()).strip(
        "."
    )


def wrapped(text: str, random: Random) -> str:
    """Inside JSON, code, a quotation or a chat log."""
    forms = (
        '{{"query": "{}", "lang": "en"}}',
        "```\n{}\n```",
        "> {}",
        "<p>{}</p>",
        "user: {}\nassistant:",
        "# {}\n",
        "echo '{}'",
        "Q: {}\nA:",
    )
    return random.choice(forms).format(text)


OBFUSCATIONS: Final[tuple[tuple[str, Disguise], ...]] = (
    ("leet", leet),
    ("spaced", spaced),
    ("misspelt", misspelt),
    ("homoglyphs", homoglyphs),
    ("dotted", dotted),
    ("shouted", shouted),
    ("careless", careless),
    ("wrapped", wrapped),
)
"""Disguises that leave the meaning visible. What is encoded outright is decoded before the model reads it."""
