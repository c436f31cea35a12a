"""The clients: connections, threads and tasks. What is said over them is in `conversation.py`."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

import httpx

from vae_client import calls
from vae_client.conversation import (
    CONNECT_SECONDS,
    Answer,
    Call,
    Conversation,
    Exchange,
    Options,
    Send,
    Step,
    Wait,
    timeout_header,
)

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_URL: Final = "http://127.0.0.1:8000"

# Environment variables. The service has other ones: its keys are in the file of VAE_API_KEYS_FILE.
URL_VARIABLE: Final = "VAE_URL"
KEY_VARIABLE: Final = "VAE_API_KEY"


class _Settings:
    """What both clients are made with.

    url: by default VAE_URL of the environment, else http://127.0.0.1:8000.
    api_key: by default VAE_API_KEY of the environment; sent with each request.
    timeout: seconds that a call may take, all its batches and tries; None: for ever. The service is told, too.
    batch_size: most images in one request. Larger inputs are divided; the service takes 1,024 by default, and when it
    takes fewer, a batch is halved. Draws of later batches have seeds of their own, made of the call's seed, so what is
    drawn for more than one batch depends on the batch size.
    in_flight: most requests at the same time of one call.
    retries: how often a request is sent again when the service says when to (Retry-After) or the connection is lost.

    Raises ValueError for values that none of these can have.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = 60.0,
        batch_size: int = 256,
        in_flight: int = 4,
        retries: int = 4,
    ) -> None:
        self.url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{self.url!r} is no URL: {error}.") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{self.url!r} is no URL of a service, as {DEFAULT_URL} is one.")
        if batch_size < 1 or in_flight < 1 or retries < 0 or (timeout is not None and timeout <= 0):
            raise ValueError("batch_size and in_flight are at least 1, retries at least 0, and timeout is above 0.")
        key = api_key or os.environ.get(KEY_VARIABLE)
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._options = Options(self.url, math.inf if timeout is None else timeout, retries, batch_size)
        self._in_flight = in_flight
        self._open()

    def _open(self) -> None:
        raise NotImplementedError

    def _arguments(self, http: httpx.Client | httpx.AsyncClient, step: Send) -> httpx.Request:
        request = step.request
        seconds = None if math.isinf(step.seconds) else step.seconds
        body = dict(request.body)
        headers = {"accept": request.accept, **timeout_header(step.seconds), **self._headers, **body.pop("headers", {})}
        connect = CONNECT_SECONDS if seconds is None else min(seconds, CONNECT_SECONDS)
        return http.build_request(
            request.method,
            self.url + request.path,
            params=dict(request.query) or None,
            headers=headers,
            timeout=httpx.Timeout(seconds, connect=connect),
            **body,
        )


def _now(call: Callable[P, Call[R]]) -> Callable[Concatenate[Client, P], R]:
    """A verb as a method of Client."""

    @wraps(call)
    def method(client: Client, /, *arguments: P.args, **options: P.kwargs) -> R:
        return client._run(call(*arguments, **options))

    return _documented(method, call)


def _later(call: Callable[P, Call[R]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]]:
    """A verb as a method of AsyncClient."""

    @wraps(call)
    async def method(client: AsyncClient, /, *arguments: P.args, **options: P.kwargs) -> R:
        return await client._run(call(*arguments, **options))

    return _documented(method, call)


F = TypeVar("F", bound=Callable[..., Any])


