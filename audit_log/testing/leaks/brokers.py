"""What waits in brokers and result stores: every key of a Redis, every message of a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import redis as client
from kombu import Connection, Queue

from audit_log.testing.leaks.places import Piece, Place, as_bytes


def redis(url: str) -> Place:
    """Every key of that Redis database and all it holds: queues, results, caches, sessions."""

    def read() -> Iterator[Piece]:
        server: Any = client.Redis.from_url(url)
        with server:
            for key in sorted(server.scan_iter(count=1_000)):
                yield "the name of a key", key
                for value in _held(server, key):
                    yield key.decode("utf-8", "replace"), as_bytes(value)

    return Place("Redis", read)


def _held(server: Any, key: bytes) -> Iterable[Any]:
    reading: dict[str, Callable[[], Iterable[Any]]] = {
        "string": lambda: [server.get(key)],
        "list": lambda: server.lrange(key, 0, -1),
        "hash": lambda: [part for item in server.hgetall(key).items() for part in item],
        "set": lambda: server.smembers(key),
        "zset": lambda: server.zrange(key, 0, -1),
        "stream": lambda: [
            part for _, entry in server.xrange(key) for item in entry.items() for part in item
        ],
    }
    kind = server.type(key).decode()
    return reading[kind]() if kind in reading else [server.dump(key)]


def queues(broker: str | Connection, *names: str) -> Place:
    """Every message that waits in these queues, by any transport Celery knows.

    `broker` is a URL, or a connection where the transport needs options. They are read and given
    back, so let no worker run meanwhile.
    """

    def read() -> Iterator[Piece]:
        opening = Connection(broker) if isinstance(broker, str) else broker.clone()
        with opening as connection:
            for name in names:
                queue = Queue(name, channel=connection.default_channel)
                taken: list[Any] = []
                while (message := queue.get()) is not None:
                    taken.append(message)
                try:
                    for number, message in enumerate(taken):
                        yield f"message {number} of {name}", as_bytes(message.body)
                        told = [message.headers, message.properties, message.delivery_info]
                        yield f"headers of message {number} of {name}", as_bytes(told)
                finally:
                    for message in reversed(taken):
                        message.requeue()

    return Place("a broker's queue", read)
