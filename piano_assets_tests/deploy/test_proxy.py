"""The proxy that asks for a password: nginx itself, before a stand-in for the UI."""

import base64
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "deploy" / "proxy" / "nginx.conf"
UI = "http://127.0.0.1:3000"
PASSWORD = {"Authorization": "Basic " + base64.b64encode(b"anna:secret").decode()}


class Echo(BaseHTTPRequestHandler):
    """Says which headers arrived; takes an upgrade as a WebSocket server does."""

    def do_GET(self) -> None:
        upgrade = self.headers.get("Upgrade")
        self.send_response(101 if upgrade else 200)
        if upgrade:
            self.send_header("Upgrade", upgrade)
            self.send_header("Connection", "Upgrade")
        said = str(dict(self.headers)).encode()
        self.send_header("Content-Length", "0" if upgrade else str(len(said)))
        self.end_headers()
        self.wfile.write(b"" if upgrade else said)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing on the console."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "piano.example.org")])
    now = datetime.now()
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=2)).not_valid_after(now + timedelta(days=2))
    signed = builder.sign(key, hashes.SHA256())
    (folder / "piano.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    text = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "piano.key").write_bytes(key.private_bytes(*text))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where nginx listens with the shipped configuration, whose paths and ports are replaced by free ones."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    folder, listening = tmp_path_factory.mktemp("nginx"), free_port()
    write_certificate(folder)
    (folder / "piano.htpasswd").write_text("anna:{PLAIN}secret\n")
    ui = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=ui.serve_forever, daemon=True).start()
    text = (
        CONFIGURATION.read_text().replace("/etc/nginx", str(folder)).replace(UI, f"http://127.0.0.1:{ui.server_port}")
    )
    (folder / "site.conf").write_text(text.replace("listen 443", f"listen 127.0.0.1:{listening}"))
    temporary = "\n".join(f"{k}_temp_path {folder};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} pid {folder}/pid; daemon off; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary} include {folder}/site.conf; }}\n"
    )
    words = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*words, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr
    server = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", listening)):
            assert server.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.05)
        yield listening
    finally:
        server.terminate()
        server.wait(20)
        ui.shutdown()
        ui.server_close()


def ask(port: int, headers: dict[str, str], method: str = "GET", path: str = "/graphql") -> tuple[int, str]:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/graphql", "/server_info", "/logs/run/1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_passes_without_the_password(port, method, path):
    wrong = {"Authorization": "Basic " + base64.b64encode(b"anna:guess").decode()}
    assert ask(port, {}, method, path)[0] == 401
    assert ask(port, wrong, method, path)[0] == 401


def test_with_the_password_the_ui_answers_and_never_sees_it(port):
    status, seen = ask(port, PASSWORD)
    assert status == 200
    assert "Authorization" not in seen
    assert "'X-Forwarded-Proto': 'https'" in seen


def test_a_websocket_is_let_through(port):
    socket_headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert ask(port, socket_headers)[0] == 401
    assert ask(port, PASSWORD | socket_headers)[0] == 101


def test_it_leads_to_the_loopback_ui_of_make():
    (made,) = [x for x in (ROOT / "Makefile").read_text().splitlines() if "dagster dev" in x]
    words = made.split()
    host, port = words[words.index("--host") + 1], words[words.index("--port") + 1]
    assert f"proxy_pass http://{host}:{port};" in CONFIGURATION.read_text()
