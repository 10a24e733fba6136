"""Rules for credentials: marked tokens, keys and passwords by the name they are assigned to, prose, command lines, URLs."""

# ruff: noqa: E501, S105 - nothing is a password here, and an expression that is broken over lines is harder to check against its format

from base64 import b64decode
from typing import Final

import re2

from trueport.detection.patterns import randomness
from trueport.detection.patterns.rules import MIXED, VERY_MIXED, Check, Rule
from trueport.detection.patterns.tokens import RULES as TOKENS

# Vendors whose keys have no mark of their own: letters, digits or hexadecimal alone.
_VENDORS: Final = (
    r"adafruit|adobe|airtable|algolia|alibaba|aliyun|amplitude|artifactory|asana|atlassian|auth0|aws|azure|beamer|bitbucket|"
    r"bitly|bittrex|brevo|bugsnag|buildkite|calendly|circleci|cisco|meraki|clearbit|clickhouse|clickup|clojars|cloudflare|"
    r"cloudinary|codecov|cohere|coinbase|confluent|contentful|coveralls|databricks|datadog|dd[_-]|deepgram|deepseek|discord|docusign|doppler|"
    r"droneci|drone|dropbox|dynatrace|easypost|elastic|etsy|eventbrite|facebook|fastly|fb|figma|finicity|finnhub|firebase|fitbit|fireworks|flickr|"
    r"flutterwave|fly|fcm|foursquare|freshbooks|freshdesk|gcp|gitea|github|gitlab|gitter|gocardless|google|grafana|groq|"
    r"helpscout|heroku|honeybadger|hubspot|huggingface|instagram|intercom|ipinfo|ipstack|jenkins|jfrog|jira|kaggle|keycloak|klaviyo|kraken|kucoin|launchdarkly|"
    r"lastfm|linear|linkedin|lob|looker|mailchimp|mailgun|mandrill|mapbox|mattermost|messagebird|mistral|mixpanel|monday|mongodb|nasa|netlify|newrelic|new[_-]relic|"
    r"notion|npm|nuget|nytimes|new-york-times|newyorktimes|okta|onesignal|openai|openweather|pagerduty|papertrail|paypal|perplexity|pinterest|plaid|planetscale|plivo|postmark|"
    r"private[_-]?ai|privateai|pusher|quandl|quickbooks|rabbitmq|railway|rapidapi|readme|recaptcha|reddit|redis|replicate|rollbar|salesforce|scaleway|scalr|segment|sendbird|sendgrid|sendinblue|"
    r"sentry|shodan|shopify|sidekiq|slack|snyk|sonar|sonarqube|sourcegraph|splunk|spotify|square|squarespace|stability|stripe|sumo|sumologic|supabase|"
    r"tailscale|teams|telegram|telegr|tencent|terraform|together|travis|travisci|trello|twilio|twitch|twitter|typeform|unsplash|vault|vercel|vimeo|vonage|voyage|vultr|"
    r"wakatime|weatherstack|webex|webflow|wordpress|yahoo|yandex|yelp|youtube|zendesk|zoom|bundle[_-]enterprise|bundle[_-]gems|sonatype|intra|jwt|dapr|gcm|tines|"
    r"gradle|maven|cargo|rubygems|packagist|snowflake|databrick|ldap|smtp|ftp|ssh|vpn|wifi|saml|oauth|openid"
)
_SECRET_NAMES: Final = (
    r"api[_. -]{0,2}key|apikey|api[_-]?token|secret|token(?:s?\b|[_-])|passw(?:or)?d|passwd|passphrase|pwd|credential|access[_. -]?key|auth[_-]?key|"
    r"private[_-]?key|client[_-]?secret|signing[_-]?key|encryption[_-]?key|encrypt[_-]?key|master[_-]?key|license[_-]?key|bearer|webhook[_-]?key|"
    r"shared[_-]?key|service[_-]?key|session[_-]?key|consumer[_-]?key|app[_-]?key|account[_-]?key|storage[_-]?key|rest[_-]?key|connection[_-]?string|auth"
)
_PASSWORD_NAMES: Final = (
    r"passw(?:or)?d|passwd|passwort|kennwort|pwd|passphrase|passcode|contrase[nñ]a|mot[ _]de[ _]passe|senha|wachtwoord|haslo|hasło|lösenord|"
    r"losenord|пароль|密码|パスワード|db_?pass|user_?pass|dbpass|userpass|mysql_pass|root_?pass|admin_?pass|ftp_?pass|smtp_?pass|_pass"
)
_ASSIGNED: Final = (
    r"[\"'\]`)]{0,3}\s{0,4}(?:=>|:=|\|\|:?=?|->|===?|\?=|[=:,>(]|(?:is|to|as|value|lautet|ist|es|est)[ =:]{1,2}(?:now |still )?)"
    r"\s{0,4}(?:\(|\[|[brf]\b|new )?"
)

