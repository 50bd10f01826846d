#!/usr/bin/env bash
# All tests but tests/vm (`make vm`), then the loopback tests once more on asyncio's own loop (uvloop
# is optional at run time). A test mostly waits for real programs, so two files a core run side by
# side (a third of the time). What fails among others is run once more alone, and said so: two
# cores are few. Ends with pytest's closing lines.
set -uo pipefail
cd "$(dirname "$0")/.."
lanes=${FAIRLEAD_TEST_LANES:-$((2 * $(nproc)))}
pytest=(.venv/bin/python -m pytest)
# the longest files first
everything=(tests/netns tests/integration/{demo,estate,etcd} tests/integration tests/contract tests/compat tests/unit)
loopback=(tests/integration/{life,skydns,confd,lb,register} tests/integration/estate/test_status.py)

caches=$(mktemp -d)
trap 'rm -rf "$caches"' EXIT

run() { # NAME UVLOOP PATH…
  local cache=(-o cache_dir="$caches/$1") uvloop=$2 status
  shift 2
  FAIRLEAD_UVLOOP=$uvloop "${pytest[@]}" "${cache[@]}" --numprocesses "$lanes" --dist loadfile "$@"
  status=$?
  ((status == 1)) || return $status # 0: passed; else it did not run, and a second try is no use
  echo "== once more, alone: what failed"
  FAIRLEAD_UVLOOP=$uvloop "${pytest[@]}" "${cache[@]}" --last-failed --last-failed-no-failures=none "$@"
}

failed=0
echo "== without uvloop"
run asyncio 0 "${loopback[@]}" || failed=1
echo "== all"
run all 1 "${everything[@]}" || failed=1
exit $failed
