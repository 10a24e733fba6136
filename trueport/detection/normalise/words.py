"""The words that languages use most and those that injections cannot do without, as they stand and disguised."""

import codecs
from typing import Final

COMMON: Final = frozenset(
    """
    the and you that this have with from not are was but your all can will one what about which when there their would
    make like time just know take into year good some could them other than then now only its over also back after use
    how our work first well way even new want because any these give day most us is it in of to on for as at be by we
    he do or an if me my so up out no has had his her she who get go him see more been were said each may should must
    ignore ignored previous instruction instructions system prompt prompts rules rule reveal forget disregard above
    before below following everything anything secret password pretend act answer respond developer mode jailbreak
    unrestricted restrictions filter filters policy policies hidden message messages show print repeat tell words send
    next output user assistant model told do never always without
    der die das und ist nicht mit alle vorherigen anweisungen vergiss ignoriere que los las una con por para todas las
    instrucciones anteriores les des est pas toutes
    """.split()  # noqa: SIM905 - a list of two hundred strings is harder to read
)
ROTATED: Final = frozenset(codecs.encode(word, "rot13") for word in COMMON) - COMMON
MIRRORED: Final = frozenset(word[::-1] for word in COMMON) - COMMON
