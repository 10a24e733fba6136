"""Rules for addresses of crypto-currency wallets, with their checksums where those are cheap."""

# ruff: noqa: E501 - an expression that is broken over lines is harder to check against its format

from typing import Final

from trueport.detection.patterns import validators
from trueport.detection.patterns.rules import LONG_RUN, Check, Rule


def _wallet(
    reason: str,
    expression: str,
    cue: str,
    score: float,
    check: Check | None = None,
    near: str = "",
    near_score: float = 0.0,
) -> Rule:
    return Rule("pii", "CRYPTO_WALLET", reason, expression, (cue,), score, near, near_score, check)


RULES: Final[tuple[Rule, ...]] = (
    _wallet("bitcoin_base58", r"\b[13][1-9A-HJ-NP-Za-km-z]{25,34}\b", LONG_RUN, 0.97, validators.base58_check),
    _wallet("bitcoin_bech32", r"(?i)\b(?:bc1|tb1|ltc1)[02-9ac-hj-np-z]{25,71}\b", r"\b(?:bc1|tb1|ltc1)[a-z0-9]", 0.98, validators.bech32),
    _wallet("litecoin_base58", r"\b[LM][1-9A-HJ-NP-Za-km-z]{26,33}\b", LONG_RUN, 0.95, validators.base58_check),
    _wallet("dogecoin_base58", r"\bD[5-9A-HJ-NP-U][1-9A-HJ-NP-Za-km-z]{32}\b", LONG_RUN, 0.97, validators.base58_check),
    _wallet("tron_base58", r"\bT[1-9A-HJ-NP-Za-km-z]{33}\b", LONG_RUN, 0.97, validators.base58_check),
    _wallet("ethereum", r"\b0x[0-9a-fA-F]{40}\b", LONG_RUN, 0.85,
            lambda text: len(set(text[2:].lower())) > 4, "wallet|eth|ethereum|address|send|transfer|usdt|usdc|erc-?20|metamask", 0.95),
    _wallet("ripple", r"\br[1-9A-HJ-NP-Za-km-z]{24,34}\b", "ripple|xrp", 0.0, None, "xrp|ripple|wallet", 0.8),
    _wallet("monero", r"\b[48][0-9AB][1-9A-HJ-NP-Za-km-z]{93}\b", LONG_RUN, 0.9),
    _wallet("solana", r"\b[1-9A-HJ-NP-Za-km-z]{43,44}\b", r"solana|\bsol\b|phantom", 0.0, None, r"solana|sol|phantom|spl", 0.75),
)  # fmt: skip
