"""What a hostile connection is made of: good requests in every framing that HTTP/1.1 has, and broken ones."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from tests.hostile.questions import CHANGING, HIDDEN, METHODS, MOST_HEAD, PAGES, QUESTIONS, TAGGED, Question

_ACCEPTS: Final = (
    [b"*/*"],
    [b"application/json"],
    [b"text/html;q=0.1", b"application/json"],
    [b"text/html"],
    [b"text/html;q=0.9, image/webp, */*;q=0.8"],
    [b"text/html;q=0.1"] * 40 + [b"application/json"],
)
_CONNECTIONS: Final = (
    *(b"keep-alive", b"Keep-Alive", b"close", b"Close", b"keep-alive, close", b"closed", b"x-close", b"TE, foo"),
    *(b"", b",", b"Upgrade", b"upgrade, HTTP2-Settings", b"Upgrade, close"),
)
_EXTENSIONS: Final = (b";a", b";a=b", b';a="b c"', b';a="\\""', b";a=b;c;d=e", b" ;a=b", b"; a = b")
_TRAILERS: Final = (
    *(b"X-Checksum: 1", b"Connection: close", b"Host: other", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    *(b"Upgrade: x", b"Connection: upgrade", b"X-Request-ID: trailing", b"Empty:"),
)
_TRAPS: Final = (
    # Names that must not be taken for others', and values that look like framing.
    *(b"X-Content-Length: 5", b"Content-Length-X: 5", b"Transfer-Encodin: chunked", b"X-Host: a", b"Cookie: a=b"),
    *(b"X: Content-Length: 5", b"X:\tTransfer-Encoding: chunked", b"X: \xff\x80", b"X:", b"TE: trailers"),
    *(
        b"Content_Length: 5",
        b"Trailer: Content-Length",
        b"Keep-Alive: timeout=5",
        b"Via: 1.0 a, 1.1 b",
        b"Max-Forwards: 0",
    ),
)
_BYTES: Final = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\xff",
    b"\x7f",
    b"0",
    b"%",
    b"#",
    b";",
    b"-",
)

# Field lines of a POST that is framed otherwise than it may be.
_FRAMINGS: Final = (
    *([b"Content-Length: %d"] * 2, [b"Content-Length: 0", b"Content-Length: %d"], [b"Content-Length: %d, %d"]),
    *([b"Content-Length: +%d"], [b"Content-Length: -%d"], [b"Content-Length: 0x%x"], [b"Content-Length: %d "]),
    *([b"Content-Length: "], [b"Content-Length: %d.0"], [b"Content-Length: 1%d" + b"0" * 30], [b"Content-Length : %d"]),
    *([b"Content-Length: %d", b"Transfer-Encoding: chunked"], [b"Transfer-Encoding: chunked", b"Content-Length: %d"]),
    *(
        [b"Transfer-Encoding: chunked"] * 2,
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, gzip"],
    ),
    *([b"Transfer-Encoding: identity"], [b"Transfer-Encoding: xchunked"], [b"Transfer-Encoding : chunked"]),
    *([b"Transfer-Encoding:\x0bchunked"], [b"Transfer-Encoding: chunked\0"], [b'Transfer-Encoding: "chunked"']),
    *(
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding:", b"Content-Length: %d"],
        [b" Content-Length: %d"],
    ),
    *([b"X: a\r\n b", b"Content-Length: %d"], [b"X: a\nContent-Length: %d"], [b"X: a\rContent-Length: %d"]),
    *([b"Content-Length: %d\r"], [b"Content-Length\0: %d"], [b"Transfer-Encoding: chunked;a=b"], [b"\tX: y"]),
    *([b"Transfer-Encoding: CHUNKED"], [b"Transfer-Encoding:chunked \t"], [b"Content-Length: 00000%d"], [b": %d"]),
    *(
        [b"Transfer\xad-Encoding: chunked"],
        [b"Transfer_Encoding: chunked"],
        [b"nonsense"],
        [b"Content-Length: 99999999"],
    ),
)
_CHUNKS: Final = (
    *(
        b"zz\r\n",
        b"-1\r\n",
        b"+2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2\n{}\r\n0\r\n\r\n",
        b"2\r\n{}x\r\n0\r\n\r\n",
    ),
    *(
        b"2\r\n{}\n0\r\n\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"f" * 17 + b"\r\n",
        b"f" * 16 + b"\r\n{}",
        b"\r\n",
        b"2\r\n{}\r\n\r\n0\r\n\r\n",
    ),
    *(
        b"2\r{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\n\r\n",
        b"2\r\n{}\r\n0\r\n\n",
        b"2\r\n{}\r\n0\r\nX\r\n\r\n",
        b"2;\0\r\n{}\r\n0\r\n\r\n",
    ),
    *(
        b"2;a=\n\r\n{}\r\n0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b" 2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n X: y\r\n\r\n",
    ),
    *(b"2;" + b"x" * 50_000 + b"\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\n" + b"X-1: y\r\n" * 10_000 + b"\r\n"),
    *(b"2\r\n{}\r\n0\r\n" + b"X: " + b"y" * 60_000, b"0" * 50_000 + b"2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n00\r\n\r\n"),
)
_LINES: Final = (
    *(b"GET /livez HTTP/9.9", b"GET /livez HTTP/2.0", b"GET /livez HTTP/1.2", b"GET /livez HTTP/0.9", b"GET /livez"),
    *(
        b"GET /livez http/1.1",
        b"GET /livez HTTP/1.1 ",
        b"GET /livez HTTP/11",
        b"GET /livez HTTP/1.10",
        b"GET  /livez HTTP/1.1",
    ),
    *(
        b"GET /livez  HTTP/1.1",
        b" GET /livez HTTP/1.1",
        b"GET\t/livez\tHTTP/1.1",
        b"GET /livez\tx HTTP/1.1",
        b"GET /a b HTTP/1.1",
    ),
    *(
        b"get /livez HTTP/1.1",
        b"BREW /encode HTTP/1.1",
        b"GET livez HTTP/1.1",
        b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
    ),
    *(b"CONNECT localhost:1 HTTP/1.1", b"CONNECT /encode HTTP/1.1", b"GET /livez#x HTTP/1.1", b"GET /\0 HTTP/1.1"),
    *(b"GET /\xff HTTP/1.1", b'GET /"<>^` HTTP/1.1', b"GET http:// HTTP/1.1", b"GET http://[/livez HTTP/1.1"),
    *(b"GET ftp://a/livez HTTP/1.1", b"GET //livez HTTP/1.1", b"GET http://a?x HTTP/1.1", b"GET http://a HTTP/1.1"),
    *(b"PRI * HTTP/2.0", b"G\0T /livez HTTP/1.1", b"GET /livez XTTP/1.1", b"GET /livez HTTP 1.1", b"GET", b"", b"\xff"),
    *(b"GET http://a:99999999/livez HTTP/1.1", b"GET http://a@b/livez HTTP/1.1", b"QUERY /livez HTTP/1.1"),
)
_GARBAGE: Final = (
    *(
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    ),
    *(
        bytes(1000),
        b"\r\n" * 1000 + b"x\r\n\r\n",
        b"\n\n\n",
        b"\r\r\n",
        b"garbage\r\n\r\n",
        b"{}",
        HIDDEN[:20],
        b"\r\n" * 20_000,
    ),
)


def cased(draw: Random, name: bytes) -> bytes:
    """A field's name in any letters."""
    return draw.choice((name, name, name.lower(), name.upper(), name.swapcase()))


