-- For wrk: `-- N` keeps N requests in flight on each connection; the outcome is one line of JSON.
function init(args)
    if args[1] then
        local all = string.rep(wrk.format(nil), tonumber(args[1]))
        request = function() return all end
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"requests": %d, "us": %d, "p50_us": %g, "p99_us": %g, "max_us": %g, "errors": %d, "refused": %d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
        errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
