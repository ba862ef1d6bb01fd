"""Settings: from `AITBC_...` environment variables, under what the command line says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from aitbc_server.address import Address
from aitbc_server.auth.house import House
from aitbc_server.auth.mode import AuthMode
from aitbc_server.domain import sizes
from aitbc_server.domain.limits import Limits
from aitbc_server.files import share_of_files
from aitbc_server.ledger.cosignatures import Witness
from aitbc_server.rest.limits import HttpLimits
from aitbc_server.telemetry.watchdog import LOOP_WARN_S
from aitbc_server.tls import TlsFiles
from aitbc_server.webhooks.guard import IpNetwork
from aitbc_server.webhooks.schedule import STANDARD_DELAYS_S

# As browsers send it: in lower case, without a path.
_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+")
# A duration such as `30d`; by the letter, its seconds.
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


# Connections of one address to either port.
_CONNECTIONS_EACH = 1000
_NO_BOUND = 1_000_000


class Settings(BaseSettings):
    """Everything about a coordinator that an operator may set."""

    model_config = SettingsConfigDict(
        env_prefix="AITBC_", arbitrary_types_allowed=True, frozen=True
    )

    http: Address = Field(Address("127.0.0.1:8080"), description="Address of the REST API.")
    grpc: Address = Field(Address("127.0.0.1:50051"), description="Address of gRPC.")
    data: Path = Field(Path("aitbc-data"), description="Directory of the database.")
    auth: AuthMode | None = Field(
        None,
        description="Who may call: `open` (anybody) or `required` (a key). By default `open` when "
        "both addresses are loopback, `required` otherwise.",
    )
    tls_cert: Path | None = Field(
        None,
        description="Certificate of this server in PEM, with those that lead to its root. With it, "
        "both ports speak TLS only. Read again when it changes.",
    )
    tls_key: Path | None = Field(None, description="Key of that certificate in PEM, unencrypted.")
    tls_client_ca: Path | None = Field(
        None,
        description="Certificates in PEM of those who sign clients' certificates. With it, whoever "
        "connects to either port must show one.",
    )
    lease_seconds: float = Field(
        15.0, ge=1, le=3600, description="How long a lease outlives its miner's last message."
    )
    heartbeat_seconds: float = Field(
        5.0, ge=0.2, le=600, description="Longest silence on a Work stream, either way."
    )
    drain_seconds: float = Field(
        5.0, ge=0, le=3600, description="How long a stop waits for running jobs."
    )
    progress_factor: float = Field(
        10.0,
        ge=1,
        description="How many times longer than its own pace predicts a miner may make no progress "
        "on a job before it loses it.",
    )
    progress_seconds: float = Field(
        60.0,
        ge=0.1,
        description="Least time without progress after which a miner may lose a job.",
    )
    poison_after: int = Field(
        2,
        ge=1,
        le=10,
        description="A job during whose leases so many miner processes have vanished is set "
        "aside: it fails with `POISON`. Raise it where miners run on machines that may be taken "
        "away.",
    )
    max_jobs: int = Field(
        1_000_000, ge=1, description="Jobs that may be pending or running; more are refused."
    )
    job_retention: float = Field(
        0,
        description="How long a job is kept after its end, such as `12h` or `30d` (also `s`, `m`, "
        "`w`). Then all of it is deleted but its receipt. 0: for ever.",
    )
    miner_retention: float = Field(
        30 * 86_400,
        description="How long a miner that nobody hears of stays registered, such as `12h` or "
        "`90d` (also `s`, `m`, `w`). By default `30d`. 0: for ever.",
    )
    max_message_bytes: int = Field(
        8 * 1024 * 1024,
        ge=64 * 1024,
        description="Largest request body, and largest gRPC message received.",
    )
    queue_memory_bytes: int = Field(
        128 * 1024 * 1024,
        ge=0,
        description="Memory for prompts of waiting jobs; beyond it they are read from disk when "
        "their turn comes.",
    )
    stream_memory_bytes: int = Field(
        256 * 1024 * 1024,
        ge=0,
        description="Memory for what running jobs have answered so far. Beyond it a job's readers "
        "get the rest when it ends, and another miner begins it anew.",
    )
    http_header_bytes: int = Field(
        32 * 1024, ge=4096, le=2**20, description="Most bytes of a request's URL and headers."
    )
    http_header_seconds: float = Field(
        10.0, ge=1, le=300, description="How long the headers of a request may take to arrive."
    )
    http_body_seconds: float = Field(
        120.0, ge=1, le=3600, description="How long the body of a request may take to arrive."
    )
    http_call_seconds: float = Field(
        90.0,
        ge=1,
        le=3600,
        description="How long a call may take to be answered. Streams may last.",
    )
    http_stall_seconds: float = Field(
        60.0, ge=1, le=3600, description="How long a client may leave what it is sent unread."
    )
    http_idle_seconds: float = Field(
        75.0, ge=1, le=3600, description="How long a connection may wait for its next request."
    )
    http_max_connections: int = Field(
        10_000, ge=1, le=1_000_000, description="HTTP connections at once; more are refused."
    )
    http_max_connections_per_address: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="HTTP connections at once of one address (of IPv6, of its /64 network) that is "
        "not a trusted proxy's. By default 1,000, but no such limit where both addresses are "
        "loopback.",
    )
    grpc_max_connections_per_address: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Connections to the gRPC port at once of one address (of IPv6, of its /64 "
        "network) that is not a trusted proxy's; more are closed within a second or two. By "
        "default 1,000, but no such limit where both addresses are loopback.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins whose pages may call the API from a browser, such as "
        "`https://app.example`, or `*` for all. By default none.",
    )
    openai_strict: bool = Field(
        False,
        description="Whether OpenAI's and Anthropic's endpoints refuse parameters that they "
        "ignore, instead of naming them in `x-aitbc-ignored`.",
    )
    model_absence_seconds: float = Field(
        300.0,
        ge=1,
        le=604_800,
        description="How long requests to OpenAI's and Anthropic's endpoints wait for a model "
        "after the last of its miners went: then they are told so, and new ones that there is none "
        "such. A miner that polls counts as there for up to a minute after it was heard.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts that calls without a key may be for in `open` mode, such as "
        "`coordinator,box.lan`: names beside `localhost` and, where the REST address is on "
        "loopback, addresses beside those of loopback.",
    )
    webhook_allow_networks: Annotated[tuple[IpNetwork, ...], NoDecode] = Field(
        (),
        description="Networks that webhooks may post to at any port although they are not public, "
        "such as `127.0.0.0/8,10.1.0.0/16`. By default none: see the guide.",
    )
    webhook_ports: Annotated[tuple[int, ...], NoDecode] = Field(
        (80, 443, 8080, 8443), description="Ports that webhooks may post to at public addresses."
    )
    webhook_timeout_seconds: float = Field(
        15.0, ge=0.1, le=60, description="How long a receiver of webhooks may take to answer."
    )
    webhook_retry_seconds: Annotated[tuple[float, ...], NoDecode] = Field(
        STANDARD_DELAYS_S,
        description="Seconds between one attempt to deliver and the next, each with a jitter of a "
        "tenth. After the last one, the delivery has failed.",
    )
    webhook_concurrency: int = Field(
        128, ge=1, le=10_000, description="Deliveries under way at once."
    )
    webhook_endpoint_concurrency: int = Field(
        8, ge=1, le=1000, description="Deliveries under way at once to one webhook."
    )
    webhook_max_per_owner: int = Field(
        20, ge=0, le=10_000, description="Webhooks that one owner may have."
    )
    webhook_retention_days: float = Field(
        7.0, ge=4, le=3650, description="How long deliveries are kept, made or not."
    )
    file_max_bytes: int = Field(
        200_000_000, ge=1024, description="Largest file that clients may upload."
    )
    file_max_per_owner: int = Field(
        1000, ge=0, le=1_000_000, description="Files that one owner may have."
    )
    file_max_bytes_per_owner: int = Field(
        2_000_000_000, ge=0, description="Bytes that the files of one owner may have together."
    )
    file_retention: float = Field(
        30 * 86_400,
        description="How long files are kept, and batches after their end, such as `12h` or `90d` "
        "(also `s`, `m`, `w`). By default `30d`. 0: for ever.",
    )
    batch_max_lines: int = Field(
        50_000, ge=1, le=1_000_000, description="Requests that the file of a batch may have."
    )
    batch_max_per_owner: int = Field(
        20, ge=0, le=10_000, description="Batches that one owner may have under way."
    )
    batch_jobs_at_once: int = Field(
        1000, ge=1, le=100_000, description="Jobs of one batch that may be under way at once."
    )
    batch_priority: int = Field(
        -100,
        ge=-100,
        le=100,
        description="Priority of the jobs of batches. Calls have 0 unless they say otherwise.",
    )
    metrics: Address | None = Field(
        None,
        description="Address on which `/metrics` is served to anybody who reaches it. Without one "
        "it is on the REST address: for admins, or for everybody while the coordinator is open and "
        "only this machine reaches it.",
    )
    tracing: bool = Field(
        False,
        description="Whether traces of jobs are sent by OpenTelemetry, to where its own `OTEL_...` "
        "variables say. Needs the extra `otel`.",
    )
    limit_requests_per_second: float | None = Field(
        None,
        ge=0,
        description="Calls a second of each key, and of each address without one; 0 is no limit, "
        "as in all `limit_` settings. By default 50, but none where `auth` is `open` and both "
        "addresses are loopback.",
    )
    limit_burst: int = Field(
        0, ge=0, description="Calls that may come at once after a pause. 0: five seconds' worth."
    )
    limit_calls_in_flight: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="Calls and streams of each key, or address without one, that may be under way "
        "at once: over gRPC, and over REST those that stream or wait. Miners' sessions are not "
        "among them.",
    )
    limit_work_streams: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Streams of miners' sessions, one of each miner process, that each key, or "
        "address without one, may have open at once.",
    )
    limit_work_bytes: int = Field(
        128 * 1024 * 1024,
        ge=0,
        description="Bytes of messages that miners' sessions of each key, or address without one, "
        "may have begun to send and not ended. Beyond it, sessions are ended until it is half.",
    )
    limit_jobs_in_flight: int | None = Field(
        None,
        ge=0,
        description="Jobs of each key, or address without one, that may be pending or running. By "
        "default 20,000, but none where calls are not limited.",
    )
    limit_pending_jobs: int | None = Field(
        None,
        ge=0,
        description="Jobs of each key, or address without one, that may wait for a miner. By "
        "default 10,000, but none where calls are not limited.",
    )
    limit_stored_bytes: int | None = Field(
        None,
        ge=0,
        description="Bytes that the jobs of each key, and those of all callers without one "
        "together, may take: what they asked and answered, and 1,024 for each job, until it is "
        "deleted. By default 10,000,000,000, but none where calls are not limited.",
    )
    limit_prompt_bytes: int = Field(
        0, ge=0, description="Largest prompt, or messages of a job together; never over 1 MiB each."
    )
    limit_body_bytes: int = Field(
        0, ge=0, description="Largest request of a caller, where less than AITBC_MAX_MESSAGE_BYTES."
    )
    limit_miners: int | None = Field(
        None,
        ge=0,
        description="Miner ids that each key may have registered, and all callers without one "
        "together. By default 1,000, but none where calls are not limited.",
    )
    limit_soft_budget_percent: int = Field(
        80,
        ge=0,
        le=100,
        description="Share of a key's daily budget after which its jobs wait behind all others.",
    )
    limit_trusted_proxies: Annotated[tuple[IpNetwork, ...], NoDecode] = Field(
        (),
        description="Networks of the proxies, gateways among them, whose `X-Forwarded-For` says "
        "who calls, such as `127.0.0.1,10.0.0.0/8`. By default none.",
    )
    ledger_name: str | None = Field(
        None,
        pattern=r"[!-*,-~]{1,128}",
        description="Name of the ledger, the first line of its checkpoints: by custom the address "
        "it is served at, without its scheme, such as `aitbc.example.org`. Fixed at the first "
        "start. By default one is made from the first signing key.",
    )
    ledger_prices: Path | None = Field(
        None, description="JSON file of prices by model. Without it everything is free."
    )
    ledger_block_seconds: float = Field(
        10.0, ge=0.1, le=3600, description="How long a receipt waits for its block at most."
    )
    ledger_block_receipts: int = Field(
        10_000, ge=1, description="Receipts after which a block is sealed without waiting."
    )
    ledger_witnesses: Annotated[tuple[Witness, ...], NoDecode] = Field(
        (),
        description="Verifier keys of the witnesses whose cosignatures are taken and served, as "
        "`aitbc-coordinator witness` prints them, separated by commas. By default none.",
    )
    loop_warn_seconds: float = Field(
        LOOP_WARN_S,
        ge=0.05,
        le=60,
        description="How long one turn of the event loop may take: the log names the call of a "
        "longer one.",
    )
    log_level: str = Field("info", description="Least level logged: debug, info, warning, error.")

    @field_validator("http", "grpc", "metrics", mode="before")
    @classmethod
    def _parse_address(cls, value: Any) -> Address | None:
        return None if value is None else Address.parse(value)

    @field_validator(
        "limit_trusted_proxies",
        "cors_origins",
        "allowed_hosts",
        "webhook_allow_networks",
        "webhook_ports",
        "webhook_retry_seconds",
        mode="before",
    )
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        # `1,2` rather than the JSON that lists are otherwise read as.
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("ledger_witnesses", mode="before")
    @classmethod
    def _parse_witnesses(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Witness.parse(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("job_retention", "miner_retention", "file_retention", mode="before")
    @classmethod
    def _parse_duration(cls, value: Any) -> Any:
        # A number without a unit is nobody's guess.
        if isinstance(value, str) and value.strip() != "0":
            match = _DURATION.fullmatch(value.strip())
            if match is None:
                raise ValueError(
                    f"{value!r} is neither a number and its unit, such as 12h or 30d, nor 0"
                )
            return float(match[1]) * _UNITS_S[match[2]]
        return value

    @field_validator("job_retention", "miner_retention", "file_retention")
    @classmethod
    def _long_enough(cls, value: float) -> float:
        if value and not 1 <= value <= 36_500 * 86_400:
            raise ValueError("must be 0 (for ever), or between 1s and 36500d")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _whole_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"{origin!r} is not an origin: give scheme and host, and the port where it is "
                    "not the usual one, such as https://app.example"
                )
        return value

    @field_validator("webhook_retry_seconds")
    @classmethod
    def _positive_delays(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= delay <= 7 * 86_400 for delay in value):
            raise ValueError("each must be between 0 and a week")
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in {"debug", "info", "warning", "error"}:
            raise ValueError("must be debug, info, warning or error")
        return value.lower()

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        _ = self.tls
        return self

    @property
    def tls(self) -> TlsFiles | None:
        """The files of TLS; None when both ports speak plain text."""
        return TlsFiles.of(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def http_limits(self) -> HttpLimits:
        """What an HTTP client may take."""
        return HttpLimits(
            head_bytes=self.http_header_bytes,
            head_s=self.http_header_seconds,
            body_s=self.http_body_seconds,
            stall_s=self.http_stall_seconds,
            idle_s=self.http_idle_seconds,
            connections=share_of_files(self.http_max_connections),
            connections_each=self.http_max_connections_per_address
            or (self.http_max_connections if self.is_local else _CONNECTIONS_EACH),
            trusted=self.limit_trusted_proxies,
        )

    @property
    def grpc_connections_each(self) -> int:
        """How many connections to the gRPC port an address may have."""
        each = self.grpc_max_connections_per_address
        return each or (_NO_BOUND if self.is_local else _CONNECTIONS_EACH)

    @property
    def result_bytes(self) -> int:
        """Bytes of the largest result."""
        return min(self.max_message_bytes, sizes.RESULT_BYTES)

    @property
    def house(self) -> House:
        """Which calls without a key come from no foreign page."""
        has_proxies = bool(self.limit_trusted_proxies)
        return House(
            self.allowed_hosts,
            self.cors_origins,
            has_proxies=has_proxies,
            is_local=self.http.is_loopback,
        )

    @property
    def auth_mode(self) -> AuthMode:
        """What `auth` comes to."""
        if self.auth is not None:
            return self.auth
        return AuthMode.OPEN if self.is_local else AuthMode.REQUIRED

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the API."""
        return self.http.is_loopback and self.grpc.is_loopback

    @property
    def limits(self) -> Limits:
        """What the `limit_` settings come to for a caller that has no limits of its own."""
        is_private = self.auth_mode is AuthMode.OPEN and self.is_local

        def or_default(value: float | None, default: float) -> float:
            return value if value is not None else 0 if is_private else default

        return Limits(
            requests_per_second=or_default(self.limit_requests_per_second, 50.0),
            burst=self.limit_burst,
            jobs_in_flight=int(or_default(self.limit_jobs_in_flight, 20_000)),
            pending_jobs=int(or_default(self.limit_pending_jobs, 10_000)),
            stored_bytes=int(or_default(self.limit_stored_bytes, 10_000_000_000)),
            prompt_bytes=self.limit_prompt_bytes,
            body_bytes=self.limit_body_bytes,
            miners=int(or_default(self.limit_miners, 1_000)),
        )