def line_of(draw: Random, name: bytes, value: bytes) -> bytes:
    """A field line, with any white space that may be there."""
    return (
        cased(draw, name) + b":" + draw.choice((b" ", b" ", b"", b"\t", b"  ")) + value + draw.choice((b"", b"", b" "))
    )


def chunked(draw: Random, body: bytes) -> bytes:
    """A body in chunks."""
    pieces, place = [], 0
    most = draw.choice((1, 3, 100, 5_000, 100_000)) if len(body) < 500 else draw.choice((500, 5_000, 100_000))
    plain = draw.random() < 0.4
    while place < len(body):
        size = draw.randint(1, most)
        piece = body[place : place + size]
        place += size
        digits = b"%x" % len(piece)
        if not plain:
            digits = draw.choice((digits, digits.upper(), b"000" + digits))
            digits += draw.choice(_EXTENSIONS[:5]) if draw.random() < 0.2 else b""
            digits += draw.choice(_EXTENSIONS) if draw.random() < 0.005 else b""
        pieces.append(b"%b\r\n%b\r\n" % (digits, piece))
    trailers = [draw.choice(_TRAILERS) for _ in range(draw.choice((0, 0, 0, 1, 3)))]
    return b"".join(
        (*pieces, draw.choice((b"0", b"0", b"000", b"0;a=b")), b"\r\n", *[each + b"\r\n" for each in trailers], b"\r\n")
    )


