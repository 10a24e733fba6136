"""Rules for text that carries data out: links that are fetched by being shown, places that collect requests, names that
spell data, and blobs beside an order to send them."""

# ruff: noqa: E501 - an expression that is broken over lines is harder to check against its format

from typing import Final
from urllib.parse import unquote

import re2

from trueport.detection.patterns.randomness import entropy
from trueport.detection.patterns.rules import LONG_RUN, Check, Rule


def _rule(
    kind: str,
    reason: str,
    expression: str,
    *cues: str,
    score: float = 0.0,
    near: str = "",
    near_score: float = 0.0,
    check: Check | None = None,
    tail: str = "",
    also: str = "",
) -> Rule:
    return Rule("data_exfiltration", kind, reason, expression, cues, score, near, near_score, check, tail, also=also)


# Services that show a stranger's requests to whoever made the address.
_COLLECTORS: Final = (
    r"webhook\.site|(?:[\w-]{1,40}\.)?requestbin\.(?:com|net|io)|[\w-]{1,40}\.(?:x\.)?pipedream\.net|requestcatcher\.com|[\w-]{1,40}\.requestcatcher\.com|"
    r"[\w-]{1,60}\.ngrok(?:-free)?\.(?:io|app|dev)|[\w-]{1,60}\.(?:oast\.(?:fun|me|live|pro|site|online)|interact\.sh|oastify\.com|burpcollaborator\.net|dnslog\.cn|ceye\.io)|"
    r"canarytokens\.com|beeceptor\.com|[\w-]{1,40}\.beeceptor\.com|hookbin\.com|postb\.in|ptsv[23]\.com|mockbin\.org|[\w-]{1,60}\.trycloudflare\.com|[\w-]{1,60}\.loca\.lt|"
    r"[\w-]{1,60}\.serveo\.net|[\w-]{1,60}\.localtunnel\.me|webhook\.cool|typedwebhook\.tools|smee\.io|hook\.(?:eu|us)\d\.make\.com|grabify\.link|iplogger\.(?:org|com)"
)
_COLLECTOR_CUES: Final = (
    r"webhook\.site|requestbin\.|pipedream\.net|requestcatcher|\.ngrok|\.oast\.|interact\.sh|oastify|burpcollab|dnslog\.cn|ceye\.io|canarytokens|beeceptor|hookbin|"
    r"postb\.in|ptsv[23]|mockbin|trycloudflare|loca\.lt|serveo|localtunnel|webhook\.cool|typedwebhook|smee\.io|\.make\.com|grabify|iplogger"
)
_PASTES: Final = (
    r"pastebin\.com/api|hastebin\.com/documents|transfer\.sh|file\.io|0x0\.st|termbin\.com|paste\.rs|dpaste\.(?:com|org)/api|ix\.io|bashupload\.com|temp\.sh|"
    r"api\.telegram\.org/bot|discord(?:app)?\.com/api/webhooks|hooks\.slack\.com/services|anonfiles\.com|gofile\.io"
)
_SEND: Final = (
    r"send|post|upload|forward|exfiltrat\w{1,5}|leak|transmit|append|include|embed|encode|fetch|curl|wget|ping|deliver|report|submit|email|e-mail|"
    r"replace|insert|fill in|base64|render|display|output"
)
_PRIVATE: Final = (
    r"conversation|chat|history|prompt|system prompt|secret\w?|api[_ -]?keys?|password\w?|credential\w?|token\w?|cookie\w?|environment|env|user'?s?|data|message\w?|context|"
    r"instructions|personal|private|confidential|e-?mails?|document\w?|file\w?|summary|memory|session|key\w?"
)
_HOLE: Final = (
    r"(?:\{[^}\s]{1,60}\}|\[[A-Za-z_ -]{3,60}\]|<[A-Za-z_ -]{3,60}>|%7B[^%\s]{1,60}%7D|\$\{?[A-Za-z_]{3,40}\}?)"
)
_PAYLOAD_NAMES: Final = r"(?:data|d|q|query|payload|p|c|content|exfil\w{0,8}|leak|secret|s|msg|message|text|conversation|chat|history|prompt|context|info|key|token|cookie|pw|pass\w{0,5}|user\w{0,6}|e?mail|body|dump|log|summary|out|output|result|steal\w{0,3}|x|id|value|v|b64|base64|enc)"
_IMAGE_SIZE: Final = re2.compile(
    r"(?i)^(?:w|h|width|height|size|s|v|ver|version|ts|cache|cb|format|fm|q|quality|auto|fit|crop|dpr|lang|ref|utm_\w+|page|branch|style|label|logo|color|token|raw|sanitize|job|event)$"
)
_ASSET: Final = re2.compile(
    r"(?i)img\.shields\.io|github(?:usercontent)?\.com|badge|gravatar|googleapis|gstatic|cloudfront|cdn|wikimedia|unsplash|imgur|youtube|travis-ci|codecov|readthedocs"
)


