"""The certificate authorities that this machine trusts for TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from hookmill.errors import SettingsError


def system_roots() -> bytes:
    """Return their certificates as PEM. Raises `SettingsError` if there are none.

    They are looked for where OpenSSL looks (SSL_CERT_FILE and SSL_CERT_DIR included), then in the
    package certifi, if it is installed.
    """
    paths = ssl.get_default_verify_paths()
    if paths.cafile and (roots := _read(Path(paths.cafile))):
        return roots
    if paths.capath and (roots := b"\n".join(map(_read, _files_in(Path(paths.capath))))):
        return roots
    try:
        import certifi  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - may be absent
    except ImportError:
        raise SettingsError(
            ["this machine has no trusted certificates: install ca-certificates, or certifi"]
        ) from None
    return _read(Path(certifi.where()))


def _files_in(folder: Path) -> list[Path]:
    # Each certificate is there twice: as a file, and as a link that is named after its hash.
    return sorted({path.resolve() for path in folder.iterdir() if path.is_file()})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
