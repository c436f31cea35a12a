-- wrk's side of closed.py: one POST again and again, and the result as a line of JSON.
--   wrk ... -s closed.lua URL -- CONTENT_TYPE ACCEPT BODY_FILE FORM [NAME VALUE]...
-- If FORM is "lines", each line of BODY_FILE is the body of a POST of its own, and they take turns. Names and values are
-- those of more headers.
function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = args[1]
  wrk.headers["Accept"] = args[2]
  for index = 5, #args, 2 do
    wrk.headers[args[index]] = args[index + 1]
  end
  if args[4] == "lines" then
    local requests, sent = {}, 0
    for line in io.lines(args[3]) do
      requests[#requests + 1] = wrk.format(nil, nil, nil, line)
    end
    function request()
      sent = sent + 1
      return requests[sent % #requests + 1]
    end
  else
    local file = assert(io.open(args[3], "rb"))
    wrk.body = file:read("*a")
    file:close()
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"p50":%d,"p90":%d,"p99":%d,"max":%d,"non_2xx":%d,"broken":%d,"timeouts":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
