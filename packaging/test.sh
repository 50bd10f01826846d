#!/usr/bin/env bash
# All tests but tests/vm (`make vm`), in about half the time that they would take one after the
# other: two lanes, and in the second the loopback tests once more on asyncio's own loop (uvloop is
# optional at run time). What fails beside the other lane is run once more alone, and said so:
# many tests wait for real programs, and two cores are few. Ends with pytest's closing lines.
set -uo pipefail
cd "$(dirname "$0")/.."
pytest=(.venv/bin/python -m pytest)
beside=(tests/contract tests/integration/{demo,etcd,estate})
loopback=(tests/integration/{life,skydns,confd,lb,register} tests/integration/estate/test_status.py)

logs=$(mktemp -d)
lane=
stop() {
  [[ -z $lane ]] || kill "$lane" 2>/dev/null
  rm -rf "$logs"
}
trap stop EXIT
trap 'exit 130' INT TERM

second_lane() {
  trap 'kill $(jobs -p) 2>/dev/null' TERM
  local status=0
  "${pytest[@]}" -o cache_dir="$logs/cache-beside" "${beside[@]}" & wait $! || status=1
  echo "== without uvloop"
  FAIRLEAD_UVLOOP=0 "${pytest[@]}" -o cache_dir="$logs/cache-asyncio" "${loopback[@]}" & wait $! || status=$((status | 2))
  return $status
}

second_lane >"$logs/beside" 2>&1 &
lane=$!
"${pytest[@]}" -o cache_dir="$logs/cache-main" tests --ignore=tests/vm "${beside[@]/#/--ignore=}" 2>&1 | tee "$logs/main"
main=${PIPESTATUS[0]}
wait "$lane"
others=$?
lane=
echo "== beside: ${beside[*]}"
cat "$logs/beside"
if ((main > 1 || others > 3)); then
  exit 1 # interrupted, or nothing was collected: not a matter of a second try
fi

failed=0
again() { # LANE UVLOOP PATH…
  echo "== once more, alone: what failed in the lane $1"
  FAIRLEAD_UVLOOP=$2 "${pytest[@]}" -o cache_dir="$logs/cache-$1" --last-failed --last-failed-no-failures=none "${@:3}" || failed=1
}
((others & 1)) && again beside 1 "${beside[@]}"
((others & 2)) && again asyncio 0 "${loopback[@]}"
((main)) && again main 1 tests --ignore=tests/vm "${beside[@]/#/--ignore=}"
((main)) || echo "== the rest, as above"
((main)) || tail -n 1 "$logs/main"
exit $failed