def carries_data(url: str) -> bool:
    """Whether a link's query holds what no picture needs: a long or random value, or words in a row."""
    place, _, query = url.partition("?")
    if _ASSET.search(place) is not None:
        return False
    for part in query.rstrip(")").split("&"):
        name, _, value = part.partition("=")
        value = unquote(value or name)
        if _IMAGE_SIZE.search(name) is not None and len(value) < 24:
            continue
        if _is_payload(value):
            return True
    return False


def _is_payload(value: str) -> bool:
    words = value.replace("+", " ").replace("_", " ").split()
    return (
        (len(value) >= 20 and entropy(value) >= 3.2)
        or len(words) >= 3
        or "@" in value
        or (len(value) >= 8 and any(char in value for char in "{[<$"))
    )


def is_encoded_label(name: str) -> bool:
    """Whether a host name's labels are data in base32 or hexadecimal: long, and with digits among the letters."""
    labels = name.split(".")[:-2]
    long_ones = [
        label
        for label in labels
        if len(label) >= 24 and entropy(label) >= 3.0 and any(char.isdigit() for char in label)
    ]
    return bool(long_ones) and not any(
        label in {"cloudfront", "amazonaws", "azurewebsites", "googleusercontent", "compute"}
        for label in name.split(".")
    )


def is_blob(text: str) -> bool:
    """Whether a run of base64 or hexadecimal is random enough to be encoded or sealed data."""
    return entropy(text) >= 4.2 or (len(text) >= 160 and entropy(text) >= 3.4)


_URL_END: Final = r"[^\s)\"'<>\\\]]"

