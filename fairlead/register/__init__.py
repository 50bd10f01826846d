# SPDX-License-Identifier: Apache-2.0
"""`fairlead register … -- COMMAND`: keys stand in etcd while a command runs and is well.

::

    settings ─► keys ─► {key: value}                      what SkyDNS, vulcand and templates read
    check ─► Health ─► announce ⇄ withdraw                one lease for all keys: granted, revoked
    COMMAND ─► exit status ─► withdraw, end with the same status

All keys hang on one lease (`fairlead.etcd.lease`): while it is kept alive they stand; a lost one is
granted again and the keys come back by themselves; when the host dies etcd removes them all in one
revision at the end of the TTL.
"""
