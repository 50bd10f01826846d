# SPDX-License-Identifier: Apache-2.0
"""A DNS server that answers from service records in etcd."""
