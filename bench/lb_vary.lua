-- no head is like another (bench/lb.py --heads vary | mixed)
-- vary: one browser: path, Cookie, Referer and X-Request-Id are new in every request
-- mixed: as behind a CDN: besides, host, User-Agent and which fields there are change from one
--        request to the next on the same connection
local requests, n = {}, 0

init = function(args)
  local mixed = args[1] == "mixed"
  local usual = {}
  for name, value in pairs(wrk.headers) do usual[name] = value end
  for i = 1, 4000 do
    local headers = {}
    for name, value in pairs(usual) do headers[name] = value end
    headers["X-Request-Id"] = string.format("7c9e6679-7425-40de-944b-%012d", i)
    headers["Cookie"] = string.format("session=%032d; theme=dark", i * 7919)
    headers["Referer"] = string.format("https://www.example.org/a/page/%d", i % 500)
    if mixed then
      headers["Host"] = string.format("h%d.example.org", i % 50)
      headers["User-Agent"] = usual["User-Agent"] .. " " .. (i % 20)
      if i % 2 == 0 then headers["DNT"] = nil end
      if i % 3 == 0 then headers["Cache-Control"] = nil end
      if i % 5 == 0 then headers["Referer"] = nil end
    end
    requests[i] = wrk.format("GET", string.format("/a/path/%d?q=%d", i % 1000, i), headers)
  end
end

request = function()
  n = n % 4000 + 1
  return requests[n]
end
