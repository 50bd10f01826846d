# SPDX-License-Identifier: Apache-2.0
"""Renders templates from etcd keys and reloads programs."""
