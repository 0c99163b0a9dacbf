"""Connections that end: clients that send or read nothing, and too many of them, do not keep others out."""

import asyncio
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds between the signal to end and the end, for the batch at work.
GRACE = 5


class _Connection(H11Protocol):
    """A connection with a deadline for everything that its client does or waits for, by the :class:`Limits` of the application.

    * A request must have its header within ``seconds`` after the connection or the last answer, and its answer within
      ``deadline`` seconds more than twice that.
    * An answer must be taken: at least a mebibyte of it in ``seconds``.
    * At most ``connections`` are open and ``unsent`` bytes wait for their readers: whoever has been sending or reading longest is
      cut off for another.
    """

    # Uvicorn's.
    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.limits = self.config.app.state.limits
        self._phase: tuple[Any, bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._follow()
        opened = [each for each in self.connections if not each.transport.is_closing()]
        if len(opened) > self.limits.connections:
            idle = [each for each in opened if each is not self and not each.is_computed_for]
            min(idle, key=lambda each: each.since, default=self).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._timer.cancel()

    def handle_events(self) -> None:
        super().handle_events()
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def pause_writing(self) -> None:
        super().pause_writing()
        slow = sorted((each for each in self.connections if each.waits_for_reader), key=lambda each: each.since)
        waiting = sum(each.transport.get_write_buffer_size() for each in slow)
        while waiting > self.limits.unsent and slow[0] is not self:
            waiting -= slow[0].transport.get_write_buffer_size()
            slow.pop(0).transport.abort()

    # Ours.
    @property
    def is_uploading(self) -> bool:
        """Return True if the body of a request has not come yet."""
        return self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body

    @property
    def waits_for_reader(self) -> bool:
        """Return True if a part of an answer has not been taken."""
        return self.transport.get_write_buffer_size() > 0

    @property
    def is_computed_for(self) -> bool:
        """Return True if a whole request has come and its answer has not begun."""
        return self.cycle is not None and not (self.cycle.more_body or self.cycle.response_started)

    def _follow(self) -> None:
        """Start the time of a phase when it begins: the header of a request, or the request itself."""
        idle = self.cycle is None or self.cycle.response_complete
        if self._phase == (self.cycle, idle):
            return
        self._phase, self.since = (self.cycle, idle), time.monotonic()
        # The application says first that the time is up.
        self._start(self.limits.seconds if idle else 2 * self.limits.seconds + self.limits.deadline)

    def _start(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._left = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        left = self.transport.get_write_buffer_size()
        if left and left <= self._left - 2**20:
            self._start(self.limits.seconds)
        elif not left and self._phase[1] and self.conn.trailing_data[0] and not self.transport.is_closing():
            # Half a header.
            self.transport.write(b'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
            self.transport.close()
        else:
            self.transport.abort()


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: Any = None) -> None:
        """End within seconds: uploads are cut off, waiting images refused, and the batch at work has a while."""
        batcher = self.config.app.state.batcher
        for connection in list(self.server_state.connections):
            if connection.is_uploading:
                connection.transport.abort()
        batcher.end()
        asyncio.get_running_loop().call_later(GRACE - 1, batcher.end, True)
        await super().shutdown(sockets)


def make_server(app: Any, host: str = '127.0.0.1', port: int = 8000, **options: Any) -> uvicorn.Server:
    """Return a server of an application of :func:`~mtl_plugins.deployment.server.app.make_app` with its limits of connections.

    Port 0 is a free one; ``options`` are those of :class:`uvicorn.Config`.
    """
    options = dict(http=_Connection, ws='none', timeout_graceful_shutdown=GRACE) | options
    return _Server(uvicorn.Config(app, host=host, port=port, **options))
