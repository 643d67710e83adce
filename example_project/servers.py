"""What each database and each broker needs, whatever URL the environment names."""

from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    # The site, the worker and the relay write at the same time: take the write lock at BEGIN, and
    # let readers go on meanwhile.
    "sqlite3": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL",
    },
    # Without an end, a server that is gone holds a worker for the two minutes of TCP.
    "postgresql": {"connect_timeout": 5},
    # "utf8" alone has no emoji there; the isolation is what the log needs, and Django's default.
    "mysql": {"charset": "utf8mb4", "isolation_level": "read committed", "connect_timeout": 5},
}


def database(config: dict[str, Any]) -> dict[str, Any]:
    """One of DATABASES, with the options of its engine where the URL says nothing else."""
    engine = str(config["ENGINE"]).rpartition(".")[2]
    return {**config, "OPTIONS": {**OPTIONS[engine], **config.get("OPTIONS", {})}}


def transport_options(broker: str, queue: str) -> dict[str, Any]:
    """CELERY_BROKER_TRANSPORT_OPTIONS. An option that a transport does not know is an error."""
    transport = broker.partition("://")[0]
    if transport in {"redis", "rediss"}:
        return {
            "global_keyprefix": f"{queue}:",  # a Redis may serve several projects
            # Without them, publishing to a Redis that hangs never comes back.
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        }
    if transport in {"amqp", "amqps", "pyamqp"}:
        return {"confirm_publish": True}  # else a message that is refused vanishes in silence
    return {}
