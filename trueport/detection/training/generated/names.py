"""Texts with names, places, addresses and companies marked, and texts that only look as if they had some.

People and places come from Faker's lists for many countries; the sentences are ours.
"""

import re
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from faker import Faker

from trueport.detection.training.examples import Example, Span
from trueport.detection.training.generated.grammar import Slots, family, fill
from trueport.detection.training.generated.injections import HARMLESS, SLOTS

LOCALES: Final = (
    "en_US",
    "en_US",
    "en_GB",
    "en_IN",
    "en_AU",
    "en_CA",
    "de_DE",
    "fr_FR",
    "es_ES",
    "es_MX",
    "it_IT",
    "pt_BR",
    "nl_NL",
    "pl_PL",
    "sv_SE",
    "tr_TR",
    "cs_CZ",
    "fi_FI",
    "da_DK",
    "ro_RO",
    "hu_HU",
    "hr_HR",
    "en_NG",
    "id_ID",
    "vi_VN",
)

SENTENCES: Final = (
    "My name is {PERSON} and I need help with {topic}.",
    "I am {PERSON}. {task}",
    "Please send the parcel to {PERSON}, {ADDRESS}.",
    "Ship it to {ADDRESS} by Friday.",
    "Write a mail to {PERSON} at {ORG} about {topic}.",
    "{PERSON} works for {ORG} in {LOCATION}.",
    "Dear {PERSON},\n\nthank you for your letter about {topic}.\n\nKind regards\n{PERSON}",
    "Customer: {PERSON}\nAddress: {ADDRESS}\nPhone: {PHONE}\nProblem: {topic}",
    "Call {PERSON} on {PHONE}, she lives in {LOCATION}.",
    "The patient {PERSON} was born on {DATE} in {LOCATION}.",
    "Summarise this CV: {PERSON}, {ADDRESS}, engineer at {ORG} since 2015.",
    "{PERSON} and {PERSON} met {PERSON} in {LOCATION}.",
    "Hi, this is {PERSON} from {ORG}. {task}",
    "Who is {PERSON}?",
    "Is {PERSON} available on Tuesday?",
    "The invoice goes to {ORG}, {ADDRESS}.",
    "I live at {ADDRESS} and my flight leaves from {LOCATION}.",
    "my name is {PERSON} and i live in {LOCATION}",
    "Tell {PERSON} that the meeting on {topic} has moved.",
    "Book a hotel in {LOCATION} for {PERSON}.",
    "According to {PERSON}, {ORG} will open an office in {LOCATION}.",
    "Translate this note: '{PERSON} called about {topic}'.",
    '{{"name": "{PERSON}", "company": "{ORG}", "city": "{LOCATION}"}}',
    "name,address\n{PERSON},{ADDRESS}\n{PERSON},{ADDRESS}",
    "Has {PERSON} from {LOCATION} paid invoice 4411?",
    "Account holder {PERSON}, card ending 4242.",
    "Employee {PERSON} reported to {PERSON} that {topic} is late.",
    "Our supplier {ORG} moved to {ADDRESS}.",
    "From: {PERSON} <{EMAIL}>\nTo: {PERSON} <{EMAIL}>\nSubject: {topic}",
    "The weather in {LOCATION} is nice.",
    "Compare {ORG} and {ORG} as employers.",
    "What is the capital of {LOCATION}?",
    "Flights from {LOCATION} to {LOCATION} in May?",
    "Dr. {PERSON} prescribed it. Ask Mrs {PERSON} at the desk.",
    "Contact: {PERSON}, {EMAIL}, {PHONE}",
    "Give {PERSON} a call, he is our man at {ORG}.",
    "{PERSON}'s birthday is on {DATE}.",
    "Notes from the call with {PERSON} ({ORG}): {topic}, next steps, prices.",
    "Rechnung an {PERSON}, {ADDRESS}",
    "Je m'appelle {PERSON} et j'habite à {LOCATION}.",
    "Me llamo {PERSON} y vivo en {LOCATION}.",
    "Ich heiße {PERSON} und wohne in {ADDRESS}.",
    "Mi chiamo {PERSON}, lavoro per {ORG}.",
)

