"""Tokens that their vendor marks: a prefix, a length, an alphabet, sometimes a checksum.

Written from what the vendors publish about their tokens. Those with nothing to tell them by, such as forty letters
and digits, are found by the name they are assigned to: see `secrets`.
"""

# ruff: noqa: E501 - an expression that is broken over lines is harder to check against its format

import zlib
from typing import Final

from trueport.detection.patterns.randomness import is_token
from trueport.detection.patterns.rules import LONG_RUN, Check, Rule

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def base62_crc32(text: str) -> str:
    """CRC-32 of a text as six base62 digits, the way GitHub, npm and this gateway end their tokens."""
    number = zlib.crc32(text.encode())
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits


def github_checksum(text: str) -> bool:
    """The last six characters are the checksum of the thirty before them."""
    return base62_crc32(text[-36:-6]) == text[-6:]


def own_key_checksum(text: str) -> bool:
    """The last six characters are the checksum of all before the last hyphen."""
    return base62_crc32(text[:-7]) == text[-6:]


def _token(
    kind: str, expression: str, *cues: str, score: float = 0.97, check: Check = is_token, tail: str = "", name: str = ""
) -> Rule:
    return Rule("secrets", kind, name or kind.lower(), expression, cues, score, check=check, tail=tail)


def _near(kind: str, expression: str, cue: str, near: str, score: float = 0.9, name: str = "") -> Rule:
    """A form that is too common to stand alone and counts beside its vendor's name."""
    return Rule("secrets", kind, name or kind.lower(), expression, (cue,), 0.0, near, score, is_token)


_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

