"""A mail server of the test's own: real sockets, in a thread of the test's process."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage

from tests.faults.servers import free_port


class Mailbox:
    """An SMTP server (RFC 5321, as much as smtplib speaks) that keeps what it is sent.

    `refusing` makes it refuse every recipient; `on_mail` is called when a mail has arrived, before
    the sender hears of it.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[EmailMessage] = []
        self.refusing = False
        self.on_mail: Callable[[], None] | None = None
        self._server: socketserver.ThreadingTCPServer | None = None

    def start(self) -> None:
        mailbox = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                _converse(self, mailbox)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _converse(handler: socketserver.StreamRequestHandler, mailbox: Mailbox) -> None:
    def say(text: str) -> None:
        handler.wfile.write(f"{text}\r\n".encode())

    say("220 mailbox")
    while line := handler.rfile.readline():
        verb = line[:4].upper()
        if verb == b"RCPT" and mailbox.refusing:
            say("550 5.1.1 nobody of this name")
        elif verb == b"DATA":
            say("354 go on")
            mailbox.mails.append(_read(handler))
            if mailbox.on_mail is not None:
                mailbox.on_mail()
            say("250 kept")
        elif verb == b"QUIT":
            say("221 bye")
            return
        else:
            say("250 well")


def _read(handler: socketserver.StreamRequestHandler) -> EmailMessage:
    lines: list[bytes] = []
    while (line := handler.rfile.readline()) not in {b".\r\n", b""}:
        lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
    return message_from_bytes(b"".join(lines), policy=policy.default)