_WORD_LIKE: Final = re2.compile(r"(?:[A-Z]?[a-z]+|[A-Z]+)(?:[ _.\-/:]?(?:[A-Z]?[a-z]+|[A-Z]+))*\d?")
_EXPRESSION: Final = re2.compile(
    r"(?i)^(?:os\.|env\.|process\.|config|settings|self\.|this\.|request|req\.|ctx\.|args|params|system\.|get|load|read|fetch"
    r"|none|null|nil|true|false|undefined|str|string|int|bool|bytes|any|optional|type|var\.|local\.|data\.|secrets?\.|user\.|input|new\b)"
    r"|^[A-Za-z_]\w*(?:\.[a-z_]+)+$|-\d+\.\d+(?:\.\d+)*$|\.\.$|[A-Za-z_]\(|\)$|\[[\"']|::|->|=>|==|&&|\(\)|[a-z]\.[a-z]+\.[a-z]|;$"
)  # fmt: skip
_PATH: Final = re2.compile(
    r"^(?:[.~]{0,2}/|https?://|[A-Za-z]:\\|\w+/\w+/\w+\.)|\.(?:py|js|ts|json|ya?ml|pem|key|crt|txt|html?|com|org|net|io|md|go|java|rb|php|sh)$"
)
_DATE_OR_NUMBER: Final = re2.compile(r"[\d.,:/\- TZ+]+|v?\d+(?:\.\d+)+[\w.-]*|\d+(?:px|em|ms|kb|mb|gb|s|m|h|d|%)")


def is_key_value(text: str) -> bool:
    """Whether a value given to something called a key or token is one: opaque, and no path, version or expression."""
    return randomness.is_opaque(text) and not is_mention(text)


def is_hex_or_key(text: str) -> bool:
    """Whether a value assigned beside a vendor's name has the looks of that vendor's key."""
    return (
        not is_mention(text)
        and not randomness.is_placeholder(text)
        and randomness.entropy(text) >= 3.0
        and any(char.isdigit() for char in text)
    )


def is_password(text: str) -> bool:
    """Whether a value given to something called a password may be one; ordinary words and names are not."""
    value = text.strip()
    if len(value) < 4 or randomness.is_placeholder(value) or is_mention(value) or len(set(value)) < 4:
        return False
    kinds = (
        any(char.isdigit() for char in value) + any(char.islower() for char in value)
        + any(char.isupper() for char in value) + any(not char.isalnum() for char in value)
    )  # fmt: skip
    return kinds >= 2 and _WORD_LIKE.fullmatch(value) is None and _DATE_OR_NUMBER.fullmatch(value) is None


def is_quoted_password(text: str) -> bool:
    """Whether a quoted value may be a password: a plain word is enough, as long as it is no word about passwords."""
    value = text.strip()
    return (
        len(set(value)) >= 4
        and not randomness.is_placeholder(value)
        and not is_mention(value)
        and _ABOUT.search(value) is None
    )


_ABOUT: Final = re2.compile(
    r"(?i)^(?:the|a|an|is|must|should|please|enter|invalid|wrong|incorrect|required|missing|confirm|forgot|reset|new|old|current|user|admin|login|name|none|null|text|"
    r"hash|hashed|bcrypt|argon2|sha\d*|md5|plain|type|field|input|label|value|id|key|secret|token|basic|bearer|email|username)\b|passw|pwd|contrase|senha|kennwort| (?:is|must|to|for|the|of) "
)


def is_mention(text: str) -> bool:
    """Whether a value only says where the secret is: an expression, a path, a version."""
    return (
        _EXPRESSION.search(text) is not None
        or _PATH.search(text) is not None
        or _DATE_OR_NUMBER.fullmatch(text) is not None
    )


