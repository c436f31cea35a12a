"""How fast the service serves: against the limit of its parts, and against other servers of the same model.

`python -m bench.serving` runs everything (`__main__.py`); `--help` says how. What is measured, and against what:

    traffic.py      the requests
    programs.py     which programs answer them: a bare server, this service and its variants, the peers
    peers/          the other servers, one file each, and every version they need
    venvs.py        an environment for each of those
    servers.py      start, check, account for and stop a server
    closed.py       closed loop: wrk, with closed.lua
    bare.py         a uvicorn application that does nothing, and trivial.py, a responder that is not even HTTP
    tight.py        the work itself, without a server
    rounds.py       what is measured, in which order
    report.py       Markdown of it, and whether the bars hold

The open loop, requests at their own times however late the answers, is `harness/openloop.py`: the soak uses it, too.
"""
