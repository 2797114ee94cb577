"""Makes what a server beyond loopback needs, once: a certificate for this machine, a tenant's key and a wrapping key.

    python first_start.py FOLDER

What is there stays. FOLDER then holds server.pem, server-key.pem, keys and wrapping.key for the server, and client with
ca.pem and key for whoever calls it.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from context_store import load_or_create_key_file
from server.access import make_key

SERVER_USER = 65532
VALID_DAYS = 825
NAMES = ("localhost", "server")


def certificate() -> tuple[bytes, bytes]:
    """A certificate that is its own authority, for 127.0.0.1 and NAMES, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Carryover on this machine")])
    places = [*map(x509.DNSName, NAMES), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), private


def write(file: Path, content: bytes) -> None:
    """Write a file that only its owner reads."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
        opened.write(content)


def main(folder: Path) -> None:
    """Make what is missing, and give it to the server's user where this runs as root."""
    if not (folder / "client").exists():
        made = folder / "client.new"  # renamed last: whatever an interrupted start has left is made anew
        made.mkdir(parents=True, exist_ok=True)
        public, private = certificate()
        key, line = make_key("default")
        write(folder / "server.pem", public)
        write(folder / "server-key.pem", private)
        write(folder / "keys", f"{line}\n".encode())
        write(made / "ca.pem", public)
        write(made / "key", f"{key}\n".encode())
        made.rename(folder / "client")
    load_or_create_key_file(folder / "wrapping.key")
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, SERVER_USER, SERVER_USER)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
