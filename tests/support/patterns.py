"""Made-up values in the forms that the rule pack looks for. Nothing here was ever issued to anybody.

`made` fills a template with characters drawn from a seeded generator, so that no credential stands in the sources and
scanners of repositories stay quiet.
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

_ALPHABETS: Final = {
    "w": string.ascii_letters + string.digits,
    "x": string.ascii_letters + string.digits + "_-",
    "h": "0123456789abcdef",
    "H": "0123456789ABCDEF",
    "n": string.digits,
    "a": string.ascii_letters,
    "l": string.ascii_lowercase + string.digits,
    "U": string.ascii_uppercase + string.digits,
    "b": string.ascii_uppercase + "234567",
    "v": "0123456789abcdefghijklmnopqrstuv",
    "s": string.ascii_letters + string.digits + "+/",
}
_SLOT: Final = re.compile(r"<([wxhHnalUbvs])(\d+)>")
UUID: Final = "<h8>-<h4>-<h4>-<h4>-<h12>"


def made(template: str, seed: int = 7) -> str:
    """The template with every `<letter count>` slot drawn from the letter's alphabet."""
    # The seed of a template is its own text, so that a new row changes no other row's value.
    draw = Random(f"{seed}{template}")

    def fill(slot: re.Match[str]) -> str:
        count = int(slot[2])
        drawn = draw.choices(_ALPHABETS[slot[1]], k=count)
        # An edge that is a sign would end the token where the rule asks for the edge of a word.
        drawn[-1] = draw.choice("bdkq" if slot[1] in "wxals" else _ALPHABETS[slot[1]].replace("0", ""))
        if slot[1] in "wxlUhs" and count > 8:
            drawn[3], drawn[5] = "7", "4" if slot[1] == "U" else "e"
        return "".join(drawn)

    return _SLOT.sub(fill, template)


@dataclass(frozen=True, slots=True)
class Example:
    """A text with a value in it that the rule of this reason code finds."""

    reason: str
    before: str
    value: str
    after: str = ""

    @property
    def text(self) -> str:
        return self.before + self.value + self.after


