# SPDX-License-Identifier: Apache-2.0
"""lb/vctl, lb/cli.py: words, tables, refusals by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from fairlead.errors import ConfigErrors
from fairlead.flags import UsageError
from lb import config, settings
from lb.vctl import main, views


def configure(*argv: str) -> config.Config:
    return config.configure(settings.SETTINGS.parse(argv, {}))


def test_flags_become_config() -> None:
    config = configure(
        "-etcd", "a:1,b:2", "-etcd=c:3", "--etcdKey", "/x/", "-port=80", "-interface", "::1"
    )
    assert config.etcd.endpoints == ("a:1", "b:2", "c:3")
    assert config.roots == ("/x",)
    assert config.listen == "[::1]:80"
    assert str(configure().etcd.parsed()[0]) == "http://127.0.0.1:2379"
    secure = configure("-etcdInsecureSkipVerify")
    assert (str(secure.etcd.parsed()[0]), secure.warnings) == ("https://127.0.0.1:2379", ())
    assert "no endpoint" in configure("-etcdInsecureSkipVerify", "-etcd=http://a").warnings[0]
    assert configure().roots == ("/vulcand", "vulcand")
    assert configure("-default-listener=false").listen is None
    assert configure("-readTimeout", "7s").endpoint_read_timeout == 7.0
    assert configure("-endpointReadTimeout=3s").endpoint_read_timeout == 3.0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-etcdApiVer", "2"], "v3"),
        (["-engine=zap"], "neither etcd nor memng"),
        (["-sealKey", "00"], "wrong key length: 1"),
        (["-statsdAddr", "x"], "host:port"),
        (["-port", "99999"], "65535"),
        (["-logSeverity", "loud"], "none of"),
        (["-serverReadTimeout", "0s"], "positive"),
        (["-prot", "80"], "prot"),
        (["-etcdCertFile", "x"], '-etcdCertFile "x": needs -etcdKeyFile beside it'),
        (["-etcdCaFile", "/none"], '-etcdCaFile "/none": cannot be used: no such file'),
        (["-acmeCA", "/none"], '-acmeCA "/none": cannot be used: no such file'),
        (["-apiCert", "/none", "-apiKey", "/none"], '-apiCert "/none": cannot be used: no such'),
    ],
)
def test_flags_refused_by_name(argv: list[str], words: str) -> None:
    with pytest.raises((ConfigErrors, UsageError)) as caught:
        configure(*argv)
    assert words in str(caught.value)


def test_table() -> None:
    text = views.section(
        "Servers", [{"Id": "s1", "URL": "http://a"}, {"Id": "longer", "URL": "\x1b[2J"}]
    )
    assert text == "\n[Servers]\nId         URL\ns1         http://a\nlonger     \\x1b[2J\n"


def test_verdict_has_colour_on_a_terminal_only() -> None:
    assert views.verdict("x", good=True, colour=False) == "OK: x"
    assert views.verdict("x", good=False, colour=True) == "\x1b[31mERROR\x1b[0m: x"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-cert", "x.pem"], "-cert and -privateKey go together"),
        (["-cert", "x.pem", "-privateKey", "/none"], "/none: No such file"),
        (["-autoCertEmail", "a@b.org"], "-autoCertEmail goes with -autoCert"),
        (["-autoCert", "-autoCertKeyFile", "/none"], "/none: No such file"),
    ],
)
def test_a_hosts_flags_are_refused_by_name(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["host", "upsert", "-name", "a.example.org", *words]) == 1
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["fronted", "ls"], 'did you mean "frontend"?'),
        (["frontend"], "a verb is wanted"),
        (["frontend", "lst"], "vctl frontend upsert "),
        (["frontend", "ls", "-zap"], "zap"),
        (["frontend", "ls", "zap"], 'unexpected "zap"'),
        (["--vulcan"], "needs an argument"),
        ([], "usage"),
    ],
)
def test_wrong_lines(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 2
    assert hint in capsys.readouterr().err


class _Api(BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str, object]]] = []
    answer: ClassVar[tuple[int, object]] = (200, {})

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.command, self.path, json.loads(body) if body else None))
        raw = json.dumps(self.answer[1]).encode()
        self.send_response(self.answer[0])
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_DELETE = _any

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Api)
    _Api.seen, _Api.answer = [], (200, {})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_upsert_and_remove(api: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main.main(
            [
                "server",
                "upsert",
                "-id",
                "s 1",
                "-b=b/1",
                "--url",
                "http://a",
                "-ttl",
                "5s",
                "--vulcan",
                api,
            ]
        )
        == 0
    )
    method, path, body = _Api.seen[0]
    assert (method, path) == ("POST", "/v2/backends/b%2F1/servers")
    assert body == {"Server": {"Id": "s 1", "URL": "http://a"}, "TTL": "5s"}
    assert capsys.readouterr().out == "OK: server upserted\n"
    assert main.main([f"--vulcan={api}", "server", "rm", "-id", "s1", "-b", "b"]) == 0
    assert capsys.readouterr().out == "OK: Server s1 deleted\n"


def test_v14_an_api_error_is_status_1(api: str, capsys: pytest.CaptureFixture[str]) -> None:
    _Api.answer = (404, {"message": "Key not found"})
    assert main.main(["--vulcan", api, "backend", "show", "-id", "x"]) == 1
    assert capsys.readouterr().out == "ERROR: Key not found\n"
    assert main.main(["--vulcan", api, "backend", "rm", "-id", "x", "--ignore-missing"]) == 0


def test_fields_without_a_flag(api: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--vulcan", api, "frontend", "upsert", "-id", "f", "-b", "b", "-route", "Path(`/`)"]
    more = ["-priority", "3", "-share", "f0/rl", "-settings", '{"Stream":true,"Timeouts":{"Read":"1s"}}']  # fmt: skip
    assert main.main([*line, *more]) == 0
    frontend = _Api.seen[-1][2]["Frontend"]  # type: ignore[index]
    assert (frontend["Priority"], frontend["Middlewares"]) == (3, ["f0/rl"])
    assert frontend["Settings"]["Stream"] is True  # instead of what the flag says
    assert frontend["Settings"]["Timeouts"] == {"Read": "1s"}
    assert "Limits" in frontend["Settings"]
    server = ["--vulcan", api, "server", "upsert", "-id", "s", "-b", "b", "-url", "http://a"]
    assert main.main([*server, "-draining", "-maxConns", "5"]) == 0
    assert _Api.seen[-1][2]["Server"] == {  # type: ignore[index]
        "Id": "s", "URL": "http://a", "Draining": True, "MaxConns": 5,
    }  # fmt: skip
    capsys.readouterr()
    assert main.main([*line, "-settings", "{"]) == 1
    assert "-settings" in capsys.readouterr().out