def is_url_password(text: str) -> bool:
    return len(text) >= 3 and not randomness.is_placeholder(text) and text.lower() not in _URL_STAND_INS


_URL_STAND_INS: Final = frozenset(
    {
        "password",
        "passwd",
        "pass",
        "pwd",
        "secret",
        "token",
        "user",
        "username",
        "port",
        "xxx",
        "pw",
        "foo",
        "bar",
        "test",
        "demo",
        "guest",
        "pass1",
        "passw0rd",
        "password1",
        "hunter2",
    }
)


def is_jwt(text: str) -> bool:
    return not randomness.is_placeholder(text[:40])


def is_basic_credentials(text: str) -> bool:
    """Base64 of `user:password`."""
    try:
        decoded = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:  # binascii.Error is one
        return False
    return b":" in decoded and decoded.isascii() and not randomness.is_placeholder(text)


def _rule(
    kind: str,
    reason: str,
    expression: str,
    *cues: str,
    score: float,
    check: Check | None = None,
    tail: str = "",
    near: str = "",
    near_score: float = 0.0,
    also: str = "",
) -> Rule:
    return Rule("secrets", kind, reason, expression, cues, score, near, near_score, check, tail, also=also)


_NAMED: Final = (
    _rule(
        "API_KEY", "assigned_key",
        rf"(?i)(?:{_SECRET_NAMES})[\w.-]{{0,24}}{_ASSIGNED}[\"'`]{{0,3}}(?P<v>[A-Za-z0-9+/_=.~!@#%^&*-]{{10,200}})",
        "key|token|secret|passw|pwd|passphrase|credential|bearer|connection|auth",
        score=0.85, check=is_key_value, also=MIXED,
    ),
    _rule(
        "API_KEY", "vendor_key",
        rf"(?i)(?:{_VENDORS})[\w .\-]{{0,30}}{_ASSIGNED}[\"'`]{{0,3}}(?P<v>[A-Za-z0-9+/_=-]{{14,150}})(?:[\"'`\s;,)\]]|$)",
        _VENDORS, score=0.8, check=is_hex_or_key, also=VERY_MIXED,
    ),
    _rule(
        "PASSWORD", "assigned_password",
        rf"(?i)(?:{_PASSWORD_NAMES})[\w.-]{{0,20}}[\"'\]`]{{0,3}}\s{{0,4}}(?:=>|:=|===?|[=:])\s{{0,4}}(?P<v>[^\s\"'`<>(){{}}\[\],;]{{4,100}})",
        "pass", "pwd", "kennwort|contrase|senha|haslo|hasło|senord|пароль|密码|パスワード|wachtwoord", score=0.8, check=is_password,
    ),
    _rule(
        "PASSWORD", "assigned_password_quoted",
        rf"(?i)(?:{_PASSWORD_NAMES})[\w.-]{{0,20}}[\"'\]`]{{0,3}}\s{{0,4}}(?:=>|:=|[=:])\s{{0,4}}(?:\"(?P<v>[^\"\n]{{4,64}})\"|'[^'\n]{{4,64}}')",
        "pass", "pwd", "kennwort|contrase|senha|haslo|hasło|senord|пароль|密码|パスワード|wachtwoord", score=0.6, check=is_password,
    ),
)  # fmt: skip

_PROSE: Final = (
    _rule(
        "PASSWORD", "password_in_prose",
        rf"(?i)(?:{_PASSWORD_NAMES}|passcode|pin|pin code|wi-?fi key|login|logon)(?: (?:for|of|to|on|für|de|del|pour|para)(?: [\w@.\-/]{{1,30}}){{1,4}})?"
        r" {0,2}(?:is|was|are|=|:|lautet|ist|es|est|é|is now|has been (?:set|changed|reset) to|set to|changed to|reset to|будет|是|：)(?: now| still| currently)? {0,2}:? {0,2}"
        r"[\"'`“‘«]?(?P<v>[^\s\"'`“”‘’«»,;<>]{6,64})",
        "pass", "pwd", r"\bpin\b", "kennwort|contrase|senha|haslo|hasło|senord|пароль|密码|パスワード|wachtwoord", "wi-?fi", "log[io]n", score=0.8, also=r"\d",
        check=lambda text: is_password(text.rstrip(".!?:)")) and any(char.isdigit() for char in text),
    ),
    _rule(
        "PASSWORD", "log_in_with",
        r"(?i)(?:log ?in|sign ?in|logged in|authenticate|connect|ssh|credentials|creds|account|zugangsdaten)(?:[ :]{1,2}[\w@.\-/]{1,40}){0,6}? ?(?:/|with|using|password|pw|pass|:|und|and)(?: (?:password|pw|pass|passwort))? {0,2}:? ?"
        r"[\"'`]?(?P<v>[^\s\"'`,;<>]{8,64})",
        "log ?in|sign ?in|logged in|authenticate|ssh|credentials|creds|zugangsdaten", score=0.7, also=MIXED,
        check=lambda text: is_password(text.rstrip(".!?:)")) and _is_mixed(text.rstrip(".!?:)")),
    ),
)  # fmt: skip


