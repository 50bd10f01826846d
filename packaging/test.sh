#!/usr/bin/env bash
# All tests, in about half the time that they would take one after the other: those that mostly wait
# for etcd's own timeouts run beside the rest, and after them the loopback tests once more
# on asyncio's own loop (uvloop is optional at run time). Ends with pytest's closing lines.
set -uo pipefail
cd "$(dirname "$0")/.."
pytest=(.venv/bin/python -m pytest)
waiting=(tests/integration/etcd/test_faults.py tests/integration/estate/test_faults.py)
loopback=(tests/integration/{life,skydns,confd,lb,register} tests/integration/estate/test_status.py)

logs=$(mktemp -d)
beside=
stop() {
  [[ -z $beside ]] || kill "$beside" 2>/dev/null
  rm -rf "$logs"
}
trap stop EXIT
trap 'exit 130' INT TERM

run_beside() {
  trap 'kill $(jobs -p) 2>/dev/null' TERM
  local status=0
  "${pytest[@]}" "${waiting[@]}" & wait $! || status=1
  echo "== without uvloop"
  FAIRLEAD_UVLOOP=0 "${pytest[@]}" "${loopback[@]}" & wait $! || status=1
  return $status
}

run_beside >"$logs/beside" 2>&1 &
beside=$!
"${pytest[@]}" tests "${waiting[@]/#/--ignore=}" 2>&1 | tee "$logs/main"
main=${PIPESTATUS[0]}
wait "$beside"
others=$?
beside=
echo "== beside: ${waiting[*]}"
cat "$logs/beside"
echo "== the rest, as above"
tail -n 1 "$logs/main"
exit $((main || others))