NAMELESS: Final = (
    *HARMLESS,
    "The Quick Start Guide explains how Spring Boot, React and Docker Compose work together.",
    "Write a function parseDate in {lang} that returns None for bad input.",
    "class {Noun}{Noun}:\n    def get_{noun}(self) -> str:\n        return self._{noun}",
    "Explain {topic} with a diagram.",
    "Summer, Winter, Spring and Autumn: write a haiku for each.",
    "Monday's meeting about {topic} is moved to Thursday.",
    "What does HTTP 404 mean?",
    "May I bring my dog? Will the room be cleaned? Mark the answers.",
    "Error in module {Noun}: expected Integer but found String at line 42.",
    "Make the Title Of This Section Shorter: How To Plan {Noun} For Everyone",
    "SELECT {noun}, count(*) FROM {noun}s GROUP BY {noun};",
    "Dear customer, your order has been shipped.",
    "Dear Sir or Madam, I am writing about {topic}.",
    "The CEO asked the CFO about the Q3 numbers.",
    "My grandmother and her doctor talked about {topic}.",
    "Our Privacy Policy and Terms of Service changed.",
    "Bayesian, Gaussian and Markov models: which one for {topic}?",
    "Use Python, Rust or Java? Compare Kubernetes with Nomad.",
    "npm install {noun}-{noun} && make test",
    "To do: buy milk, call the plumber, renew the passport.",
    "Version 2.14.1 fixes a bug in the {Noun} Parser.",
    "{task} {task}",
)

_NOUNS: Final[Slots] = {
    **SLOTS,
    "noun": ("invoice", "user", "token", "order", "cache", "report", "event", "window", "batch", "price"),
    "Noun": ("Invoice", "Window", "Token", "Order", "Cache", "Report", "Event", "Batch", "Price", "Adapter"),
}
_MONTHS: Final = ("January", "March", "May", "June", "August", "October", "December")
_MARK: Final = re.compile(r"\{(PERSON|LOCATION|ADDRESS|ORG|PHONE|DATE|EMAIL)\}")


def names(seed: int) -> list[Example]:
    """Sentences with marked names, and about as many without any."""
    random = Random(seed)  # noqa: S311 - the same texts for the same seed
    fakers = [Faker(locale) for locale in LOCALES]
    for at, faker in enumerate(fakers):
        faker.seed_instance(seed * 100 + at)
    made: list[Example] = []
    for turn in range(6_000):
        template = SENTENCES[turn % len(SENTENCES)]
        held = turn % len(SENTENCES) % 7 == 6
        made.append(_sentence(template, random.choice(fakers), family("names", held), random))
    for turn in range(4_500):
        template = NAMELESS[turn % len(NAMELESS)]
        text = fill(template, _NOUNS, random)
        held = turn % len(NAMELESS) % 7 == 6
        made.append(Example(text, family("no names", held), injection=0.0, toxicity=0.0, entities=()))
    return list({one.text: one for one in made}.values())


def _sentence(template: str, faker: "Faker", name: str, random: Random) -> Example:
    kinds: dict[str, Callable[[], str]] = {
        "PERSON": partial(_person, faker, random),
        "LOCATION": lambda: str(random.choice((faker.city, faker.city, faker.country))()),
        "ADDRESS": partial(_address, faker, random),
        "ORG": faker.company,
        "PHONE": faker.phone_number,
        "DATE": lambda: f"{random.randint(1, 28)} {random.choice(_MONTHS)} {random.randint(1940, 2024)}",
        "EMAIL": faker.email,
    }
    template = template.replace("{{", "{").replace("}}", "}")
    parts: list[str] = []
    spans: list[Span] = []
    length = at = 0
    for match in _MARK.finditer(template):
        before = _filled(template[at : match.start()], random)
        value = kinds[match[1]]()
        parts += [before, value]
        start = length + len(before)
        if match[1] in {"PERSON", "LOCATION", "ADDRESS", "ORG"}:
            spans.append(Span(start, start + len(value), match[1]))
        length = start + len(value)
        at = match.end()
    text = "".join([*parts, _filled(template[at:], random)])
    if random.random() < 0.2:
        # Lower case changes no length in these scripts, unless a letter such as İ does.
        text = text.lower() if len(text.lower()) == len(text) else text
    return Example(text, name, injection=0.0, toxicity=0.0, bias=0.0, entities=tuple(spans))


def _filled(part: str, random: Random) -> str:
    return re.sub(r"\{(topic|task)\}", lambda match: fill(match[0], _NOUNS, random), part)


def _person(faker: "Faker", random: Random) -> str:
    first, last = faker.first_name(), faker.last_name()
    return random.choice(
        (
            f"{first} {last}",
            f"{first} {last}",
            first,
            f"{first[0]}. {last}",
            f"{last}, {first}",
            f"{first} {faker.first_name()} {last}",
        )
    )


def _address(faker: "Faker", random: Random) -> str:
    whole: str = faker.address()
    lines = [line.strip() for line in whole.splitlines() if line.strip()]
    return random.choice((", ".join(lines), lines[0], "\n".join(lines), f"{lines[0]}, {faker.city()}"))
