"""One gRPC channel to a Triton server, and what its errors mean."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import numpy as np

from trueport.detection.base import DetectorFailed
from trueport.detection.triton.contract import TEXT, Answer, Contract, Metadata, read_contract
from trueport.detection.types import FailureCode
from trueport.kit.clock import Clock

try:
    import tritonclient.grpc.aio as triton  # type: ignore[import-untyped]  # the package ships no types
except ImportError as error:
    raise ImportError("Detection on Triton needs tritonclient: pip install 'trueport[triton]'.") from error

_CHANNEL: Final = [
    # A server that is back after a restart is found within a second, not after gRPC's usual two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 256 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    # Without this, channels to one address share a connection, also one that a newer channel is meant to replace.
    ("grpc.use_local_subchannel_pool", 1),
]
_SILENT_S: Final = 5.0
_CODES: Final[Mapping[str, FailureCode]] = {
    "StatusCode.DEADLINE_EXCEEDED": "timeout",
    "StatusCode.RESOURCE_EXHAUSTED": "overloaded",
    "StatusCode.INVALID_ARGUMENT": "contract",
}


class _Open(NamedTuple):
    client: Any  # tritonclient has no types
    since_s: float


class Connection:
    """Opened by the first request, for the event loop that makes it."""

    def __init__(self, address: str, clock: Clock) -> None:
        self._address = address
        self._clock = clock
        self._open: _Open | None = None
        self._answered_s = -_SILENT_S
        self._closing: set[asyncio.Task[None]] = set()

    async def contract(self, model: str, *, gives_tokens: bool, timeout_s: float) -> Contract:
        """What the server says of `model` now. Raises DetectorFailed."""
        client = self._client()
        try:
            metadata, config = await asyncio.gather(
                client.get_model_metadata(model, client_timeout=timeout_s),
                client.get_model_config(model, client_timeout=timeout_s),
            )
        except triton.InferenceServerException as error:
            raise self._failed(error) from error
        except asyncio.CancelledError as error:
            raise _left_or_closed() from error
        self._answered_s = self._clock.monotonic()
        described: Metadata = metadata
        parameters = {key: value.string_value for key, value in config.config.parameters.items()}
        return read_contract(
            described, parameters, max_batch_size=config.config.max_batch_size, gives_tokens=gives_tokens
        )

    async def infer(self, contract: Contract, texts: Sequence[str], *, timeout_s: float) -> Answer:
        """The model's unchecked answer to one row for each text. Raises DetectorFailed."""
        rows = triton.InferInput(TEXT, [len(texts), 1], "BYTES")
        # One for one, so that offsets still count code points of the text.
        encoded = [[text.encode("utf-8", "replace")] for text in texts]
        rows.set_data_from_numpy(np.array(encoded, dtype=np.object_))
        try:
            result = await self._client().infer(contract.model, [rows], client_timeout=timeout_s)
        except triton.InferenceServerException as error:
            raise self._failed(error) from error
        except asyncio.CancelledError as error:
            raise _left_or_closed() from error
        self._answered_s = self._clock.monotonic()
        answer: Answer = result.get_response()
        return answer

    async def close(self) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            await opened.client.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _client(self) -> Any:  # tritonclient has no types
        if self._open is None:
            client = triton.InferenceServerClient(self._address, channel_args=[*_CHANNEL])
            self._open = _Open(client, self._clock.monotonic())
        return self._open.client

    def _failed(self, error: Exception) -> DetectorFailed:
        status, message = str(error.status()), str(error.message())  # type: ignore[attr-defined]  # untyped package
        code = _CODES.get(status, "unavailable")
        if "maximum queue size" in message:
            code = "overloaded"
        elif code == "timeout":
            self._leave_if_silent()
        return DetectorFailed(code)

    def _leave_if_silent(self) -> None:
        """Connect anew once nothing at all was answered for seconds.

        A peer that vanished without a word looks like a slow one until TCP gives up after many minutes.
        """
        now_s = self._clock.monotonic()
        if self._open is None or now_s - max(self._answered_s, self._open.since_s) < _SILENT_S:
            return
        opened, self._open = self._open, None
        task = asyncio.get_running_loop().create_task(_close(opened.client))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(client: Any) -> None:  # tritonclient has no types
    with suppress(triton.InferenceServerException):
        await client.close()


def _left_or_closed() -> BaseException:
    """The caller's own cancellation, or a failure where the channel was closed under a call, which looks the same."""
    task = asyncio.current_task()
    return asyncio.CancelledError() if task is not None and task.cancelling() else DetectorFailed("unavailable")
