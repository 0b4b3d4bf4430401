import socket

import pytest

from limner.core.errors import UserError
from limner.judging.wire import HEALTH
from limner.rewards.jpeg_size import jpeg_size
from limner.serve import host
from limner.serve.host import listen, serve
from serving import hosted


@pytest.mark.parametrize("name", ["127.0.0.1", "127.8.8.8", "localhost"])
def test_loopback_needs_no_token(name: str) -> None:
    with listen(name, 0, "") as listener:
        assert listener.getsockname()[0].startswith("127.")


@pytest.mark.parametrize("name", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", "127.0.0.1.example.org"])
def test_beyond_loopback_a_token_is_asked_for(name: str) -> None:
    with pytest.raises(UserError, match="can be reached from other machines: give a token"):
        listen(name, 0, "")


def test_with_a_token_it_listens_everywhere() -> None:
    with listen("0.0.0.0", 0, "s3cret") as listener:
        assert listener.getsockname()[0] == "0.0.0.0"
    with pytest.raises(UserError, match="printable ASCII without spaces"):
        listen("0.0.0.0", 0, "two words\n")


def test_a_taken_or_impossible_port_is_named() -> None:
    with listen("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen at 127.0.0.1 port {port}: .*; choose another with --port"):
            listen("127.0.0.1", port, "")
    with pytest.raises(UserError, match="port 70000"):
        listen("127.0.0.1", 70000, "")


def test_serve_says_where_and_hosts_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Server:
        def run(self, sockets: list[socket.socket]) -> None:
            with socket.create_connection(sockets[0].getsockname(), timeout=1):
                ports.append(sockets[0].getsockname()[1])

    ports: list[int] = []
    monkeypatch.setattr(host, "server", lambda application: Server())
    serve(jpeg_size, "jpeg_size", port=0)
    assert capsys.readouterr().out == f"jpeg_size at http://127.0.0.1:{ports[0]} (Ctrl-C ends it)\n"


def test_a_real_server_answers_and_says_nothing_of_itself() -> None:
    with hosted(jpeg_size) as url, socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
        client.sendall(f"GET {HEALTH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200") and b"uvicorn" not in answer.lower() and answer.endswith(b'{"ok":true}')