def _is_mixed(text: str) -> bool:
    """Letters of both cases, digits and a sign: as password rules ask for, and as little else is written."""
    return (
        any(char.isdigit() for char in text) and any(char.islower() for char in text) and any(char.isupper() for char in text)
        and any(char in "!@#$%^&*?+=~" for char in text) and "/" not in text and "@" not in text[1:-1]
    )  # fmt: skip


_COMMANDS: Final = (
    _rule(
        "PASSWORD", "password_option",
        r"(?i)(?:^|\s)--?(?:password|passwd|pass|pwd|db-?pass(?:word)?|secret|admin-?password|root-?password|user-?password|http-?password|client-?secret|sudo-?pass)(?:[= ]{1,2})[\"']?(?P<v>[^\s\"'<>|;&-][^\s\"'<>|;&]{3,100})",
        "-(?:[a-z-]*-)?(?:pass|pwd|secret|http-pass|client-sec|db)", score=0.85, check=lambda text: is_password(text) or (is_quoted_password(text) and any(c.isdigit() for c in text)),
    ),
    _rule(
        "API_KEY", "token_option",
        r"(?i)(?:^|\s)--?(?:(?:[a-z]{2,16}-)?(?:token|api-?key|access-?key|auth-?key|apikey|secret-?key)|key)(?:[= ]{1,2})[\"']?(?P<v>[\w.+/=~-]{8,200})",
        "-(?:[a-z-]*-)?(?:[a-z]+)?(?:token|key)", score=0.85, check=is_key_value,
    ),
    _rule(
        "PASSWORD", "password_flag",
        r"(?:\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^\n|;]{0,80} -p(?P<v>[^\s'\"|;&]{4,64}))",
        "mysql|mariadb", score=0.85, check=is_quoted_password,
    ),
    _rule(
        "PASSWORD", "password_argument",
        r"(?:\bsshpass -p ?|\bredis-cli\b[^\n|;]{0,60} -a |\bdocker login\b[^\n|;]{0,80} (?:-p|--password) ?|\baz login\b[^\n|;]{0,100} -p |\bldapsearch\b[^\n|;]{0,100} -w |\bmongo(?:sh|dump|restore)?\b[^\n|;]{0,80} -p |\brabbitmqctl add_user \S{1,30} |\bhtpasswd -\w{0,4}b\w{0,4} \S{1,40} \S{1,30} )[\"']?(?P<v>[^\s'\"|;&-][^\s'\"|;&]{3,64})",
        "sshpass|redis-cli|docker login|az login|ldapsearch|mongo|rabbitmqctl|htpasswd", score=0.85, check=is_quoted_password,
    ),
    _rule(
        "PASSWORD", "net_user",
        r"(?i)\bnet user \S{1,40} (?P<v>[^\s/\"]{6,64}) /add", "net user", score=0.85, check=is_quoted_password,
    ),
    _rule(
        "PASSWORD", "curl_user",
        r"\bcurl\b[^\n]{0,120}?\s(?:-u|--user|-U|--proxy-user)[= ]?[\"']?[^\s\"':]{0,64}:(?P<v>[^\s\"':<>][^\s\"'<>]{2,150})",
        r"\bcurl\b", score=0.9, check=is_url_password,
    ),
    _rule(
        "API_KEY", "authorization_header",
        r"(?i)(?:authorization|x-api-key|x-auth-token|private-token|x-access-token|api-key|x-vault-token|x-[a-z]{2,20}-(?:key|token))[\"']?\s{0,2}[:=,]\s{0,2}[\"']?(?:(?:bearer|token|apikey|api-token|key|splunk|genie(?:key)?|bot)\s{1,2})?[\"']?(?P<v>[\w.~+/=-]{12,250})",
        "authorization|x-[a-z-]+(?:key|token)|private-token|api-key", score=0.9, check=is_key_value, tail=r"[\w.~+/=-]+",
    ),
    _rule(
        "API_KEY", "bearer_token",
        r"(?i)\bbearer\s{1,2}[\"']?(?P<v>[\w.~+/=-]{16,250})", r"\bbearer\s", score=0.85, check=is_key_value, tail=r"[\w.~+/=-]+",
    ),
    _rule(
        "BASIC_CREDENTIALS", "basic_credentials",
        r"(?i)\bbasic\s{1,2}(?P<v>[A-Za-z0-9+/]{8,200}={0,2})", r"\bbasic\s", score=0.9, check=is_basic_credentials,
    ),
)  # fmt: skip