_HOSTS: Final = (b"localhost", b"localhost:8000", b"127.0.0.1", b"[::1]:1", b"", b"a_b.example:")
_NO_HOSTS: Final = (b"a b", b"a/b", b"a@b", b"[", b"a?b", b"\xff", b'"a"')


def lines(draw: Random, identity: bytes) -> list[bytes]:
    """Field lines that any request may have, in any order."""
    found = [line_of(draw, b"Host", draw.choice(_NO_HOSTS if draw.random() < 0.03 else _HOSTS))]
    if draw.random() < 0.7:
        found.append(line_of(draw, b"X-Request-ID", identity))
    if draw.random() < 0.2:
        value = draw.choice(_CONNECTIONS)
        found.append(line_of(draw, b"Connection", value))
        if b"pgrade" in value or draw.random() < 0.1:
            found.append(line_of(draw, b"Upgrade", draw.choice((b"h2c", b"websocket", b"x", b"TLS/1.0, HTTP/2.0"))))
    if draw.random() < 0.05:
        found.append(line_of(draw, b"Expect", draw.choice((b"100-continue", b"100-Continue", b"something"))))
    found += [draw.choice(_TRAPS) for _ in range(draw.choice((0, 0, 0, 1, 5)))]
    draw.shuffle(found)
    return found


def target_of(draw: Random, path: str) -> bytes:
    """A request's target, in any form."""
    other = "/%" + f"{ord(path[1]):02x}" + path[2:]
    forms = (path, path, path, path, other, "http://localhost" + path, "HTTP://a.example:81" + path)
    return draw.choice(forms[:6] if draw.random() < 0.9 else forms).encode()


def good(draw: Random, identity: bytes) -> bytes:
    """A request that RFC 9112 has nothing against."""
    return page(draw, identity) if draw.random() < 0.4 else verb(draw, identity)


_POSTS: Final = ("/encode", "/v1/embeddings", "/v2/models/mnist-mlp.encoder/infer", "/v2/repository/index")
_NOBODY: Final = ("/models/nobody", "/models/nobody/files/a", "/v1/models/nobody", "/v2/models/nobody.encoder")


def page(draw: Random, identity: bytes, *extra: bytes) -> bytes:
    """A request for a page, or for one that is not there."""
    path = draw.choice((*PAGES, *CHANGING, "/livez", "/livez", "/nowhere", "/encode/", "/%00", *_POSTS, *_NOBODY))
    method = draw.choice((b"GET",) * 8 + (b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"POST"))
    if METHODS.get(path) == "POST" and method == b"POST":
        method = b"PUT"
    query = draw.choice((b"", b"", b"", b"?", b"?a=b&c", b"?/?:@%20"))
    fields = lines(draw, identity) + list(extra)
    if path in TAGGED and draw.random() < 0.2:
        fields.append(line_of(draw, b"If-None-Match", draw.choice((b"*", b'"x", *', b'"x"'))))
    version = b"1.0" if draw.random() < 0.05 else b"1.1"
    body = b""
    if draw.random() < 0.2:
        body = draw.choice((b"", b"x", HIDDEN, HIDDEN * 50))
        if version == b"1.1" and draw.random() < 0.5:
            fields.append(b"Transfer-Encoding: chunked")
            body = chunked(draw, body)
        else:
            fields.append(b"Content-Length: %d" % len(body))
    return b"%b %b HTTP/%b\r\n%b\r\n\r\n%b" % (
        method,
        target_of(draw, path) + query,
        version,
        b"\r\n".join(fields),
        body,
    )


