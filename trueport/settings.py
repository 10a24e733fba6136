"""Every setting, once. Read from the environment (`TRUEPORT_…`) and an optional TOML file; nothing happens at import.

`load_settings` returns a complete, checked value or raises one error that lists every problem it found.
"""

import ipaddress
import json
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, Literal, TypeVar, cast, get_args
from urllib.parse import urlsplit

from trueport.kit.crypto import derive
from trueport.kit.secret import Secret

PREFIX: Final = "TRUEPORT_"
DOMAINS: Final = ("auth", "config", "proxy", "audit", "analytics", "billing", "console", "admin", "site")
_SHORTEST_SECRET: Final = 32
SHORTEST_RETENTION_DAYS: Final = 183
"""Six months, which the AI Act (articles 19 and 26(6)) asks of high-risk systems, at their longest."""

Stage = Literal["local", "dev", "staging", "prod"]
AuditMode = Literal["strict", "strict_power", "best_effort"]
LimiterLoss = Literal["local_share", "closed", "open"]
RateWindow = Literal["sliding", "fixed"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
T = TypeVar("T")

MEANINGS: Final[Mapping[str, str]] = {
    "ENVIRONMENT": "local, dev, staging or prod; prod refuses generated secrets, embedded parts, plain-text providers",
    "DATA_DIR": "folder for the spool, embedded database, local storage and generated secrets",
    "MONGODB_URI": "embedded: or mongodb://… or mongodb+srv://…",
    "REDIS_URL": "memory: (one worker only) or redis://… or rediss://…",
    "LEDGER_URL": "SQLAlchemy async URL of the money ledger",
    "STORAGE_URL": "default content storage of tenants: file: or file:///…",
    "ARCHIVE_URL": "where archives of the trail go: file:, file:///…, s3://bucket/prefix, az://…, gs://…; empty: none",
    "ARCHIVE_EVERY_S": "seconds after which what was recorded goes to the archive",
    "ARCHIVE_SEGMENT_MIB": "or as soon as it is this much, in MiB before compression",
    "ALLOW_MUTABLE_ARCHIVE": "1 lets archives go to a store that does not lock them",
    "ALLOW_FOLDER_ARCHIVES": "1 lets organisations choose a folder below the data folder as their own archive",
    "RETENTION_DAYS": "days for which records stay in the database and, where they can be, locked in the archive",
    "DETECTION_URL": "onnx:, onnx:/folder/of/a/model, rules: or triton://host:8001",
    "DEEP_DETECTION_URL": "what reads recorded content after the call, in the same forms; empty: DETECTION_URL",
    "SCANS_PER_MINUTE": "how many calls' recorded content each process reads after the call; 0 leaves them to others",
    "MAIL_URL": "file:, smtp://… or smtps://…",
    "PUBLIC_URL": "address under which people reach this server; tenants live on its subdomains",
    "SECRET_KEY": "token signing key, at least 32 characters; several, comma-separated, to rotate (first signs)",
    "KEK": "key-encryption key, at least 32 characters",
    "KEY_CACHE_S": "seconds for which an opened tenant's key is used before it is unwrapped again",
    "DOMAINS": "what this process hosts, comma-separated",
    "WORKERS": "worker processes",
    "HOST": "address to listen on",
    "PORT": "port to listen on",
    "EGRESS_ALLOW": "CIDRs or host names that provider URLs may reach although they are not public, comma-separated",
    "AUDIT_MODE": "strict, strict_power or best_effort",
    "ALLOW_EMBEDDED": "1 lets prod run on embedded parts",
    "TRUSTED_PROXIES": "CIDRs of reverse proxies whose X-Forwarded-For is believed, comma-separated",
    "OPERATIONS_ALLOW": "CIDRs that may read /metrics and /schema, comma-separated; loopback always may",
    "AUDIT_SYNC": "1 keeps no journal: records are in the database before an answer ends (AWS Lambda)",
    "SPOOL_DIRECTORY": "folder of the journal; empty: spool in DATA_DIR",
    "SPOOL_SECOND_DIRECTORY": "where the journal goes on when that disk takes nothing more; best on another disk",
    "SPOOL_SEGMENT_MIB": "size of one spool segment in MiB",
    "SPOOL_CAPACITY_MIB": "disk the spool of one worker may fill, in MiB",
    "WITNESSES": "who cosigns checkpoints: each a public key, a space and an address, comma-separated",
    "CHECKPOINTS_URL": "where each log's checkpoints are put, best out of the operator's reach: file:///…",
    "PRICES_FILE": "price book in TOML that replaces the one in the package",
    "CONFIG": "TOML file with the same names in lower case; what --config sets",
    "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR",
    "LIMITER_LOSS": "when Redis is away: local_share, closed or open",
    "RATE_WINDOW": "sliding or fixed minute of the request limits",
    "BREAKER_FAILURES": "failures in a row after which a provider is left alone for a while; 0 never leaves one alone",
}


class SettingsError(Exception):
    """One or more settings do not make sense. `problems` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how the HTTP server listens."""

    host: str
    port: int
    workers: int
    public_url: str
    trusted_proxies: tuple[str, ...]
    operations_allow: tuple[str, ...]

    @property
    def base_host(self) -> str:
        """The host name tenants' subdomains hang under."""
        return urlsplit(self.public_url).hostname or ""


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """The local journal of records. Bypassed, records go to the database before an answer ends."""

    directory: Path
    segment_bytes: int
    capacity_bytes: int
    mode: AuditMode
    second_directory: Path | None = None
    is_bypassed: bool = False


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """Where archives of the trail go and when. Without `url` there are none, and nothing is pruned."""

    url: str | None
    every_s: int
    segment_bytes: int
    allows_mutable: bool
    allows_folders: bool
    retention_days: int


@dataclass(frozen=True, slots=True)
class Keys:
    """Master secrets. Purpose keys are derived from them and never stored."""

    token_secrets: tuple[Secret, ...]
    kek: Secret
    are_generated: bool

    def purpose_key(self, purpose: str) -> bytes:
        """32 bytes for one purpose, derived from the key-encryption key."""
        return derive(self.kek.reveal().encode(), f"trueport/{purpose}/v1")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process."""

    environment: Stage
    data_dir: Path
    mongodb_uri: Secret
    redis_url: Secret
    storage_url: str
    archive: ArchiveSettings
    detection_url: str
    deep_detection_url: str | None
    scans_per_minute: int
    domains: tuple[str, ...]
    server: ServerSettings
    spool: SpoolSettings
    keys: Keys
    egress_allow: tuple[str, ...]
    prices_file: Path | None
    witnesses: tuple[tuple[str, str], ...]
    checkpoints_url: str
    log_level: LogLevel
    limiter_loss: LimiterLoss
    rate_window: RateWindow
    breaker_failures: int
    key_cache_s: int
    warnings: tuple[str, ...] = field(default=())

    @property
    def is_local(self) -> bool:
        """Whether conveniences for developers (such as the X-Tenant-Slug header) are on."""
        return self.environment in ("local", "dev")

    @property
    def embeds_mongodb(self) -> bool:
        return self.mongodb_uri.reveal() == "embedded:"

    @property
    def uses_redis(self) -> bool:
        return self.redis_url.reveal() != "memory:"

    @property
    def allows_plain_http(self) -> bool:
        """Whether an allow-listed provider address may be reached without TLS."""
        return self.environment != "prod"

    def masked(self) -> dict[str, object]:
        """Names and values to show a person; secrets and passwords hidden."""
        return {
            "environment": self.environment,
            "data_dir": str(self.data_dir),
            "mongodb_uri": without_password(self.mongodb_uri.reveal()),
            "redis_url": without_password(self.redis_url.reveal()),
            "storage_url": without_password(self.storage_url),
            "archive_url": without_password(self.archive.url or ""),
            "retention_days": self.archive.retention_days,
            "detection_url": without_password(self.detection_url),
            "deep_detection_url": without_password(self.deep_detection_url or ""),
            "domains": list(self.domains),
            "host": self.server.host,
            "port": self.server.port,
            "workers": self.server.workers,
            "public_url": without_password(self.server.public_url),
            "egress_allow": list(self.egress_allow),
            "audit_mode": self.spool.mode,
            "audit_sync": self.spool.is_bypassed,
            "witnesses": [name.partition("+")[0] for name, _ in self.witnesses],
            "checkpoints_url": without_password(self.checkpoints_url),
            "spool_directory": str(self.spool.directory),
            "spool_second_directory": str(self.spool.second_directory or ""),
            "secret_key": "generated" if self.keys.are_generated else "set",
            "kek": "generated" if self.keys.are_generated else "set",
        }


def without_password(url: str) -> str:
    """The URL with user information and secret-looking query values replaced by `***`."""
    # Up to the last @: a password that nobody escaped may hold slashes and @ itself.
    hidden = re.sub(r"//.*@", "//***@", url, flags=re.DOTALL)
    return re.sub(r"([?&][^=&]*(?:password|secret|token|key|properties)[^=&]*=)[^&]*", r"\1***", hidden, flags=re.I)


class _Reader:
    """Takes values by name, collects problems instead of raising at the first."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.problems: list[str] = []

    def take(self, name: str, default: str, parse: Callable[[str], T]) -> T:
        raw = self.values.get(name, "").strip() or default
        try:
            return parse(raw)
        except ValueError as error:
            self.problems.append(f"{PREFIX}{name}: {error}")
            return parse(default)


def load_settings(
    environ: Mapping[str, str], *, config_file: Path | None = None, generate_secrets: bool = True
) -> Settings:
    """Settings from the environment, which wins, and a TOML file.

    `generate_secrets=False` only reads: where `local` would generate secrets into the data folder, passing
    stand-ins are used instead, so that a check leaves nothing behind.

    Raises SettingsError with every problem found.
    """
    values, problems, warnings = _collect(environ, config_file)
    reader = _Reader(values)
    stage = cast(Stage, reader.take("ENVIRONMENT", "local", _one_of(Stage)))
    data_dir = reader.take("DATA_DIR", "./trueport-data", lambda raw: Path(raw).expanduser().absolute())
    mongodb_uri = reader.take("MONGODB_URI", "embedded:", _url("embedded:", "mongodb", "mongodb+srv"))
    redis_url = reader.take("REDIS_URL", "memory:", _url("memory:", "redis", "rediss", "unix"))
    storage_url = reader.take("STORAGE_URL", "file:", _url("file:", "file", "s3", "az", "gs"))
    detection_url = reader.take("DETECTION_URL", "onnx:", _engine)
    port = reader.take("PORT", "8080", _whole(0, 65535))
    host = reader.take("HOST", "127.0.0.1", str)
    workers = reader.take("WORKERS", "1", _whole(1, 256))
    public_url = reader.take("PUBLIC_URL", f"http://127.0.0.1:{port}", _url("http", "https"))
    if workers > 1 and redis_url == "memory:":
        problems.append(
            f"{PREFIX}WORKERS={workers} needs {PREFIX}REDIS_URL: limits in process memory hold for one worker only"
        )
    if stage == "prod" and values.get("ALLOW_EMBEDDED") != "1":
        embedded = [
            name
            for name, is_embedded in (
                ("MONGODB_URI", mongodb_uri == "embedded:"),
                ("REDIS_URL", redis_url == "memory:"),
            )
            if is_embedded
        ]
        problems += [
            f"{PREFIX}{name} is an embedded part, which prod refuses: name a server or set {PREFIX}ALLOW_EMBEDDED=1"
            for name in embedded
        ]
    segment_mib = reader.take("SPOOL_SEGMENT_MIB", "64", _whole(1, 1024))
    capacity_mib = reader.take("SPOOL_CAPACITY_MIB", "2048", _whole(4, 1_048_576))
    spool_directory = reader.take("SPOOL_DIRECTORY", str(data_dir / "spool"), _folder)
    second_directory = reader.take("SPOOL_SECOND_DIRECTORY", "", lambda raw: _folder(raw) if raw else None)
    if second_directory == spool_directory:
        problems.append(f"{PREFIX}SPOOL_SECOND_DIRECTORY: is the folder that the journal is in already")
    audit_mode = cast(AuditMode, reader.take("AUDIT_MODE", "strict", _one_of(AuditMode)))
    is_bypassed = reader.take("AUDIT_SYNC", "0", _whole(0, 1)) == 1
    if is_bypassed and audit_mode == "best_effort":
        problems.append(
            f"{PREFIX}AUDIT_SYNC=1 records every call, which {PREFIX}AUDIT_MODE=best_effort does not ask for"
        )
    settings_server = ServerSettings(
        host=host,
        port=port,
        workers=workers,
        public_url=public_url.rstrip("/"),
        trusted_proxies=reader.take("TRUSTED_PROXIES", "", _networks),
        operations_allow=reader.take("OPERATIONS_ALLOW", "", _networks),
    )
    spool = SpoolSettings(
        directory=spool_directory,
        segment_bytes=segment_mib << 20,
        capacity_bytes=capacity_mib << 20,
        mode=audit_mode,
        second_directory=second_directory,
        is_bypassed=is_bypassed,
    )
    archive = ArchiveSettings(
        url=reader.take("ARCHIVE_URL", "", lambda raw: _url("file:", "file", "s3", "az", "gs")(raw) if raw else None),
        every_s=reader.take("ARCHIVE_EVERY_S", "900", _whole(1, 86_400)),
        segment_bytes=reader.take("ARCHIVE_SEGMENT_MIB", "64", _whole(1, 512)) << 20,
        allows_mutable=reader.take("ALLOW_MUTABLE_ARCHIVE", "0", _whole(0, 1)) == 1,
        allows_folders=reader.take("ALLOW_FOLDER_ARCHIVES", "0", _whole(0, 1)) == 1,
        retention_days=reader.take("RETENTION_DAYS", "400", _whole(SHORTEST_RETENTION_DAYS, 36_500)),
    )
    settings = Settings(
        environment=stage,
        data_dir=data_dir,
        mongodb_uri=Secret(mongodb_uri),
        redis_url=Secret(redis_url),
        storage_url=storage_url,
        archive=archive,
        detection_url=detection_url,
        deep_detection_url=reader.take("DEEP_DETECTION_URL", "", lambda raw: _engine(raw) if raw else None),
        scans_per_minute=reader.take("SCANS_PER_MINUTE", "600", _whole(0, 60_000)),
        domains=reader.take("DOMAINS", ",".join(DOMAINS), _some_of(DOMAINS)),
        server=settings_server,
        spool=spool,
        keys=_keys(values, stage, data_dir, problems, may_generate=generate_secrets and not reader.problems),
        egress_allow=reader.take("EGRESS_ALLOW", "", _egress_entries),
        prices_file=reader.take("PRICES_FILE", "", lambda raw: Path(raw).expanduser().absolute() if raw else None),
        witnesses=reader.take("WITNESSES", "", _witnesses),
        checkpoints_url=reader.take(
            "CHECKPOINTS_URL", "", lambda raw: _url("file", "s3", "az", "gs")(raw) if raw else ""
        ),
        log_level=cast(LogLevel, reader.take("LOG_LEVEL", "INFO", _one_of(LogLevel))),
        limiter_loss=cast(LimiterLoss, reader.take("LIMITER_LOSS", "local_share", _one_of(LimiterLoss))),
        rate_window=cast(RateWindow, reader.take("RATE_WINDOW", "sliding", _one_of(RateWindow))),
        breaker_failures=reader.take("BREAKER_FAILURES", "5", _whole(0, 1_000_000)),
        key_cache_s=reader.take("KEY_CACHE_S", "300", _whole(0, 900)),
        warnings=tuple(warnings),
    )
    problems += reader.problems
    if problems:
        raise SettingsError(problems)
    return settings


def _collect(environ: Mapping[str, str], config_file: Path | None) -> tuple[dict[str, str], list[str], list[str]]:
    problems: list[str] = []
    values: dict[str, str] = {}
    if config_file is not None:
        try:
            document = tomllib.loads(config_file.read_text())
        except OSError as error:
            problems.append(f"{config_file}: cannot be read ({error.strerror})")
            document = {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            problems.append(f"{config_file}: is not TOML ({error})")
            document = {}
        for name, value in document.items():
            if isinstance(value, list):
                values[name.upper()] = ",".join(map(str, value))
            elif isinstance(value, bool):
                values[name.upper()] = "1" if value else "0"
            else:
                values[name.upper()] = str(value)
        problems += [f"{config_file}: unknown setting {n.lower()}" for n in sorted(set(values) - set(MEANINGS))]
    from_environment = {n.removeprefix(PREFIX): v for n, v in environ.items() if n.startswith(PREFIX)}
    unknown = sorted(set(from_environment) - set(MEANINGS))
    warnings = [f"{PREFIX}{name} is not a setting and is ignored" for name in unknown]
    return {**values, **from_environment}, problems, warnings


def _keys(values: Mapping[str, str], stage: Stage, data_dir: Path, problems: list[str], *, may_generate: bool) -> Keys:
    given_tokens = tuple(part.strip() for part in values.get("SECRET_KEY", "").split(",") if part.strip())
    given_kek = values.get("KEK", "").strip()
    for name, texts in (("SECRET_KEY", given_tokens), ("KEK", (given_kek,) if given_kek else ())):
        if any(len(text) < _SHORTEST_SECRET for text in texts):
            problems.append(f"{PREFIX}{name}: needs at least {_SHORTEST_SECRET} characters; try: openssl rand -hex 32")
    missing = [name for name, given in (("SECRET_KEY", given_tokens), ("KEK", given_kek)) if not given]
    if missing and stage in ("staging", "prod"):
        problems += [f"{PREFIX}{name}: must be set in {stage}; try: openssl rand -hex 32" for name in missing]
        return Keys(tuple(map(Secret, given_tokens)), Secret(given_kek), are_generated=False)
    kept = {"secret_key": "", "kek": ""}
    if missing:
        kept = dict.fromkeys(kept, "0" * 64)
        try:
            kept = _kept_secrets(data_dir) if may_generate else kept
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not what this program wrote"
            problems.append(f"{PREFIX}DATA_DIR: {data_dir / 'secrets.json'} cannot be made or read ({reason})")
    return Keys(
        token_secrets=tuple(map(Secret, given_tokens or (kept["secret_key"],))),
        kek=Secret(given_kek or kept["kek"]),
        are_generated=bool(missing),
    )


def _kept_secrets(data_dir: Path) -> dict[str, str]:
    """The secrets of this data folder, made on first use. Two processes starting at once agree on one file."""
    path = data_dir / "secrets.json"
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = data_dir / f".secrets.{os.getpid()}.{secrets.token_hex(4)}"
        content = json.dumps({"secret_key": secrets.token_hex(32), "kek": secrets.token_hex(32)}).encode()
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, content)
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    kept = json.loads(path.read_text())
    return {name: str(kept[name]) for name in ("secret_key", "kek")}


def _one_of(literal: object) -> Callable[[str], str]:
    choices = get_args(literal)

    def parse(raw: str) -> str:
        if raw not in choices:
            raise ValueError(f"{raw!r} is not one of {', '.join(choices)}")
        return raw

    return parse


def _some_of(choices: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(raw: str) -> tuple[str, ...]:
        named = tuple(part.strip() for part in raw.split(",") if part.strip())
        unknown = [name for name in named if name not in choices]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(choices)}")
        return named

    return parse


def _folder(raw: str) -> Path:
    return Path(raw).expanduser().absolute()


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not raw.isascii() or not raw.isdigit() or not least <= int(raw) <= most:
            raise ValueError(f"{raw!r} is not a whole number from {least} to {most}")
        return int(raw)

    return parse


def _url(*forms: str) -> Callable[[str], str]:
    """Accepts `name:` exactly, or any URL of a named scheme that says where."""

    def parse(raw: str) -> str:
        if raw in forms or any(raw.startswith(f"{form}://") for form in forms if not form.endswith(":")):
            if raw not in forms and not _says_where(raw):
                raise ValueError(f"{without_password(raw)!r} names no host or has a bad port")
            return raw
        shown = ", ".join(form if form.endswith(":") else f"{form}://…" for form in forms)
        raise ValueError(f"{without_password(raw)!r} is not one of {shown}")

    return parse


def _engine(raw: str) -> str:
    """Accepts the engines of the product, another model's folder, and the name of an installed plug-in with a colon."""
    scheme, _, rest = raw.partition(":")
    if (scheme == "onnx" and rest.startswith("/")) or scheme in entry_points(group="trueport.detectors").names:
        return raw
    return _url("onnx:", "rules:", "triton")(raw)


def _witnesses(raw: str) -> tuple[tuple[str, str], ...]:
    """Public key and address of each."""
    parts = [part.split() for part in raw.split(",") if part.strip()]
    for part in parts:
        if len(part) != 2 or part[0].count("+") < 2 or not part[1].startswith(("https://", "http://")):
            raise ValueError(f"{' '.join(part)!r} is not a public key, a space and an address such as https://…")
    return tuple((key, address) for key, address in parts)


def _says_where(url: str) -> bool:
    """Whether a URL names a host (or, for files and sockets, a path). Several hosts with ports are MongoDB's way."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("file", "unix"):
            return parts.path.startswith("/")
        if parts.scheme.startswith("mongodb"):
            return all(map(_is_mongodb_host, parts.netloc.rpartition("@")[2].split(",")))
        return bool(parts.hostname) and (parts.port is None or parts.port >= 0)
    except ValueError:
        return False


def _is_mongodb_host(text: str) -> bool:
    found = re.fullmatch(r"(?:[^\s:@\[\]]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", text, re.I)
    return found is not None and 0 < int(found[1] or "27017") < 65_536


def _networks(raw: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in raw.split(",") if part.strip())
    for part in parts:
        try:
            ipaddress.ip_network(part, strict=False)
        except ValueError as error:
            raise ValueError(f"{part!r} is not a network such as 10.0.0.0/8") from error
    return parts


_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.I)


def _egress_entries(raw: str) -> tuple[str, ...]:
    parts = tuple(part.strip().lower() for part in raw.split(",") if part.strip())
    for part in parts:
        try:
            ipaddress.ip_network(part, strict=False)
        except ValueError as error:
            if "/" in part or not _HOST_NAME.fullmatch(part):
                raise ValueError(f"{part!r} is neither a network such as 10.0.0.0/8 nor a host name") from error
    return parts
