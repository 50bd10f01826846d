# SPDX-License-Identifier: Apache-2.0
"""What tests of Fairlead, and of programs on it, stand on.

`clock.ManualClock` turns time by hand; `etcd.fake_etcd` is the embedded store in memory, with
faults; `etcd.real_etcd` starts real etcd processes, one node or three, that can be killed and frozen.
"""
