# SPDX-License-Identifier: Apache-2.0
import socket
import stat
from pathlib import Path

import pytest

from fairlead import admin
from fairlead.ask import ask, sockets
from fairlead.errors import ConfigErrors


def test_two_instances_of_one_program_coexist(tmp_path: Path) -> None:
    first, where = admin.bind_unix(tmp_path / "tiny.sock", other=tmp_path / "tiny-1.sock")
    second, elsewhere = admin.bind_unix(tmp_path / "tiny.sock", other=tmp_path / "tiny-2.sock")
    with first, second:
        assert (where.name, elsewhere.name) == ("tiny.sock", "tiny-2.sock")
        assert stat.S_IMODE(where.stat().st_mode) == 0o600
        assert sockets([tmp_path]) == (elsewhere, where)


def test_a_socket_in_use_is_refused_by_name(tmp_path: Path) -> None:
    first, path = admin.bind_unix(tmp_path / "tiny.sock")
    with first, pytest.raises(ConfigErrors, match="in use by another process"):
        admin.bind_unix(path)


def test_a_dead_processs_socket_is_replaced(tmp_path: Path) -> None:
    first, path = admin.bind_unix(tmp_path / "tiny.sock")
    first.close()
    second, again = admin.bind_unix(path)
    with second:
        assert again == path


def test_a_file_that_is_no_socket_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "tiny.sock").write_text("precious")
    with pytest.raises(ConfigErrors):
        admin.bind_unix(tmp_path / "tiny.sock")
    assert (tmp_path / "tiny.sock").read_text() == "precious"


def test_where_sockets_are() -> None:
    assert admin.runtime_dir({"XDG_RUNTIME_DIR": "/run/user/7"}, 0) == Path("/run/fairlead")
    assert admin.runtime_dir({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == Path("/run/user/7/fairlead")
    assert admin.runtime_dir({}, 7) is None


async def _page(path: Path, request: bytes) -> bytes:
    import asyncio

    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_pages(tmp_path: Path) -> None:
    faults: list[str] = []

    def broken() -> admin.Answer:
        raise KeyError("x")

    routes: dict[tuple[str, str], admin.Route] = {
        ("GET", "/a"): lambda: admin.text(200, "a"),
        ("POST", "/b"): lambda: admin.as_json({"k": b"\xff", "s": {1}}),
        ("GET", "/broken"): broken,
    }
    listener = admin.Listener(routes, failed=lambda path, error: faults.append(path))
    sock, path = admin.bind_unix(tmp_path / "s.sock")
    await listener.listen_unix(sock, path)
    try:
        assert (await _page(path, b"GET /a?x=1 HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\na\n")
        assert (await _page(path, b"HEAD /a HTTP/1.1\r\n\r\n")).endswith(b"close\r\n\r\n")
        assert b'"\\\\xff"' in await _page(path, b"POST /b HTTP/1.1\r\n\r\n")
        assert (await _page(path, b"POST /a HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
        assert (await _page(path, b"GET /c HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        assert (await _page(path, b"rubbish\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        assert (await _page(path, b"GET /broken HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
        assert faults == ["/broken"]
    finally:
        await listener.aclose()
    assert not path.exists()


def test_a_daemon_that_is_gone_is_told_in_words(tmp_path: Path) -> None:
    assert "cannot be asked" in ask(tmp_path / "none.sock", "/status").error
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "dead.sock"))
    assert "not running" in ask(tmp_path / "dead.sock", "/status").error
