# SPDX-License-Identifier: Apache-2.0
"""One port for UDP and TCP."""

from types import SimpleNamespace

import pytest

from fairlead.errors import ConfigError
from skydns import sockets


@pytest.mark.parametrize(("port", "taken", "tries"), [(0, 2, 3), (0, 99, 8), (53, 1, 1)])
def test_a_port_that_is_free_for_both_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, port: int, taken: int, tries: int
) -> None:
    closed, asked = [], []

    def bound(kind, host, port):
        if kind == sockets.TCP and len(asked) <= taken:
            raise ConfigError("-addr", f"{host}:{port}", "start", "taken")
        if kind == sockets.UDP:
            asked.append(port)
        number = 1000 + len(asked)
        return SimpleNamespace(
            getsockname=lambda: (host, number), close=lambda: closed.append(number)
        )

    monkeypatch.setattr(sockets, "bound", bound)
    if taken < tries:
        udp, tcp = sockets.pair("127.0.0.1", port)
        assert udp.getsockname() == tcp.getsockname()
    else:
        with pytest.raises(ConfigError, match="taken"):
            sockets.pair("127.0.0.1", port)
    assert asked == [port] * tries
    assert len(closed) == min(taken, tries)