_CLOUDS: Final = (
    _token("AWS_ACCESS_KEY_ID", r"\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z2-7]{16}\b", "akia|asia[a-z2-7]{2}|abia|acca|a3t[a-z0-9]"),
    _near("AWS_SECRET_KEY", r"(?:^|[^A-Za-z0-9/+=])(?P<v>[A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)", r"\b_?aws|secret_?access",
          "aws|aws[_ .-]?secret(?:[_ .-]?access)?[_ .-]?key|secret[_ -]?access[_ -]?key|amazon"),
    _token("AWS_SESSION_TOKEN", r"\b(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[A-Za-z0-9/+=]{80,250}", "fwogzxivyxdz|iqojb3jpz2lu",
           tail="[A-Za-z0-9/+=]+"),
    _token("AWS_BEDROCK_KEY", r"\bABSK[A-Za-z0-9+/]{100,250}", "absk[a-z0-9]", tail="[A-Za-z0-9+/=]+"),
    _token("AWS_BEDROCK_KEY", r"\bbedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t[A-Za-z0-9+/]{0,250}", "bedrock-api-key-", tail="[A-Za-z0-9+/=]+",
           name="aws_bedrock_short_key"),
    _token("GOOGLE_API_KEY", r"\bAIza[\w-]{35}", "aiza"),
    _token("GOOGLE_OAUTH_SECRET", r"\bGOCSPX-[\w-]{28}", "gocspx-"),
    _token("GOOGLE_OAUTH_TOKEN", r"\bya29\.[\w-]{20,250}", r"ya29\.", tail=r"[\w.-]+"),
    _token("GOOGLE_REFRESH_TOKEN", r"\b1//0[\w-]{40,110}", "1//0"),
    _token("GOOGLE_KEY_ID", r'"private_key_id"\s{0,4}:\s{0,4}"(?P<v>[0-9a-f]{40})"', "private_key_id", score=0.8),
    _token("AZURE_CLIENT_SECRET", r"(?:^|[^\w~.-])(?P<v>[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34})(?:[^\w~.-]|$)", r"\dq~[a-z0-9]"),
    _token("AZURE_STORAGE_KEY", r"(?i)\b(?:AccountKey|SharedAccessKey)\s{0,2}=\s{0,2}(?P<v>[A-Za-z0-9/+]{43,88}={0,2})",
           "(?:account|access)key ?="),
    _token("AZURE_SAS", r"[?&]sig=(?P<v>[A-Za-z0-9%/+]{40,80}(?:%3D|=))", r"[?&]sig="),
    _token("AZURE_DEVOPS_TOKEN", r"\b[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}\b", "azdo"),
    _token("AZURE_KEY", r"[A-Za-z0-9/+]{42,44}(?:AStr?|AzFu|AIoT|ARm7|AzSe|AzCa|\+ACR)[A-Za-z0-9/+]{5,40}={0,2}",
           "astr|azfu|aiot|arm7|azse|azca|acr[a-d]", name="azure_marked_key"),
    _token("ALIBABA_KEY_ID", r"\bLTAI[A-Za-z0-9]{16,22}\b", "ltai[a-z0-9]"),
    _token("TENCENT_KEY_ID", r"\bAKID[A-Za-z0-9]{32}\b", "akid[a-z0-9]"),
    _token("YANDEX_KEY", r"\b(?:AQVN[\w-]{35,38}|YC[\w-]{38}|t1\.[A-Z0-9a-z_-]+?[=]{0,2}\.[A-Z0-9a-z_-]{86}[=]{0,2})".replace("+?", "{1,200}"),
           r"aqvn|\byc[a-z0-9]|\bt1\."),
    _token("DIGITALOCEAN_TOKEN", r"\bdo[opr]_v1_[a-f0-9]{64}\b", "do[opr]_v1_"),
    _token("HEROKU_KEY", r"\bHRKU-AA[\w-]{58}", "hrku-"),
    _token("FLY_TOKEN", r"\b(?:fo1_[\w-]{43}|fm[12][ar]?_[A-Za-z0-9+/]{60,250})", "fo1_|fm[12][ar]?_", tail="[A-Za-z0-9+/=_-]+"),
    _token("NETLIFY_TOKEN", r"\bnf[pcoub]_[A-Za-z0-9]{36}\b", "nf[pcoub]_"),
    _token("RENDER_KEY", r"\brnd_[A-Za-z0-9]{28,36}\b", "rnd_"),
    _token("VERCEL_TOKEN", r"\bvc[pikar]_[A-Za-z0-9]{24,64}\b", "vc[pikar]_"),
    _token("VERCEL_TOKEN", r"\bvercel_blob_rw_[A-Za-z0-9]{12,20}_[A-Za-z0-9]{24,40}\b", "vercel_blob_rw_", name="vercel_blob_token"),
    _token("CLOUDFLARE_TOKEN", r"\bcf(?:ut|at|k)_[A-Za-z0-9]{40,52}\b", "cf(?:ut|at|k)_"),
    _token("CLOUDFLARE_CA_KEY", r"\bv1\.0-[a-f0-9]{24}-[a-f0-9]{146}\b", r"v1\.0-[a-f0-9]"),
    _near("CLOUDFLARE_TOKEN", r"\b(?P<v>[a-f0-9]{37}|[A-Za-z0-9_-]{40})\b", "cloudflare", r"cloudflare|cf[_ -](?:api|token|key)|cloudflare[_ -]?(?:api|global|auth)\w{0,20}",
          name="cloudflare_named"),
    _token("SUPABASE_KEY", r"\b(?:sbp_(?:v0_)?[a-f0-9]{40}|sb_secret_[\w-]{31,41})\b", "sbp_|sb_secret_"),
    _token("PLANETSCALE_KEY", r"\bpscale_(?:tkn|pw|oauth)_[\w=.-]{32,64}", "pscale_"),
    _token("NEON_KEY", r"\bnapi_[a-z0-9]{64}\b", "napi_"),
    _token("MONGODB_SECRET", r"\bmdb_sa_sk_[\w-]{40}\b", "mdb_sa_"),
    _token("OPENSHIFT_TOKEN", r"\bsha256~[\w-]{43}\b", "sha256~"),
    _token("SCALINGO_TOKEN", r"\btk-us-[\w-]{48}", "tk-us-"),
    _token("CLICKHOUSE_KEY", r"\b4b1d[A-Za-z0-9]{38}\b", "4b1d"),
    _token("DATABRICKS_TOKEN", r"\bdapi[a-f0-9]{32}(?:-\d)?\b", "dapi[a-f0-9]{2}"),
)  # fmt: skip