def _documented(method: F, call: Callable[..., Any]) -> F:
    """Have `help` show the call's parameters behind `self`, as of any other method."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    signature = inspect.signature(call)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[own, *signature.parameters.values()],
        return_annotation=signature.return_annotation.removeprefix("Call[").removesuffix("]"),
    )
    return method


class Client(_Settings):
    """A client of the service at `url`. Several threads can use it.

    Every verb raises VaeError, ValueError for input that cannot be sent, and OSError for files that cannot be read.
    """

    encode = _now(calls.encode)
    reconstruct = _now(calls.reconstruct)
    score = _now(calls.score)
    sample = _now(calls.sample)
    decode = _now(calls.decode)
    interpolate = _now(calls.interpolate)
    traverse = _now(calls.traverse)
    models = _now(calls.models)
    health = _now(calls.health)

    def _open(self) -> None:
        self._http = httpx.Client()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, call: Call[R]) -> R:
        exchange = Exchange(call, self._options)
        if len(exchange.batches) == 1:
            return exchange.result(self._hold(exchange.batch(exchange.batches[0])))
        self._hold(exchange.pin())
        pool = ThreadPoolExecutor(self._in_flight, "vae-client")
        try:
            futures = [pool.submit(self._hold, exchange.batch(rows)) for rows in exchange.batches]
            parts = [part for future in futures for part in future.result()]
        finally:
            # After an error the other batches that are under way end first: the connections are closed next, perhaps.
            pool.shutdown(wait=True, cancel_futures=True)
        return exchange.result(parts)

    def _hold(self, conversation: Conversation[R]) -> R:
        try:
            step = next(conversation)
            while True:
                try:
                    came = self._do(step)
                except Exception as error:
                    step = conversation.throw(error)
                else:
                    step = conversation.send(came)
        except StopIteration as ended:
            result: R = ended.value
            return result

    def _do(self, step: Step) -> Any:
        if isinstance(step, Send):
            return self._send(step)
        if isinstance(step, Wait):
            return time.sleep(step.seconds)
        return step.function()

    def _send(self, step: Send) -> Answer:
        end = time.monotonic() + step.seconds
        response = self._http.send(self._arguments(self._http, step), stream=True)
        try:
            content = bytearray()
            for part in response.iter_bytes():  # the timeout of httpx is for each part of an answer
                content += part
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("The answer takes too long.")
        finally:
            response.close()
        return Answer(response.status_code, response.headers, bytes(content))


class AsyncClient(_Settings):
    """The same for asyncio: every verb is a coroutine. The arguments are those of `Client`."""

    encode = _later(calls.encode)
    reconstruct = _later(calls.reconstruct)
    score = _later(calls.score)
    sample = _later(calls.sample)
    decode = _later(calls.decode)
    interpolate = _later(calls.interpolate)
    traverse = _later(calls.traverse)
    models = _later(calls.models)
    health = _later(calls.health)

    def _open(self) -> None:
        self._http = httpx.AsyncClient()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, call: Call[R]) -> R:
        exchange = Exchange(call, self._options)
        if len(exchange.batches) == 1:
            return exchange.result(await self._hold(exchange.batch(exchange.batches[0])))
        await self._hold(exchange.pin())
        free = asyncio.Semaphore(self._in_flight)

        async def hold(conversation: Conversation[list[R]]) -> list[R]:
            async with free:
                return await self._hold(conversation)

        tasks = [asyncio.create_task(hold(exchange.batch(rows))) for rows in exchange.batches]
        try:
            parts = [part for task in tasks for part in await task]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return exchange.result(parts)

    async def _hold(self, conversation: Conversation[R]) -> R:
        try:
            step = next(conversation)
            while True:
                try:
                    came = await self._do(step)
                except Exception as error:
                    step = conversation.throw(error)
                else:
                    step = conversation.send(came)
        except StopIteration as ended:
            result: R = ended.value
            return result

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Send):
            return await self._send(step)
        if isinstance(step, Wait):
            return await asyncio.sleep(step.seconds)
        return await asyncio.to_thread(step.function)

    async def _send(self, step: Send) -> Answer:
        try:
            async with asyncio.timeout(None if math.isinf(step.seconds) else step.seconds):
                response = await self._http.send(self._arguments(self._http, step))
        except TimeoutError as late:
            raise httpx.ReadTimeout("The answer takes too long.") from late
        return Answer(response.status_code, response.headers, response.content)
