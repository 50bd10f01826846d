# SPDX-License-Identifier: Apache-2.0
"""One question to etcd about a lease does for all workers, for a while."""

from skydns.team import Leases


class Etcd:
    def __init__(self):
        self.asked, self.now, self.left = [], 0.0, 60.0

    async def ask(self, lease):
        self.asked.append(lease)
        return self.left, 90.0


async def test_what_etcd_said_is_counted_down_and_asked_for_again():
    etcd = Etcd()
    leases = Leases(etcd.ask, lambda: etcd.now)
    assert await leases.times(7) == (60.0, 90.0)
    etcd.now = 4.0
    assert await leases.times(7) == (56.0, 90.0)
    assert etcd.asked == [7]
    assert await leases.times(8) == (60.0, 90.0)
    etcd.now = 5.0
    assert await leases.times(7) == (60.0, 90.0)
    assert etcd.asked == [7, 8, 7]


async def test_a_lease_that_is_gone_or_ran_out_is_asked_for_each_time():
    etcd = Etcd()
    leases = Leases(etcd.ask, lambda: etcd.now)
    etcd.left = -1.0
    assert await leases.times(7) == (-1.0, 90.0)
    etcd.left = 2.0
    assert await leases.times(7) == (2.0, 90.0)
    etcd.now = 3.0
    await leases.times(7)
    assert etcd.asked == [7, 7, 7]
