# SPDX-License-Identifier: Apache-2.0
"""One malformed key of each kind under each prefix costs itself only, and is named."""

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(150)]

MALFORMED = {
    "skydns": {
        "/skydns/org/example/bad/json": "{not json",
        "/skydns/org/example/bad/type": '{"host":"10.1.1.9","port":"eighty"}',
        "/skydns/org/example/bad/array": "[1]",
        "/skydns/config": '{"ttl":"long"}',
    },
    "vulcand": {
        "/vulcand/hosts/bad.example.org/host": "{not json",
        "/vulcand/listeners/bad": '{"Protocol":7}',
        "/vulcand/backends/bad/backend": '{"Type":"smtp"}',
        "/vulcand/backends/w1/servers/bad": '{"URL":"::not a url"}',
        "/vulcand/frontends/bad/frontend": '{"Type":"http","BackendId":"w1","Route":"Path(`/x"}',
        "/vulcand/frontends/w1/middlewares/bad": '{"Type":"rewrite","Middleware":"many"}',
    },
    "flanneld": {
        "/coreos.com/network/config": '{"Network":"10.5.0.0/16","SubnetLen":"24"}',
        "/coreos.com/network/subnets/hello": "{}",
        "/coreos.com/network/subnets/10.5.77.0-24": "{not json",
        "/coreos.com/network/subnets/10.5.78.0-99": '{"PublicIP":"192.0.2.78"}',
        "/coreos.com/network/subnets/10.5.79.0-24": '{"PublicIP":"192.0.2.300"}',
    },
}


async def test_each_costs_itself_only_and_is_named(make_estate):
    async with make_estate() as it:
        for name, keys in MALFORMED.items():
            if name not in it.daemons:
                continue
            for key, value in keys.items():
                await it.put(key, value)
        await it.write(4)  # after the bad ones: they hold nothing up
        await it.until(it.wanted(1, 2, 3, 4))
        _, out = await it.fairlead("status")
        for name, keys in MALFORMED.items():
            if name not in it.daemons:
                continue
            daemon = it.daemons[name]
            for key in keys:
                told = [x for x in daemon.log.splitlines() if f"key={key} " in x]
                assert any('msg="record rejected"' in x for x in told), (key, daemon.log)
                assert f'{name}: key "{key}" at revision ' in out, (key, out)
            assert daemon.metric("fairlead_records_rejected_total") == len(keys)
            (row,) = [line.split() for line in out.splitlines() if line.split()[0] == name]
            assert row[2] == "yes"
            assert int(row[7]) == len(keys)
        # mended by whoever wrote them: nothing is rejected any more
        for name, keys in MALFORMED.items():
            for key in keys if name in it.daemons else ():
                await it.ctl("del", key)
        await it.put("/coreos.com/network/config", '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}')  # fmt: skip

        def all_good():
            told = [daemon.page("/status") for daemon in it.daemons.values()]
            return not any(r["rejected_total"] for one in told for r in one["records"])

        await it.claim(all_good)
        await it.until(it.wanted(1, 2, 3, 4))


async def test_a_value_that_a_template_can_not_read_costs_its_file_only(make_estate):
    """confd's keys have no form of their own: the template that reads one is its judge."""
    async with make_estate() as it:
        confd = it.daemons["confd"]
        assert it.strict.read_text() == "strict\n"
        await it.put("/services/strict", "{not json")
        await it.write(4)
        await it.until(it.wanted(1, 2, 3, 4))
        assert it.strict.read_text() == "strict\n"  # its last good content stays
        await it.claim(lambda: "strict" in confd.log)
        conditions = {c["name"]: c for c in confd.page("/status")["conditions"]}
        assert not conditions["in-sync"]["holds"]
        assert any("ERROR" in x and '"/services/strict"' in x for x in confd.log.splitlines()), (
            confd.log
        )
        _, out = await it.fairlead("status")
        assert 'executing "strict.tmpl" at <json (getv "/services/strict")>' in " ".join(
            out.split()
        )
        failed = [
            x
            for x in confd.page("/metrics").splitlines()
            if 'actions_total{action="Report",result="failed"' in x
        ]
        assert failed, confd.page("/metrics")
        await it.put("/services/strict", {"name": "mended"})
        await it.claim(lambda: it.strict.read_text() == "mended\n")