_PLACES: Final = (
    _rule(
        "URL_CREDENTIALS", "url_credentials",
        r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s:/?#@\"'<>\[\]]{0,80}:(?P<v>[^\s/?#@\"'<>]{3,100})@[a-z0-9\[]",
        r"://[^\s/?#@]*@", score=0.93, check=is_url_password,
    ),
    _rule(
        "CONNECTION_STRING", "connection_string",
        r"(?i)(?:server|data source|host|addr|address|user id|uid|database|initial catalog|driver|endpoint)\s{0,2}=[^;\n\"']{1,80};(?:[^;\n\"'=]{1,24}=[^;\n\"']{0,60};){0,3}\s?(?:password|pwd|accountkey|sharedaccesskey)\s{0,2}=\s{0,2}(?P<v>[^;\s\"'<>]{4,100})",
        "(?:password|pwd|key) ?=", score=0.93, check=is_url_password,
    ),
    _rule(
        "JWT", "jwt", r"\bey[A-Za-z0-9][\w-]{12,250}\.ey[\w/\\-]{12,200}", r"\bey[a-z0-9]+\.ey|\beyj", score=0.93, check=is_jwt, tail=r"[\w.-]+",
    ),
    _rule(
        "JWT", "jwt_base64", r"\bZXlK[A-Za-z0-9+/]{60,250}", "zxlk", score=0.8, tail="[A-Za-z0-9+/=]+",
    ),
    _rule(
        "PRIVATE_KEY", "pem_private_key", r"-----BEGIN[ A-Z0-9_-]{0,60}PRIVATE KEY(?: BLOCK)?-----(?:\\{1,2}[nr]|[\s\"'+>|]){0,24}(?:[A-Za-z0-9+/]{20}|Proc-Type|DEK-Info|Version|Comment)",
        "-----begin", score=0.98, tail=r"(?:[A-Za-z0-9+/=\s:,.\\()\"']|-{1,4}[^-])*(?:-----END[ A-Z0-9_-]{0,60}PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    _rule(
        "PRIVATE_KEY", "putty_private_key", r"PuTTY-User-Key-File-\d: [\w-]{1,40}", "putty-user-key-file", score=0.95,
        tail=r"[A-Za-z0-9+/=\s:,.@-]+",
    ),
    _rule(
        "PASSWORD", "netrc", r"(?i)\bmachine \S{1,80}\s{1,4}login \S{1,80}\s{1,4}password (?P<v>\S{3,80})", r"\bmachine \S", score=0.93,
        check=is_url_password,
    ),
    _rule(
        "KUBERNETES_SECRET", "kubernetes_secret",
        r"(?is)\bkind:\s{0,4}[\"']?secret\b.{0,250}\bdata:\s{1,8}[\w.-]{1,80}:\s{0,4}[\"']?(?P<v>[A-Za-z0-9+/]{8,100}={0,2})",
        r"kind:\s{0,4}[\"']?secret", score=0.85, check=lambda text: not randomness.is_placeholder(text), tail="[A-Za-z0-9+/=]+",
    ),
)  # fmt: skip

RULES: Final[tuple[Rule, ...]] = (*TOKENS, *_NAMED, *_PROSE, *_COMMANDS, *_PLACES)
