"""A Redis server that speaks TLS and asks for certificates, and the files that this needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.authority import DAY, Issuer, rsa_key
from tests.ports import free_port
from tests.support import Server

NAME = "localhost"


class TLSServer:
    """A server whose TLS port takes only clients with a certificate of its authority. Its `plain`
    port is for the test.
    """

    def __init__(self, own_server: Callable[..., Server], folder: Path) -> None:
        self.folder = folder
        self.authority = Issuer("Redis", time.time())
        self.file("ca.pem", self.authority.pem)
        self.certificate("server", NAME)
        self.certificate("client", "worker.example", is_client=True)
        self.port = free_port()
        options = {
            "tls-port": str(self.port),
            "tls-cert-file": str(folder / "server.pem"),
            "tls-key-file": str(folder / "server.key"),
            "tls-ca-cert-file": str(folder / "ca.pem"),
            "tls-auth-clients": "yes",
            "save": "",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.plain = own_server(*words, binary="redis")

    def url(self, *, login: str = "", host: str = NAME, **options: str) -> str:
        """Return the URL for a client with good files; `options` replace them, "" leaves out."""
        usual = {
            "ssl_ca_certs": str(self.folder / "ca.pem"),
            "ssl_certfile": str(self.folder / "client.pem"),
            "ssl_keyfile": str(self.folder / "client.key"),
        }
        given = {name: value for name, value in {**usual, **options}.items() if value}
        return f"rediss://{login}{host}:{self.port}/0?{urlencode(given)}"

    def certificate(
        self,
        file: str,
        name: str,
        *,
        authority: Issuer | None = None,
        is_client: bool = False,
        has_expired: bool = False,
    ) -> None:
        """Write a certificate and its key into files of that name."""
        key = rsa_key(file)
        starts, ends = (-2 * DAY, -DAY) if has_expired else (-DAY, DAY)
        issuer = authority or self.authority
        self.file(
            f"{file}.pem", issuer.issue([name], key, starts=starts, ends=ends, is_client=is_client)
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.file(f"{file}.key", private)

    def file(self, name: str, content: bytes) -> str:
        """Write a file, and return its path."""
        path = self.folder / name
        path.write_bytes(content)
        return str(path)