TOKEN_TEMPLATES: Final[dict[str, str]] = {
    "aws_access_key_id": "AK" + "IA<b16>",
    "aws_session_token": "IQoJb3" + "JpZ2lu<s160>",
    "aws_bedrock_key": "AB" + "SK<s120>",
    "aws_bedrock_short_key": "bedrock-api-key-" + "YmVkcm9jay5hbWF6b25hd3MuY29t<s60>",
    "google_api_key": "AI" + "za<x35>",
    "google_oauth_secret": "GOC" + "SPX-<x28>",
    "google_oauth_token": "ya" + "29.<x60>",
    "google_refresh_token": "1/" + "/0<x60>",
    "azure_client_secret": "<w3>8Q~<x34>",
    "azure_devops_token": "<w76>AZ" + "DO<w4>",
    "azure_marked_key": "<w42>AS" + "tr<w12>",
    "alibaba_key_id": "LT" + "AI<w20>",
    "tencent_key_id": "AK" + "ID<w32>",
    "yandex_key": "AQ" + "VN<x36>",
    "digitalocean_token": "do" + "p_v1_<h64>",
    "heroku_key": "HR" + "KU-AA<x58>",
    "fly_token": "fo" + "1_<x43>",
    "netlify_token": "nf" + "p_<w36>",
    "render_key": "rn" + "d_<w32>",
    "vercel_token": "vc" + "p_<w56>",
    "vercel_blob_token": "vercel_blob" + "_rw_<w16>_<w30>",
    "cloudflare_token": "cf" + "ut_<w48>",
    "cloudflare_ca_key": "v1" + ".0-<h24>-<h146>",
    "supabase_key": "sb" + "p_<h40>",
    "planetscale_key": "pscale" + "_tkn_<w43>",
    "neon_key": "na" + "pi_<l64>",
    "mongodb_secret": "mdb" + "_sa_sk_<w40>",
    "openshift_token": "sha" + "256~<w43>",
    "scalingo_token": "tk-" + "us-<x48>",
    "clickhouse_key": "4b" + "1d<w38>",
    "databricks_token": "da" + "pi<h32>",
    "trueport_key_damaged": "sk-" + "tp-<v26>-<w40>",
    "openai_key": "sk-" + "proj-<x74>",
    "openai_key_marked": "sk-" + "<w20>T3Blbk" + "FJ<w20>",
    "anthropic_key": "sk-" + "ant-api03-<x93>AA",
    "anthropic_key_misshapen": "sk-" + "ant-api03-<w60>",
    "groq_key": "gs" + "k_<w52>",
    "xai_key": "xa" + "i-<w80>",
    "perplexity_key": "pp" + "lx-<w48>",
    "replicate_token": "r" + "8_<w37>",
    "together_key": "tg" + "p_v1_<x43>",
    "fireworks_key": "fw" + "_<w24>",
    "openrouter_key": "sk-" + "or-v1-<h64>",
    "cerebras_key": "cs" + "k-<l48>",
    "nvidia_key": "nv" + "api-<x64>",
    "pinecone_key": "pc" + "sk_<w6>_<w60>",
    "elevenlabs_key": "sk" + "_<h48>",
    "langsmith_key": "ls" + "v2_pt_<h32>_<h10>",
    "langfuse_key": "sk-" + f"lf-{UUID}",
    "tavily_key": "tv" + "ly-dev-<w32>",
    "firecrawl_key": "fc" + "-<h32>",
    "jina_key": "ji" + "na_<h32><x28>",
    "anyscale_key": "ese" + "cret_<w28>",
    "hugging_face_token": "h" + "f_<a34>",
    "deepseek_key": "sk" + "-<h32>",
    "sk_key": "sk" + "-<w48>",
    "github_token_unverified": "gh" + "p_<w36>",
    "github_fine_grained": "github" + "_pat_<w22>_<w59>",
    "github_fine_grained_unverified": "github" + "_pat_<w82>",
    "gitlab_token": "gl" + "pat-<x20>",
    "gitlab_runner_token": "gl" + "rt-t1_<x27>.<l2>.<l9>",
    "gitlab_registration_token": "GR" + "1348941<x20>",
    "npm_token": "np" + "m_<w36>",
    "pypi_token": "py" + "pi-AgEIcHlwaS5vcmc<x120>",
    "rubygems_key": "ruby" + "gems_<h48>",
    "crates_token": "ci" + "o<w32>",
    "nuget_key": "oy" + "2<l43>",
    "clojars_token": "CLO" + "JARS_<l60>",
    "artifactory_key": "AK" + "Cp<w69>",
    "artifactory_token": "cmVm" + "dGtu<w56>",
    "docker_token": "dc" + "kr_pat_<x27>",
    "circleci_token": "CC" + "IPAT_<w22>_<h40>",
    "buildkite_token": "bk" + "ua_<h40>",
    "sonar_token": "sq" + "p_<h40>",
    "sourcegraph_token": "sg" + "p_<h16>_<h40>",
    "terraform_token": "<w14>.atlas" + "v1.<w64>",
    "pulumi_token": "pu" + "l-<h40>",
    "infracost_key": "ic" + "o-<w32>",
    "prefect_key": "pn" + "u_<w36>",
    "octopus_key": "AP" + "I-<U26>",
    "postman_key": "PM" + "AK-<h24>-<h34>",
    "readme_key": "rd" + "me_<l70>",
    "harness_key": "pa" + "t.<w22>.<h24>.<w20>",
    "snyk_token": "sn" + "yk_uat.<l8>.<x60>",
    "stripe_key": "sk" + "_live_<w24>",
    "stripe_webhook_secret": "wh" + "sec_<w32>",
    "square_token": "sq" + "0csp-<x43>",
    "square_access_token": "EA" + "AAl<x59>",
    "paypal_token": "access" + "_token$production$<l16>$<h32>",
    "plaid_token": "acc" + f"ess-sandbox-{UUID}",
    "adyen_key": "AQ" + "Ey<w80>",
    "razorpay_key": "rz" + "p_live_<w14>",
    "flutterwave_key": "FLW" + "SECK_TEST-<l32>-X",
    "gocardless_token": "li" + "ve_<w40>",
    "mollie_key": "li" + "ve_<w30>",
    "easypost_key": "EZ" + "AK<w54>",
    "shippo_token": "shi" + "ppo_live_<h40>",
    "duffel_token": "duf" + "fel_live_<w43>",
    "lob_key": "te" + "st_<h35>",
    "shopify_token": "sh" + "pat_<h32>",
    "twilio_key": "S" + "K<h32>",
    "slack_token": "xo" + "xb-<n12>-<n12>-<w24>",
    "slack_workspace_token": "xo" + "xa-2-<w32>",
    "slack_legacy_token": "xo" + "xs-<n10>-<n10>-<n10>-<h32>",
    "slack_config_token": "xo" + "xe.xoxp-1-<U163>",
    "slack_app_token": "xa" + "pp-1-<U11>-<n13>-<h64>",
    "slack_webhook": "hooks.sl" + "ack.com/services/<U9>/<U11>/<w24>",
    "discord_webhook": "disc" + "ord.com/api/webhooks/<n18>/<x68>",
    "discord_token": "MT<w23>.<w6>.<x38>",
    "teams_webhook": "contoso.webhook.off" + f"ice.com/webhookb2/{UUID}@{UUID}/IncomingWebhook/<h32>/{UUID}",
    "telegram_token": "<n10>:A" + "A<x33>",
    "sendgrid_key": "S" + "G.<x22>.<x43>",
    "sendgrid_key_loose": "S" + "G.<w66>",
    "mailgun_key": "ke" + "y-<h32>",
    "mailgun_signing_key": "<h32>-<h8>-<h8>",
    "mailchimp_key": "<h32>-u" + "s14",
    "brevo_key": "xke" + "ysib-<h64>-<w16>",
    "resend_key": "r" + "e_<w8>_<w24>",
    "facebook_token": "EA" + "AC<w150>",
    "twitter_bearer": "A" * 22 + "<w90>",
    "microsoft_flow_url": "logic.az"
    + "ure.com:443/workflows/<h32>/triggers/manual/paths/invoke?api-version=2016-06-01&sig=<x43>",
    "atlassian_token": "AT" + "ATT3xFf<x180>",
    "bitbucket_token": "AT" + "BB<w32>",
    "linear_key": "li" + "n_api_<w40>",
    "notion_token": "nt" + "n_<w46>",
    "airtable_token": "pa" + "t<w14>.<h64>",
    "figma_token": "fi" + "gd_<x40>",
    "hubspot_token": "pat-na" + f"1-{UUID}",
    "salesforce_token": "00" + "D<w15>!<w96>",
    "typeform_token": "tf" + "p_<w59>",
    "contentful_token": "CF" + "PAT-<x43>",
    "doppler_token": "dp." + "pt.<w43>",
    "vault_token": "hv" + "s.<x90>",
    "sentry_token": "snt" + "rys_<w90>",
    "grafana_token": "gl" + "sa_<w32>_<H8>",
    "grafana_api_key": "eyJ" + "rIjoi<w80>",
    "new_relic_key": "NR" + "AK-<U27>",
    "dynatrace_token": "dt" + "0c01.<b24>.<b64>",
    "honeycomb_key": "hc" + "aik_<l58>",
    "launchdarkly_key": "sd" + f"k-{UUID}",
    "posthog_key": "ph" + "x_<w43>",
    "mapbox_token": "sk.ey" + "J<w80>.<w22>",
    "tailscale_key": "ts" + "key-auth-<w17>-<w32>",
    "adafruit_key": "ai" + "o_<w28>",
    "adobe_secret": "p8" + "e-<l32>",
    "settlemint_token": "sm" + "_pat_<w16>",
    "defined_key": "dn" + "key-<l26>-<l52>",
    "authress_key": "sc" + "_<w12>.<w4>.acc-<l12>.<w60>",
    "age_secret_key": "AGE-SEC" + "RET-KEY-1<U58>",
    "onepassword_token": "op" + "s_eyJ<s200>",
    "onepassword_key": "A" + "3-<U6>-<U11>-<U5>-<U5>-<U5>",
    "maxmind_key": "<w6>_<w29>_m" + "mk",
    "intra42_secret": "s-s" + "4t2ud-<h64>",
    "frameio_token": "fi" + "o-u-<x64>",
    "ubidots_token": "BB" + "FF-<w30>",
    "dropbox_token": "s" + "l.<x140>",
    "looker_cloudant_key": "api" + "key-v2-<l48>",
    "okta_token": "0" + "0<w40>",
    "rootly_token": "roo" + "tly_<h64>",
    "rapid_key": "<h10>m" + "sh<h15>p1<h6>jsn<h12>",
    "expo_token": "ex" + "ps_<w32>",
    "segment_token": "sg" + "p_<w64>",
    "zapier_hook": "hooks.zap" + "ier.com/hooks/catch/<n7>/<l7>",
    "persona_squarespace_key": "persona" + f"_sandbox_{UUID}",
    "ngrok_key": "a" + "k_2<w26>_<w20>",
}

