-- every request gets another X-Request-Id, so that no head repeats (bench/lb.py --vary)
local n = 0
request = function()
  n = n + 1
  wrk.headers["X-Request-Id"] = string.format("7c9e6679-7425-40de-944b-%012d", n)
  return wrk.format()
end
