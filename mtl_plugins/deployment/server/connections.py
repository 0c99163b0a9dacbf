"""Connections that end: clients that send or read nothing, and too many of them, do not keep others out."""

import asyncio
import time
from typing import Any

import uvicorn

# Seconds between the signal to end and the end, for the batch at work.
GRACE = 5
# Bytes of an answer that a client takes within `Limits.seconds`.
_PACE = 2**20


class _Server(uvicorn.Server):
    """A server that cuts off slow clients, by the :class:`Limits` of the application, and ends within seconds.

    * A request must have its header within ``seconds`` after the connection or the last answer.
    * An answer must be taken: at least a mebibyte of it in ``seconds``.
    * At most ``connections`` are open and ``unsent`` bytes wait for their readers: whoever has been sending or reading longest is
      cut off for another.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        # Of each connection that waits for its client, what for and since when.
        self._waits: dict[Any, tuple[Any, float]] = {}

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        now, before, self._waits = time.monotonic(), self._waits, {}
        for connection in self.server_state.connections:
            cycle = connection.cycle
            is_idle = cycle is None or cycle.response_complete
            if is_idle or cycle.more_body or cycle.response_started:
                waits_for = (cycle, is_idle, connection.transport.get_write_buffer_size() // _PACE)
                known, since = before.get(connection, (None, now))
                self._waits[connection] = (waits_for, since if known == waits_for else now)
        limits = self.config.app.state.limits
        excess = len(self.server_state.connections) - limits.connections
        unsent = sum(connection.transport.get_write_buffer_size() for connection in self._waits)
        for connection, ((_, is_idle, _), since) in sorted(self._waits.items(), key=lambda item: item[1][1]):
            left = connection.transport.get_write_buffer_size()
            # The application says itself that the time of an upload is up.
            is_late = now - since > limits.seconds and not _is_uploading(connection)
            if excess > 0 or (left and unsent > limits.unsent) or (is_late and (left or not is_idle)):
                connection.transport.abort()
                excess, unsent = excess - 1, unsent - left
            elif is_late:
                connection.transport.write(b'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
                connection.transport.close()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: Any = None) -> None:
        """End within seconds: uploads are cut off, waiting images refused, and the batch at work has a while."""
        batcher = self.config.app.state.batcher
        for connection in filter(_is_uploading, list(self.server_state.connections)):
            connection.transport.abort()
        batcher.end()
        asyncio.get_running_loop().call_later(GRACE - 1, batcher.end, True)
        await super().shutdown(sockets)


def _is_uploading(connection: Any) -> bool:
    """Return True if the body of a request has not come yet."""
    return connection.cycle is not None and not connection.cycle.response_complete and connection.cycle.more_body


def make_server(app: Any, host: str = '127.0.0.1', port: int = 8000, **options: Any) -> uvicorn.Server:
    """Return a server of an application of :func:`~mtl_plugins.deployment.server.app.make_app` with its limits of connections.

    Port 0 is a free one; ``options`` are those of :class:`uvicorn.Config`.
    """
    options = dict(http='h11', ws='none', timeout_graceful_shutdown=GRACE) | options
    return _Server(uvicorn.Config(app, host=host, port=port, **options))