Builder = Callable[[], str]


def token_examples() -> list[Example]:
    """A marked token of every vendor, in the middle of a sentence."""
    return [Example(reason, "Use ", made(template), " for it.") for reason, template in TOKEN_TEMPLATES.items()]


def named_examples() -> list[Example]:
    """Credentials that are told by what stands beside them."""
    return [
        Example("aws_secret_key", "aws_secret_access_key = ", made("<w20>/<w19>"), "\n"),
        Example("google_key_id", '"private_key_id": "', made("<h40>"), '",'),
        Example("azure_storage_key", "AccountName=acme;AccountKey=", made("<w86>") + "==", ";"),
        Example("azure_sas", "?sv=2022-11-02&sig=", made("<w43>") + "%3D", "&se=1"),
        Example("cloudflare_named", "CLOUDFLARE_API_TOKEN: ", made("<w40>"), "\n"),
        Example("together_key_named", "together_api_key=", made("<h64>"), "\n"),
        Example("gitlab_session", "Cookie: _gitlab_session=", made("<h32>"), "; a=b"),
        Example("sourcegraph_named", "my sourcegraph token: ", made("<h40>"), "\n"),
        Example("twilio_account", "twilio account_sid=", "A" + "C" + made("<h32>"), "\n"),
        Example("vault_token_legacy", "vault login ", "s" + "." + made("<w24>"), "\n"),
        Example("assigned_key", 'client_secret: "', made("<w32>"), '"'),
        Example("assigned_key", "The api key is ", made("<w32>"), " and stays so"),
        Example("vendor_key", '<add key="mixpanel_thing" value="', made("<h32>"), '" />'),
        Example("assigned_password", "db_password=", "Tr0ub4dor" + "&3x", "\n"),
        Example("assigned_password_quoted", 'passwd: "', "blue Hippo" + " 42!", '"'),
        Example("password_in_prose", "the wifi password is ", "Sunny" + "Day88!", " in case you need it"),
        Example("password_in_prose", "Das Passwort lautet ", "Kaffee" + "Tasse77", " seit gestern"),
        Example("log_in_with", "log in with admin / ", "Wint3r" + "#Storm", " please"),
        Example("password_option", "tool --user bob --password ", "s3cr" + "etPa55", " --force"),
        Example("token_option", "deploy --api-key ", made("<w32>"), " now"),
        Example("password_flag", "mysql -u root -p", "Hunt3r" + "Two", " shop"),
        Example("password_argument", "sshpass -p ", "Gr33n" + "Field", " ssh host"),
        Example("net_user", "net user bob ", "P4ss" + "phrase!", " /add"),
        Example("curl_user", "curl -u bob:", "t0p" + "Drawer", " https://host.test"),
        Example("authorization_header", "-H 'Authorization: Bearer ", made("<w40>"), "'"),
        Example("bearer_token", "uses bearer ", made("<w40>"), " here"),
        Example("basic_credentials", "Basic ", "Ym9iOn" + "QwcERyYXdlcg==", "\n"),
        Example("url_credentials", "postgres://shop:", "n0t" + "Tell1ng", "@db.internal/shop"),
        Example("connection_string", "Server=db;Database=shop;User Id=sa;Password=", "n0t" + "Tell1ng", ";"),
        Example(
            "jwt", "token ", "ey" + "J" + made("<w30>") + ".ey" + "J" + made("<w60>") + "." + made("<x43>"), " end"
        ),
        Example("jwt_base64", "token ", "ZX" + "lK" + made("<w100>"), " end"),
        Example(
            "pem_private_key",
            "",
            "-----BEGIN RSA PRIV"
            + "ATE KEY-----\n"
            + made("<s64>")
            + "\n"
            + made("<s64>")
            + "\n-----END RSA PRIV"
            + "ATE KEY-----",
        ),
        Example("putty_private_key", "", "PuTTY-User-Key-" + "File-3: ssh-ed25519\n" + made("<s64>")),
        Example("netrc", "machine api.host.test login bob password ", "n0t" + "Tell1ng", "\n"),
        Example(
            "kubernetes_secret", "kind: Sec" + "ret\nmetadata:\n  name: shop\ndata:\n  db: ", made("<w20>") + "==", "\n"
        ),
    ]
