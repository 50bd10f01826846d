"""The operator's commands: split first, never through a shell (trap T18)."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv4Interface

import pytest

from fairlead.errors import ActionError
from fairlead.etcd.types import KeyValue, LeaseID, Revision
from flannelpy import backends, commands
from flannelpy.backends import Host, Uplink
from flannelpy.commands import Command, Commands
from flannelpy.fields import FieldError
from flannelpy.plan import Delete, Put
from flannelpy.records import decode_lease, encode_attributes, parse_config

UPLINK = Uplink("eth0", 2, 1500, IPv4Interface("192.0.2.1/24"), None, IPv4Address("198.51.100.1"))


def backend(fields, prepared=None):
    config = parse_config(
        f'{{"Network":"10.5.0.0/16","Backend":{{"Type":"extension",{fields}}}}}'.encode()
    )
    return backends.build(Host(config, UPLINK, prepared=prepared))


def lease(data):
    value = f'{{"PublicIP":"192.0.2.2","BackendType":"extension","BackendData":{data}}}'.encode()
    return decode_lease(
        KeyValue(b"/x/subnets/10.5.2.0-24", value, Revision(1), Revision(1), 1, LeaseID(0))
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ip route add $SUBNET via ${PUBLIC_IP}", ["ip", "route", "add", "10.5.2.0/24", "via", "192.0.2.2; x"]),
        ("sh -c 'echo \"$SUBNET\"'", ["sh", "-c", 'echo "10.5.2.0/24"']),
        ("echo a;b && $(c) $MISSING.", ["echo", "a;b", "&&", "$(c)", "."]),
    ],
)  # fmt: skip
def test_trap_t18_words_are_split_before_variables_are_put_in(text, words):
    environ = {"SUBNET": "10.5.2.0/24", "PUBLIC_IP": "192.0.2.2; x"}
    assert list(commands.expand(commands.split(text), environ)) == words


def test_a_peer_has_its_data_without_quotes_and_its_addresses():
    made = backend('"SubnetAddCommand":["add","a b"],"SubnetRemoveCommand":"remove \'a b\'"')
    (command,) = made.peer(lease('"key\\u003e=1"'))
    assert (command.comes, command.goes, command.data) == (
        ("add", "a b"),
        ("remove", "a b"),
        "key>=1",
    )
    assert dict(command.variables)["SUBNET"] == "10.5.2.0/24"
    (plain,) = made.peer(lease('{"Port":1}'))
    assert plain.data == '{"Port":1}'


def test_the_lease_has_what_the_first_command_wrote_and_the_public_address():
    value = encode_attributes(backend('"PreStartupCommand":"x"', "a<b").attributes())
    assert value == (
        b'{"PublicIP":"198.51.100.1","PublicIPv6":null,"BackendType":"extension",'
        b'"BackendData":"a\\u003cb"}'
    )


@pytest.mark.parametrize("bad", ['"PreStartupCommand":3', '"SubnetAddCommand":"a \'b"'])
def test_a_command_that_is_none_is_refused(bad):
    with pytest.raises(FieldError, match="Command"):
        backend(bad)


async def test_commands_run_when_things_come_and_go(tmp_path):
    log = tmp_path / "log"
    write = "import os,sys; open(sys.argv[1],'a').write(sys.argv[2]+os.environ['SUBNET']+sys.stdin.read())"

    def command(data):
        run = (sys.executable, "-c", write, str(log))
        return Command("10.5.2.0/24", (*run, "+"), (*run, "-"), (("SUBNET", "10.5.2.0/24"),), data)

    part, one, two = Commands(), command("one"), command("two")
    assert await part.carry_out([Put(one)]) == []
    assert await part.observe(None) == [one]
    assert await part.carry_out([Put(two, one)]) == []
    assert await part.carry_out([Delete(two)]) == []
    assert await part.observe([two.key]) == []
    assert log.read_text().split() == [
        "+10.5.2.0/24one", "-10.5.2.0/24one", "+10.5.2.0/24two", "-10.5.2.0/24two",
    ]  # fmt: skip
    (refused,) = await part.carry_out([Put(Command("x", ("/nonexistent",)))])
    assert isinstance(refused, ActionError)
    assert not refused.transient