_MODELS: Final = (
    _token("TRUEPORT_KEY", r"\bsk-tp-[0-9a-v]{26}-[0-9A-Za-z]{43}-[0-9A-Za-z]{6}\b", "sk-tp-", score=0.99, check=own_key_checksum),
    _token("TRUEPORT_KEY", r"\bsk-tp-[0-9a-v]{26}-[0-9A-Za-z]{20,50}", "sk-tp-", score=0.85, name="trueport_key_damaged"),
    _token("OPENAI_KEY", r"\bsk-(?:proj|svcacct|admin|None|service)-[\w-]{20,250}", "sk-[a-z]{4,7}-"),
    _token("OPENAI_KEY", r"\bsk-[\w-]{20,140}T3BlbkFJ[\w-]{20,140}", "t3blbkfj", score=0.99, name="openai_key_marked"),
    _token("ANTHROPIC_KEY", r"\bsk-ant-[a-z]{2,8}\d{2}-[\w-]{93}AA\b", "sk-ant-", score=0.98),
    _token("ANTHROPIC_KEY", r"\bsk-ant-[a-z]{2,8}\d{2}-[\w-]{40,120}", "sk-ant-", score=0.45, name="anthropic_key_misshapen"),
    _token("GROQ_KEY", r"\bgsk_[A-Za-z0-9]{52}\b", "gsk_"),
    _token("XAI_KEY", r"\bxai-[A-Za-z0-9]{80}\b", "xai-"),
    _token("PERPLEXITY_KEY", r"\bpplx-[A-Za-z0-9]{48}\b", "pplx-"),
    _token("REPLICATE_TOKEN", r"\br8_[A-Za-z0-9]{37}\b", "r8_"),
    _token("TOGETHER_KEY", r"\btgp_v1_[\w-]{43}", "tgp_v1_"),
    _near("TOGETHER_KEY", r"\b[0-9a-f]{64}\b", "together", "together(?:[ ._-]?ai)?(?:[ ._-]?api)?(?:[ ._-]?key)?", name="together_key_named"),
    _token("FIREWORKS_KEY", r"\bfw_[A-Za-z0-9]{22,26}\b", "fw_[a-z0-9]"),
    _token("OPENROUTER_KEY", r"\bsk-or-v1-[0-9a-f]{64}\b", "sk-or-"),
    _token("CEREBRAS_KEY", r"\bcsk-[a-z0-9]{40,56}\b", "csk-"),
    _token("NVIDIA_KEY", r"\bnvapi-[\w-]{60,72}", "nvapi-"),
    _token("PINECONE_KEY", r"\bpcsk_[A-Za-z0-9]{5,8}_[A-Za-z0-9]{50,66}\b", "pcsk_"),
    _token("ELEVENLABS_KEY", r"\bsk_[0-9a-f]{48}\b", "sk_[0-9a-f]{2}"),
    _token("LANGSMITH_KEY", r"\blsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}\b", "lsv2_"),
    _token("LANGFUSE_KEY", rf"\bsk-lf-{_UUID}\b", "sk-lf-"),
    _token("TAVILY_KEY", r"\btvly-(?:dev-|prod-)?[A-Za-z0-9]{30,36}\b", "tvly-"),
    _token("FIRECRAWL_KEY", r"\bfc-[0-9a-f]{32}\b", "fc-[0-9a-f]{3}"),
    _token("JINA_KEY", r"\bjina_[0-9a-f]{32}[\w-]{28}", "jina_"),
    _token("ANYSCALE_KEY", r"\besecret_[A-Za-z0-9]{24,40}\b", "esecret_"),
    _token("HUGGING_FACE_TOKEN", r"\b(?:hf_|api_org_)[A-Za-z]{34}\b", "hf_[a-z]|api_org_"),
    _token("DEEPSEEK_KEY", r"\bsk-[0-9a-f]{32}\b", "sk-[0-9a-f]{3}", score=0.9),
    _token("KEY_WITH_SK", r"\bsk-[A-Za-z0-9]{40,64}\b", "sk-[a-z0-9]", score=0.9, name="sk_key"),
)  # fmt: skip