RULES: Final[tuple[Rule, ...]] = (
    _rule(
        "MARKDOWN_BEACON", "markdown_image_with_data", rf"!\[[^\]\n]{{0,100}}\]\(\s?<?(?P<v>(?:https?:)?//[^\s)?<>]{{3,150}}\?{_URL_END}{{4,130}})",
        r"!\[", score=0.85, near=_PRIVATE + "|" + _SEND, near_score=0.92, check=carries_data, tail=_URL_END + "+",
    ),
    _rule(
        "MARKDOWN_BEACON", "markdown_image_with_hole", rf"!\[[^\]\n]{{0,100}}\]\(\s?<?(?P<v>(?:https?:)?//[^\s)<>{{[]{{3,200}}{_HOLE})", r"!\[",
        score=0.9,
    ),
    _rule(
        "MARKDOWN_BEACON", "markdown_image_with_path", r"!\[[^\]\n]{0,100}\]\(\s?<?(?P<v>(?:https?:)?//[^\s)/?<>]{3,80}/(?:[^\s)/?<>]{1,40}/){0,3}[A-Za-z0-9+_=%-]{48,120})",
        r"!\[", score=0.7, check=lambda text: _ASSET.search(text) is None and is_blob(text.rsplit("/", 1)[-1]), tail=_URL_END + "+",
    ),
    _rule(
        "MARKDOWN_BEACON", "markdown_reference_with_data", rf"(?m)^ {{0,3}}\[[^\]\n]{{1,60}}\]:\s{{1,4}}<?(?P<v>https?://[^\s?<>]{{3,200}}\?{_PAYLOAD_NAMES}={_URL_END}{{8,150}})",
        r"\]: <?https?://", score=0.75, check=carries_data, tail=_URL_END + "+",
    ),
    _rule(
        "MARKDOWN_BEACON", "markdown_link_with_data", rf"\]\(\s?<?(?P<v>https?://[^\s)?<>]{{3,120}}\?(?:[\w-]{{1,20}}=[^&\s)]{{0,30}}&){{0,2}}{_PAYLOAD_NAMES}={_URL_END}{{8,100}})",
        r"\]\(\s?<?https?://[^ )]{3,}\?", score=0.45, near=r"conversation|history|system prompt|secret\w?|api[_ -]?keys?|password\w?|exfil\w{0,8}|credential\w?", near_score=0.8,
        check=carries_data, tail=_URL_END + "+",
    ),
    _rule(
        "HTML_BEACON", "html_image_with_data",
        r"(?i)<(?:img|iframe|script|link|source|video|audio|embed|object|input)\b[^>\n]{0,80}\b(?:src|href|data|srcset)\s{0,2}=\s{0,2}[\"']?(?P<v>(?:https?:)?//[^\s\"'?<>]{3,150}\?[^\s\"'<>]{4,120})",
        r"<(?:img|iframe|script|link|source|video|audio|embed|object|input)\b", score=0.8, check=carries_data, tail=r"[^\s\"'<>]+",
    ),
    _rule(
        "HTML_BEACON", "html_image_with_hole",
        rf"(?i)<(?:img|iframe|script|link)\b[^>\n]{{0,80}}\b(?:src|href)\s{{0,2}}=\s{{0,2}}[\"'`]?(?P<v>(?:https?:)?//[^\s\"'`<>{{[]{{3,150}}[?&/][\w-]{{0,30}}=?{_HOLE})",
        r"<(?:img|iframe|script|link)\b", score=0.7, near=_PRIVATE, near_score=0.88,
    ),
    _rule(
        "HTML_BEACON", "style_beacon", r"(?i)(?:background(?:-image)?|@import|list-style)\s{0,2}:?\s{0,2}url\(\s?[\"']?(?P<v>https?://[^\s)\"'?]{3,150}\?[^\s)\"']{8,120})",
        r"url\(", score=0.7, check=carries_data,
    ),
    _rule(
        "COLLECTOR_URL", "collector_with_data", rf"(?i)(?:https?://)?(?:[\w-]{{1,20}}\.)?(?:{_COLLECTORS})(?::\d{{2,5}})?/?[^\s\"'<>)?]{{0,80}}\?[^\s\"'<>)]{{3,80}}", _COLLECTOR_CUES,
        score=0.93, tail=r"[^\s\"'<>)]+",
    ),
    _rule(
        "COLLECTOR_URL", "collector", rf"(?i)\b(?:https?://)?(?:{_COLLECTORS})(?:/[\w.-]{{1,60}}){{0,3}}", _COLLECTOR_CUES, score=0.55,
        near=_SEND + "|" + _PRIVATE, near_score=0.85,
    ),
    _rule(
        "PASTE_UPLOAD", "paste_with_order", rf"(?i)(?:https?://)?(?:[\w-]{{1,20}}\.)?(?:{_PASTES})[^\s\"'<>)]{{0,100}}", _PASTES, score=0.3,
        near=r"curl|wget|send|post|upload|forward|exfil\w{0,8}|-d|--data(?:-binary)?|-F|-T|invoke-\w{1,14}|requests\.post|fetch|conversation|history|secret\w?|credential\w?|/etc/\w{1,10}|\.ssh|\.env|@-",
        near_score=0.75,
    ),
    _rule(
        "UPLOAD_COMMAND", "upload_of_private_file",
        r"(?i)\b(?:curl|wget|nc|ncat|scp|rsync|ftp|invoke-(?:webrequest|restmethod))\b[^\n]{0,120}(?:@|<|\$\(cat |-T |--post-file[= ]|-infile )\s?(?P<v>[~/\w.\\$-]{0,60}(?:\.ssh/|id_rsa|\.env\b|/etc/(?:passwd|shadow)|\.aws/credentials|\.kube/config|credentials|\.git-credentials|\.netrc|\.bash_history|secrets?\b)[\w./-]{0,40})",
        r"\.ssh|id_rsa|\.env\b|/etc/|credentials|\.kube|\.netrc|bash_history|secret", score=0.88,
    ),
    _rule(
        "UPLOAD_COMMAND", "private_file_piped_out",
        r"(?i)\b(?:cat|base64|tar|zip|gzip|env|printenv|set|type|get-content)\b[^\n|]{0,100}(?:\.ssh|id_rsa|\.env\b|/etc/(?:passwd|shadow)|\.aws|credentials|history|printenv)?[^\n|]{0,40}\|[^\n]{0,60}\b(?:curl|wget|nc|ncat|telnet|openssl s_client)\b[^\n]{0,40}(?:-d|--data\w{0,8}|-F|-T|@-|\d{2,5}|http)",
        r"\b(?:curl|wget|nc|ncat|telnet|openssl)\b", score=0.8,
    ),
    _rule(
        "DATA_URL", "data_url_active", r"(?i)\bdata:(?:text/html|application/(?:x-)?javascript|text/javascript|image/svg\+xml)[;,][^\s\"')]{8,80}", r"data:(?:text|application|image)/", score=0.6,
        near=_SEND, near_score=0.75, tail=r"[^\s\"')]+",
    ),
    _rule(
        "DATA_URL", "data_url_with_text", r"(?i)\bdata:text/plain[^,\s]{0,40},[^\s\"')]{32,200}", "data:text/plain", score=0.45, near=_PRIVATE, near_score=0.65, tail=r"[^\s\"')]+",
    ),
    _rule(
        "DNS_EXFILTRATION", "dns_encoded_labels", r"(?i)\b(?:[a-z0-9_-]{24,63}\.){1,4}(?:[a-z0-9-]{1,40}\.){1,3}[a-z]{2,12}\b", LONG_RUN, score=0.4,
        near=r"nslookup|dig|host|dns|resolve|lookup|ping|query|subdomain|txt record|" + _SEND, near_score=0.8, check=is_encoded_label,
    ),
    _rule(
        "DNS_EXFILTRATION", "dns_command_substitution",
        r"(?i)\b(?:nslookup|dig|host|ping|drill|resolve-dnsname)\b[^\n|;]{0,60}(?P<v>(?:\$\([^)\n]{2,80}\)|`[^`\n]{2,80}`|\$\{?[a-z_]{1,30}\}?|%[a-z_]{1,30}%)\.[\w.-]{3,80})",
        r"\b(?:nslookup|dig|host|ping|drill|resolve-dnsname)\b", score=0.9, also=r"[)`}%a-z][.][a-z]",
    ),
    _rule(
        "DNS_EXFILTRATION", "dns_hole", rf"(?i)\b(?:nslookup|dig|resolve|look ?up|ping|visit|fetch|request|load)\b[^\n]{{0,40}}(?P<v>{_HOLE}\.[a-z0-9-]{{2,40}}\.[a-z]{{2,12}})\b",
        r"\b(?:nslookup|dig|resolve|look ?up|ping|visit|fetch|request|load)\b", score=0.8, also=r"[}\])>][.][a-z0-9]",
    ),
    _rule(
        "ENCODED_BLOB", "blob_with_order", r"(?:^|[^A-Za-z0-9+/=_-])(?P<v>[A-Za-z0-9+/_-]{120,300})", LONG_RUN, "base64", score=0.0,
        near=r"send|post|upload|forward|exfil\w{0,8}|transmit|curl|wget|append to (?:the )?url|submit|deliver|fetch|request to", near_score=0.6, check=is_blob,
        tail=r"[A-Za-z0-9+/=_-]+",
    ),
    _rule(
        "URL_WITH_HOLE", "order_to_fill_url",
        rf"(?i)\b(?:{_SEND})\b[^\n]{{0,100}}(?P<v>https?://[^\s\"'<>{{[]{{3,120}}[?&/][\w-]{{0,30}}=?{_HOLE})", r"https?://[^\s{\[<]{3,}[{\[<$]", score=0.45,
        near=r"conversation|chat history|history|system prompt|secret\w?|api[_ -]?keys?|password\w?|credential\w?|user'?s? (?:data|message|input|name|email)|previous (?:message|answer)\w?|summary of|instructions",
        near_score=0.85,
    ),
    _rule(
        "URL_WITH_HOLE", "url_parameter_of_secrets",
        r"(?i)https?://[^\s\"'<>?]{3,120}\?(?:[\w-]{1,30}=[^&\s]{0,40}&){0,2}(?:secret|password|passwd|api_?key|system_?prompt|conversation|chat_?history|history|credentials|cookie|exfil\w{0,8}|stolen|leak\w{0,2})=[^\s\"'<>)]{2,80}",
        r"[?&](?:secret|password|passwd|api_?key|system_?prompt|conversation|chat_?history|history|credentials|cookie|exfil|stolen|leak)", score=0.55,
        near=_SEND, near_score=0.75, tail=r"[^\s\"'<>)]+",
    ),
)  # fmt: skip
