#!/usr/bin/env bash
# Make .venv and, as root, install the Debian packages that demo and tests use.
# Idempotent: when nothing is missing it ends in well under a second and needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package pairs; a package is installed when its command (or file) is missing
demo=(etcd:etcd-server etcdctl:etcd-client nginx:nginx-light dig:bind9-dnsutils ip:iproute2 bridge:iproute2
  ping:iputils-ping)
overlay=(nft:nftables iptables:iptables ethtool:ethtool /usr/lib/cni/bridge:containernetworking-plugins
  podman:podman busybox:busybox-static wireguard-go:wireguard-go wg:wireguard-tools iperf3:iperf3
  linux.uml:user-mode-linux)
others=(curl:curl openssl:openssl systemd-analyze:systemd haproxy:haproxy unbound:unbound kdig:knot-dnsutils
  drill:ldnsutils nghttp:nghttp2-client redis-server:redis-server /usr/share/doc/php-fpm:php-fpm /usr/share/java/zookeeper.jar:zookeeper)
needed=("${demo[@]}" "${overlay[@]}" "${others[@]}")
peers=(caddy:caddy knotd:knot nsd:nsd dnsperf:dnsperf wrk:wrk cc:gcc /usr/include/stdio.h:libc6-dev)
[[ ${1:-} == peers ]] && needed+=("${peers[@]}")

python=
for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=$candidate
    break
  fi
done
if [[ -z $python ]]; then
  echo "setup: Python 3.11 or newer is needed; none found on PATH" >&2
  exit 1
fi

PATH=$PATH:/usr/sbin:/sbin
missing=()
for pair in "${needed[@]}"; do
  command -v "${pair%%:*}" >/dev/null || [[ $pair == /* && -e ${pair%%:*} ]] || missing+=("${pair#*:}")
done
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  if ((EUID == 0)) && command -v apt-get >/dev/null; then
    echo "setup: installing ${missing[*]}"
    # dpkg starts no service while this policy stands
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
      chmod +x /usr/sbin/policy-rc.d
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "setup: not installed (root needed): ${missing[*]}; the tests that use them will skip" >&2
  fi
fi

stamp=.venv/.setup
wanted=$(sha256sum pyproject.toml | cut -d' ' -f1)-$(pwd)
if [[ ! -e $stamp || $(<"$stamp") != "$wanted" ]]; then
  echo "setup: making .venv"
  [[ -x .venv/bin/python ]] || "$python" -m venv .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check -e '.[test]'
  printf '%s' "$wanted" >"$stamp"
fi