def verb(draw: Random, identity: bytes) -> bytes:
    """A POST to a verb."""
    question = draw.choice(QUESTIONS)
    if len(question.body) > 50_000 or question.path == "/sample":
        question = draw.choice(QUESTIONS)  # half as often, for they cost more
    if draw.random() < 0.3:
        return plain(question)
    fields = [*lines(draw, identity), line_of(draw, b"Content-Type", question.media_type)]
    fields += [line_of(draw, name, value) for name, value in question.fields]
    version = b"1.0" if draw.random() < 0.05 else b"1.1"
    if draw.random() < 0.2:
        fields += [line_of(draw, b"Accept", value) for value in draw.choice(_ACCEPTS)]
    body = question.body
    if version == b"1.1" and draw.random() < 0.4:
        fields.insert(draw.randint(0, len(fields)), line_of(draw, b"Transfer-Encoding", cased(draw, b"chunked")))
        body = chunked(draw, body)
    else:
        zeros = b"0" * draw.choice((0, 0, 0, 1, 30))
        fields.insert(draw.randint(0, len(fields)), line_of(draw, b"Content-Length", zeros + b"%d" % len(body)))
    head = b"POST %b HTTP/%b\r\n%b\r\n\r\n" % (target_of(draw, question.path), version, b"\r\n".join(fields))
    if draw.random() < 0.05:
        head = padded(head, draw.choice((MOST_HEAD, MOST_HEAD - 1, MOST_HEAD // 2, 9_000)))
    return draw.choice((b"",) * 9 + (b"\r\n",)) + head + body


def plain(question: Question) -> bytes:
    """A POST with the head that most clients send, always the same."""
    fields = b"".join(b"%b: %b\r\n" % field for field in question.fields)
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (
        question.path.encode(),
        question.media_type,
        fields,
        len(question.body),
        question.body,
    )


def padded(head: bytes, size: int) -> bytes:
    """A head of just this size, by one more field."""
    return head[:-2] + b"X-Pad: " + b"x" * (size - len(head) - 11) + b"\r\n\r\n"


def no_host(draw: Random, identity: bytes) -> bytes:
    fields = [each for each in lines(draw, identity) if not each.lower().startswith(b"host:")]
    fields += draw.choice(([], [b"Host: a", b"Host: a"], [b"Host: a", b"HOST: b"], [b"Host : a"], [b"Host\0: a"]))
    method = draw.choice((b"GET", b"HEAD", b"DELETE"))
    return b"%b /livez HTTP/1.%d\r\n%b\r\n\r\n" % (method, draw.random() < 0.8, b"\r\n".join(fields or [b"X: y"]))


def badly_framed(draw: Random, identity: bytes) -> bytes:
    question = draw.choice(QUESTIONS[:10])
    body = draw.choice((question.body, b"0\r\n\r\n" + HIDDEN, chunked(draw, question.body), HIDDEN))
    framing = [each % ((len(body),) * each.count(b"%")) for each in draw.choice(_FRAMINGS)]
    fields = [*lines(draw, identity), b"Content-Type: application/json"]
    place = draw.randint(0, len(fields))
    fields[place:place] = framing
    path = draw.choice((b"/encode", b"/encode", b"/%65ncode", b"/nowhere", b"/livez"))
    return b"POST %b HTTP/1.%d\r\n%b\r\n\r\n%b" % (path, draw.random() < 0.9, b"\r\n".join(fields), body + HIDDEN)


def badly_chunked(draw: Random, identity: bytes) -> bytes:
    fields = [*lines(draw, identity), b"Content-Type: application/json", b"Transfer-Encoding: chunked"]
    path = draw.choice((b"/encode", b"/encode", b"/%65ncode", b"/nowhere", b"/livez"))
    return b"POST %b HTTP/1.1\r\n%b\r\n\r\n%b" % (path, b"\r\n".join(fields), draw.choice(_CHUNKS) + HIDDEN)


def bad_line(draw: Random, identity: bytes) -> bytes:
    return b"\r\n".join((draw.choice(_LINES), *lines(draw, identity), b"", b"")) + HIDDEN


def long_head(draw: Random, identity: bytes) -> bytes:
    size = draw.choice((MOST_HEAD + 1, MOST_HEAD + 5_000, 100_000))
    head = b"\r\n".join((b"GET /livez HTTP/1.1", *lines(draw, identity), b"", b""))
    if draw.random() < 0.3:
        return head.replace(b"/livez", b"/livez?" + b"a" * size)
    return padded(head, size) if draw.random() < 0.5 else head[:-2] + b"X: y\r\n" * (size // 6) + b"\r\n"


def garbage(draw: Random, identity: bytes) -> bytes:
    return draw.choice(_GARBAGE)


def mutated(draw: Random, identity: bytes) -> bytes:
    """A good request, with a few bytes changed."""
    data = bytearray(good(draw, identity))
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        end = bytes(data).find(b"\r\n\r\n") + 4
        place = draw.randrange(end if draw.random() < 0.7 else len(data) + 1) if data else 0
        match draw.randrange(5):
            case 0:
                data[place : place + 1] = draw.choice(_BYTES)
            case 1:
                data[place:place] = draw.choice(_BYTES)
            case 2:
                del data[place : place + draw.choice((1, 1, 2, 10))]
            case 3:
                data[place : place + 1] = draw.randbytes(1)
            case _:
                data[place:place] = data[place : place + draw.randint(1, 40)]
    return bytes(data)


BAD: Final[tuple[Callable[[Random, bytes], bytes], ...]] = (
    *(no_host, badly_framed, badly_framed, badly_chunked, badly_chunked, bad_line, bad_line, long_head, garbage),
    *(mutated, mutated, mutated, mutated),
)
