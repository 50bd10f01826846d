# SPDX-License-Identifier: Apache-2.0
"""An HTTP load balancer configured by etcd keys or an API."""