_CODE: Final = (
    _token("GITHUB_TOKEN", r"\bgh[pousr]_[A-Za-z0-9]{36}\b", "gh[pousr]_", score=0.99, check=github_checksum),
    _token("GITHUB_TOKEN", r"\bgh[pousr]_[A-Za-z0-9]{36,76}\b", "gh[pousr]_", score=0.95, name="github_token_unverified"),
    _token("GITHUB_TOKEN", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b", "github_pat_", name="github_fine_grained"),
    _token("GITHUB_TOKEN", r"\bgithub_pat_\w{82}\b", "github_pat_", score=0.9, name="github_fine_grained_unverified"),
    _token("GITLAB_TOKEN", r"\bgl(?:pat|dt|rt|rtr|ptt|cbt|ft|oas|soat|imt|agent|ffct|wt)-[\w-]{20,64}(?:\.[0-9a-z]{2}(?:\.[0-9a-z]{2})?[0-9a-z]{7})?",
           "gl[a-z]{2,5}-"),
    _token("GITLAB_TOKEN", r"\bglrt-t\d_[\w-]{20,64}(?:\.[0-9a-z]{2,12}){0,2}", "glrt-t", name="gitlab_runner_token"),
    _token("GITLAB_TOKEN", r"\bGR1348941[\w-]{20}", "gr1348941", name="gitlab_registration_token"),
    _token("GITLAB_TOKEN", r"_gitlab_session=(?P<v>[0-9a-z]{32})", "_gitlab_session=", name="gitlab_session"),
    _token("NPM_TOKEN", r"\bnpm_[A-Za-z0-9]{36}\b", "npm_[a-z0-9]"),
    _token("PYPI_TOKEN", r"\bpypi-AgE[\w-]{50,250}", "pypi-age", tail=r"[\w-]+"),
    _token("RUBYGEMS_KEY", r"\brubygems_[a-f0-9]{48}\b", "rubygems_"),
    _token("CRATES_TOKEN", r"\bcio[A-Za-z0-9]{32}\b", LONG_RUN),
    _token("NUGET_KEY", r"\boy2[a-z0-9]{43}\b", r"\boy2"),
    _token("CLOJARS_TOKEN", r"\b(?i:CLOJARS_)[a-z0-9]{60}\b", "clojars_"),
    _token("ARTIFACTORY_KEY", r"\b(?:AKCp[A-Za-z0-9]{69}|AP[0-9A-F][A-Za-z0-9]{8,80})\b", "akcp", name="artifactory_key"),
    _token("ARTIFACTORY_TOKEN", r"\bcmVmdGtu[A-Za-z0-9]{56}\b", "cmvmdgtu"),
    _token("DOCKER_TOKEN", r"\bdckr_(?:pat|oat)_[\w-]{27,36}", "dckr_"),
    _token("CIRCLECI_TOKEN", r"\bCCI(?:PAT|PRJ)_[A-Za-z0-9]{22}_[a-f0-9]{40}\b", "cci(?:pat|prj)_"),
    _token("BUILDKITE_TOKEN", r"\bbk(?:ua|aj|ct|pt)_[a-f0-9]{40}\b", "bk(?:ua|aj|ct|pt)_"),
    _token("SONAR_TOKEN", r"\bsq[upa]_[a-f0-9]{40}\b", "sq[upa]_"),
    _token("SOURCEGRAPH_TOKEN", r"(?i)\b(?:sgp_(?:(?:[a-f0-9]{16}|local)_)?|slk_)[a-f0-9]{40,64}\b", "sgp_|slk_"),
    _near("SOURCEGRAPH_TOKEN", r"\b[a-f0-9]{40}\b", "sourcegraph|sgp_", "sourcegraph", name="sourcegraph_named"),
    _token("TERRAFORM_TOKEN", r"\b[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,70}", r"\.atlasv1\."),
    _token("PULUMI_TOKEN", r"\bpul-[a-f0-9]{40}\b", "pul-[a-f0-9]"),
    _token("INFRACOST_KEY", r"\bico-[A-Za-z0-9]{32}\b", r"\bico-[a-z0-9]"),
    _token("PREFECT_KEY", r"\bpn[ub]_[A-Za-z0-9]{36}\b", "pn[ub]_"),
    _token("OCTOPUS_KEY", r"\bAPI-[A-Z0-9]{26}\b", LONG_RUN),
    _token("POSTMAN_KEY", r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b", "pmak-"),
    _token("README_KEY", r"\brdme_[a-z0-9]{70}\b", "rdme_"),
    _token("HARNESS_KEY", r"\b[ps]at\.[\w-]{22}\.[0-9a-f]{24}\.[A-Za-z0-9]{20}\b", r"\b[ps]at\.[\w-]{2}"),
    _token("SNYK_TOKEN", r"\bsnyk_(?:uat|sat|pat)\.[a-z0-9]{8}\.[\w-]{40,200}", r"snyk_[a-z]{3}\."),
)  # fmt: skip

_MONEY: Final = (
    _token("STRIPE_KEY", r"\b[rs]k_(?:live|test|prod)_[A-Za-z0-9]{10,250}\b", "[rs]k_(?:live|test|prod)_"),
    _token("STRIPE_WEBHOOK_SECRET", r"\bwhsec_[A-Za-z0-9+/=]{24,64}", "whsec_"),
    _token("SQUARE_TOKEN", r"\bsq0(?:atp|csp|idp)-[\w-]{22,43}", "sq0[a-z]{3}-"),
    _token("SQUARE_TOKEN", r"\bEAAA[lE][\w-]{58,62}", "eaaa[le]", name="square_access_token"),
    _token("PAYPAL_TOKEN", r"\baccess_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}\b", r"access_token\$", check=lambda text: is_token(text.rsplit("$", 1)[1])),
    _token("PLAID_TOKEN", rf"\baccess-(?:sandbox|development|production)-{_UUID}\b", "access-(?:sandbox|development|production)-"),
    _token("ADYEN_KEY", r"\bAQE[a-z][A-Za-z0-9+/]{60,250}={0,2}", "aqe[a-z]", score=0.85),
    _token("RAZORPAY_KEY", r"\brzp_(?:live|test)_[A-Za-z0-9]{14}\b", "rzp_"),
    _token("FLUTTERWAVE_KEY", r"\bFLW(?:SEC|PUB)K(?:_TEST)?-?[A-Za-z0-9]{12,40}(?:-X)?\b", "flw(?:sec|pub)k"),
    _token("GOCARDLESS_TOKEN", r"\blive_[A-Za-z0-9_=-]{40}\b", r"\blive_[a-z0-9]", score=0.85),
    _token("MOLLIE_KEY", r"\b(?:live|test)_[A-Za-z0-9]{30}\b", LONG_RUN, score=0.85),
    _token("EASYPOST_KEY", r"\bEZ[AT]K[A-Za-z0-9]{54}\b", "ez[at]k[a-z0-9]"),
    _token("SHIPPO_TOKEN", r"\bshippo_(?:live|test)_[a-fA-F0-9]{40}\b", "shippo_"),
    _token("DUFFEL_TOKEN", r"\bduffel_(?:live|test)_[\w=-]{43}", "duffel_"),
    _token("LOB_KEY", r"\b(?:live|test)(?:_pub)?_[a-f0-9]{31,35}\b", LONG_RUN, score=0.85),
    _token("SHOPIFY_TOKEN", r"\bshp(?:at|ca|pa|ss|rt|ua)_[a-fA-F0-9]{32}\b", "shp[a-z]{2}_"),
    _token("TWILIO_KEY", r"\bSK[0-9a-f]{32}\b", LONG_RUN),
    _near("TWILIO_ACCOUNT", r"\bAC[0-9a-f]{32}\b", LONG_RUN, "twilio|account[_ ]?sid|sid", 0.6),
)  # fmt: skip

_MESSAGES: Final = (
    _token("SLACK_TOKEN", r"\bxox[abeposr]-\d{8,14}-[A-Za-z0-9-]{14,250}", "xox[abeposr]-"),
    _token("SLACK_TOKEN", r"\bxox[ar]-(?:\d-)?[A-Za-z0-9]{8,48}\b", "xox[ar]-", name="slack_workspace_token"),
    _token("SLACK_TOKEN", r"\bxox[os]-(?:\d{1,14}-){3}[a-f0-9]{8,64}\b", "xox[os]-", name="slack_legacy_token"),
    _token("SLACK_TOKEN", r"(?i)\bxoxe(?:.?xox[bp])?-\d-[A-Z0-9]{100,250}", r"xoxe", name="slack_config_token"),
    _token("SLACK_TOKEN", r"(?i)\bxapp-\d-[A-Z0-9]{2,20}-\d{2,20}-[a-z0-9]{8,80}", "xapp-", name="slack_app_token"),
    _token("SLACK_WEBHOOK", r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{40,70}", r"hooks\.slack\.com"),
    _token("DISCORD_WEBHOOK", r"discord(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,72}", "discord(?:app)?[.]com/api/webhooks"),
    _token("DISCORD_TOKEN", r"\b(?:[MNO][A-Za-z0-9_-]{23,27}\.[\w-]{6}\.[\w-]{27,40}|mfa\.[\w-]{84})", LONG_RUN),
    _token("TEAMS_WEBHOOK", rf"(?i)[a-z0-9-]{{1,60}}\.webhook\.office\.com/webhookb2/{_UUID}@{_UUID}/IncomingWebhook/[a-z0-9]{{32}}/{_UUID}", r"webhook\.office\.com"),
    _token("TELEGRAM_TOKEN", r"(?:^|\D)(?P<v>\d{5,16}:A[\w-]{34})(?:[^\w-]|$)", r"\d:a[\w-]{2}"),
    _token("SENDGRID_KEY", r"\bSG\.[\w-]{16,32}\.[\w-]{16,64}", r"\bsg\.[\w-]"),
    _token("SENDGRID_KEY", r"\bSG\.[\w=.-]{66}", r"\bsg\.[\w=.-]", name="sendgrid_key_loose", score=0.9),
    _token("MAILGUN_KEY", r"\b(?:key|pubkey)-[a-f0-9]{32}\b", "key-[a-f0-9]{2}"),
    _token("MAILGUN_SIGNING_KEY", r"\b[a-f0-9]{32}-[a-f0-9]{8}-[a-f0-9]{8}\b", LONG_RUN, score=0.85),
    _token("MAILCHIMP_KEY", r"\b[a-f0-9]{32}-us\d{1,2}\b", r"[a-f0-9]-us\d"),
    _token("BREVO_KEY", r"\bx(?:keysib|smtpsib)-[a-f0-9]{64}-[A-Za-z0-9]{16}\b", "xkeysib-|xsmtpsib-"),
    _token("RESEND_KEY", r"\bre_[A-Za-z0-9]{8}_[A-Za-z0-9]{20,28}\b", r"\bre_[a-z0-9]"),
    _token("FACEBOOK_TOKEN", r"\b(?:EAA[MC][A-Za-z0-9]{100,250}|\d{15,16}(?:\||%7C)[\w-]{27,40})", r"eaa[mc][a-z0-9]|\d(?:\||%7c)[\w-]", tail="[A-Za-z0-9]+"),
    _token("TWITTER_BEARER", r"\bA{22}[A-Za-z0-9%]{80,100}", "a{22}", check=lambda text: is_token(text[22:])),
    _token("MICROSOFT_FLOW_URL", r"logic\.azure\.com(?::443)?/workflows/[0-9a-f]{32}/[^\s\"'<>]{10,200}sig=[\w-]{30,60}", r"logic\.azure\.com"),
)  # fmt: skip

_WORK: Final = (
    _token("ATLASSIAN_TOKEN", r"\bAT[AC]TT3xFf[\w=-]{150,220}", "at[ac]tt3"),
    _token("BITBUCKET_TOKEN", r"\b(?:ATBB[A-Za-z0-9]{32}|BBDC-[A-Za-z0-9+/]{40,50})\b", "atbb|bbdc-"),
    _token("LINEAR_KEY", r"\blin_(?:api|oauth)_[A-Za-z0-9]{40,64}\b", "lin_(?:api|oauth)_"),
    _token("NOTION_TOKEN", r"\b(?:secret_[A-Za-z0-9]{43}|ntn_[A-Za-z0-9]{46})\b", "secret_[a-z0-9]|ntn_"),
    _token("AIRTABLE_TOKEN", r"\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}\b", LONG_RUN),
    _token("FIGMA_TOKEN", r"\bfig(?:d|dr|dh|o|or|oh|u|ur|uh)_[\w-]{40,46}", "fig[a-z]{1,2}_"),
    _token("HUBSPOT_TOKEN", rf"\bpat-(?:na|eu)\d-{_UUID}\b", r"pat-[a-z]{2}\d-"),
    _token("SALESFORCE_TOKEN", r"\b00D[A-Za-z0-9]{12,15}![\w.]{60,120}", "00d[a-z0-9]"),
    _token("TYPEFORM_TOKEN", r"\btfp_[\w.=-]{44,59}", "tfp_"),
    _token("CONTENTFUL_TOKEN", r"\bCFPAT-[\w-]{43}", "cfpat-"),
    _token("DOPPLER_TOKEN", r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}\b", r"\bdp\.[a-z]{2,5}\."),
    _token("VAULT_TOKEN", r"\bhv[sbr]\.[\w-]{24,250}", r"hv[sbr]\.", tail=r"[\w-]+"),
    _near("VAULT_TOKEN", r"(?:^|[^\w.])(?P<v>s\.[A-Za-z0-9]{24})(?:[^\w]|$)", LONG_RUN, "vault[a-z_ .-]{0,20}", 0.85, name="vault_token_legacy"),
    _token("SENTRY_TOKEN", r"\bsntry[su]_[\w+/=]{64,250}", "sntry[su]_", tail="[A-Za-z0-9+/=_]+"),
    _token("GRAFANA_TOKEN", r"\b(?:glc_[A-Za-z0-9+/]{32,250}={0,2}|glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8})", "glc_|glsa_", tail="[A-Za-z0-9+/=]+"),
    _token("GRAFANA_TOKEN", r"\beyJrIjoi[A-Za-z0-9]{70,250}={0,2}", "eyjrijoi", tail="[A-Za-z0-9=]+", name="grafana_api_key"),
    _token("NEW_RELIC_KEY", r"(?i)\b(?:NRAK-[A-Z0-9]{27}|NRJS-[a-f0-9]{19}|NRI[IQ]-[A-Za-z0-9_-]{32}|NRRA-[a-f0-9]{42}|NRBR-[a-f0-9]{24}|[a-f0-9]{32,36}(?:FFFF)?NRAL)\b", "nr(?:ak|js|ii|iq|ra|br)-|nral"),
    _token("DYNATRACE_TOKEN", r"\bdt0[a-z]\d{2}\.[A-Z2-7]{24}\.[A-Z2-7]{64}\b", r"dt0[a-z]\d\d\."),
    _token("HONEYCOMB_KEY", r"\bhc[abm]ik_[a-z0-9]{58}\b", "hc[abm]ik_"),
    _token("LAUNCHDARKLY_KEY", rf"\b(?:sdk|api|mob)-{_UUID}\b", "(?:sdk|api|mob)-[0-9a-f]{2}"),
    _token("POSTHOG_KEY", r"\bph[xs]_[A-Za-z0-9]{40,50}\b", "ph[xs]_"),
    _token("MAPBOX_TOKEN", r"\b[sp]k\.eyJ[\w-]{40,180}\.[\w-]{20,40}", r"[sp]k\.eyj", score=0.85),
    _token("TAILSCALE_KEY", r"\btskey-(?:[a-z]{2,12}-)?[A-Za-z0-9]{6,30}-[A-Za-z0-9]{16,60}\b", "tskey-"),
    _token("ADAFRUIT_KEY", r"\baio_[A-Za-z0-9]{28}\b", "aio_"),
    _token("ADOBE_SECRET", r"(?i)\bp8e-[a-z0-9]{32}\b", "p8e-"),
    _token("SETTLEMINT_TOKEN", r"\bsm_[aps]at_[A-Za-z0-9]{16}\b", "sm_[aps]at_"),
    _token("DEFINED_KEY", r"\bdnkey-[a-z0-9=_-]{26}-[a-z0-9=_-]{52}", "dnkey-"),
    _token("AUTHRESS_KEY", r"\b(?:sc|ext|scauth|authress)_[A-Za-z0-9]{5,30}\.[A-Za-z0-9]{4,6}\.acc[_-][a-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,120}", r"\.acc[_-]"),
    _token("AGE_SECRET_KEY", r"\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b", "age-secret-key-"),
    _token("ONEPASSWORD_TOKEN", r"\bops_eyJ[A-Za-z0-9+/]{100,250}", "ops_eyj", tail="[A-Za-z0-9+/=]+"),
    _token("ONEPASSWORD_KEY", r"\bA3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}\b", "a3-[a-z0-9]{6}-"),
    _token("MAXMIND_KEY", r"\b[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk\b", "_mmk"),
    _token("INTRA42_SECRET", r"\bs-s4t2(?:ud|af)-[a-f0-9]{64}\b", "s-s4t2"),
    _token("FRAMEIO_TOKEN", r"\bfio-u-[\w=-]{64}", "fio-u-"),
    _token("UBIDOTS_TOKEN", r"\bBBFF-[A-Za-z0-9]{30}\b", "bbff-"),
    _token("DROPBOX_TOKEN", r"\bsl\.(?:u\.)?[\w=-]{120,250}", r"\bsl\.[a-z0-9]", tail=r"[\w=-]+"),
    _token("LOOKER_CLOUDANT_KEY", r"\bapikey-v2-[a-z0-9]{40,60}\b", "apikey-v2-"),
    _token("OKTA_TOKEN", r"\b00[\w-]{39}[A-Za-z0-9]\b", LONG_RUN, score=0.6),
    _token("ROOTLY_TOKEN", r"\brootly_[a-f0-9]{64}\b", "rootly_"),
    _token("RAPID_KEY", r"\b[a-f0-9]{10}msh[a-f0-9]{15}p1[a-f0-9]{6}jsn[a-f0-9]{12}\b", LONG_RUN),
    _token("EXPO_TOKEN", r"\bexp[su]_[A-Za-z0-9]{28,40}\b", "exp[su]_"),
    _token("SEGMENT_TOKEN", r"\bsgp_[A-Za-z0-9]{64}\b", "sgp_"),
    _token("ZAPIER_HOOK", r"hooks\.zapier\.com/hooks/catch/\d{5,10}/[a-z0-9]{5,10}", r"hooks\.zapier\.com"),
    _token("PERSONA_SQUARESPACE_KEY", r"\bpersona_(?:production|sandbox)_[a-z0-9-]{36}\b", "persona_"),
    _token("NGROK_KEY", r"\b(?:ak|cr)_[12][A-Za-z0-9]{26}_[A-Za-z0-9]{20}\b", "(?:ak|cr)_[12]"),
)  # fmt: skip

RULES: Final[tuple[Rule, ...]] = (*_CLOUDS, *_MODELS, *_CODE, *_MONEY, *_MESSAGES, *_WORK)
