"""A strict parser of HTTP/1.1 requests (RFC 9112) that says what each must be answered: the generator's oracle.

It gets all that a client sent at once, so it is simple rather than fast, and shares no code with the service. Where the
RFC leaves a choice it has ours: CONNECT, other transfer codings and other versions are refused, HTTP/1.0 connections
close, bodies beyond a bound are 413, heads and trailers beyond theirs are 431, and after a refusal nothing is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import unquote

from tests.hostile import protocol
from tests.hostile.questions import JSON, METHODS, MOST_BODY, MOST_HEAD, STATUSES, TAGGED, TAKES, Truth

_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LINE: Final = re.compile(rb"([^ ]+) +([^ ]+) +HTTP/(\d)\.(\d)")  # several spaces: section 3 allows to read them as one
_ORIGIN: Final = re.compile(
    rb"(/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)(\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?"
)
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://[A-Za-z0-9.-]+(?::\d{1,5})?([/?].*)?")
_WORD: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = rb"\"(?:[^\"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*\""
_EXTENSIONS: Final = re.compile(rb"(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_WORD, _WORD, _QUOTED))
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]+)([ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TOKEN: Final = re.compile(_WORD)
_SAFE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_KNOWN: Final = frozenset(b"GET HEAD POST PUT DELETE OPTIONS TRACE PATCH".split())
_NO_TRAILERS: Final = frozenset((b"content-length", b"transfer-encoding", b"connection"))

_SIMPLE: Final = frozenset((b"*/*", b"text/html", b"image/webp", JSON))

Statuses = frozenset[int]
NONE: Final[Statuses] = frozenset()


@dataclass(frozen=True)
class Want:
    """What must come in answer to one request, or to what is none.

    One of `ok`, after which the connection goes on unless this is the `last`, or of `refused`, after which it closes.
    `early` are statuses of an answer that may be sent before its body broke or ended; then the connection closes
    without another answer. With `silent` it may close without any, with `may_end` after this one. `content` is the
    body of a 200, None where it is not known. `bare`: the answer to HEAD has no body. `interim`: "100 Continue" may
    come first.
    """

    ok: Statuses = NONE
    refused: Statuses = NONE
    early: Statuses = NONE
    content: bytes | None = None
    request_id: str | None = None
    last: bool = False
    silent: bool = False
    may_end: bool = False
    bare: bool = False
    interim: bool = False


@dataclass
class Verdict:
    """The answers that must come, in order. `closed`: the server closes the connection after them by itself.

    `partial`: what was sent ends in the middle of a request.
    """

    wants: list[Want] = field(default_factory=list)
    closed: bool = False
    partial: bool = False


@dataclass
class Head:
    """A request's line and fields. `faults` are the statuses that may refuse it, `doubts` those that need not."""

    method: bytes = b""
    path: str = ""
    query: bytes = b""
    version: tuple[int, int] = (1, 1)
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    faults: set[int] = field(default_factory=set)
    doubts: set[int] = field(default_factory=set)
    malformed: bool = False  # against the grammar of a line
    vague: bool = False  # its method or its target may be read in several ways

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field, in order."""
        return [value for each, value in self.fields if each == name]

    def tokens(self, name: bytes) -> list[bytes]:
        """The members of a list of tokens, in lower case."""
        return [part.strip(b" \t").lower() for value in self.values(name) for part in value.split(b",")]


class Broken(Exception):
    """A body that breaks its own framing, with the statuses that may say so."""


class Partial(Exception):
    """A body that is not here to its end."""


def judge(data: bytes, truth: Truth) -> Verdict:
    """What a client that sends `data` and then no more must be answered."""
    verdict = Verdict()
    place = 0
    while place < len(data) and not verdict.closed and not verdict.partial:
        place = _judge_next(data, place, truth, verdict)
    return verdict


def _judge_next(data: bytes, began: int, truth: Truth, verdict: Verdict) -> int:
    """Add what the request that begins here must be answered; where the next one begins."""
    place = began
    while data[place : place + 1] in (b"\r", b"\n"):  # empty lines before a request are ignored, as section 2.2 asks
        place += 1
    end = data.find(b"\r\n\r\n", place)
    if end < 0 or end + 4 - began > MOST_HEAD:
        _judge_rest(data[place : len(data) if end < 0 else end + 2], place - began, verdict)
        return len(data)
    head = read_head(data[place:end])
    identity = head.values(b"x-request-id")
    want = Want(
        request_id=identity[0].decode() if len(identity) == 1 and _SAFE_ID.fullmatch(identity[0]) else None,
        last=head.version == (1, 0) or b"close" in head.tokens(b"connection"),
        bare=data.startswith(b"HEAD ", place),
        interim=head.version == (1, 1) and b"100-continue" in head.tokens(b"expect"),
    )
    if head.method == b"PRI" and b"SM\r\n\r\n".startswith(data[end + 4 :]):  # the preface of HTTP/2 goes on after it
        verdict.wants.append(replace(want, refused=frozenset(head.faults | head.doubts), silent=True))
        verdict.partial = True
        return len(data)
    if head.faults:
        verdict.wants.append(replace(want, refused=frozenset(head.faults | head.doubts)))
        verdict.closed = True
        return len(data)
    doubts = set[int]()
    early, content = expected(head, None, truth)
    try:
        body, place = read_body(head, data, end + 4, doubts)
    except Broken as broken:
        verdict.wants.append(replace(want, refused=frozenset(broken.args[0]), early=early))
        verdict.closed = True
        return len(data)
    except Partial:
        verdict.wants.append(replace(want, refused=frozenset({400, 408}), early=early, content=content, silent=True))
        verdict.partial = True
        return len(data)
    ok, content = expected(head, body, truth)
    # A doubt that comes up in the body may come after the answer.
    may_end = bool(doubts) and bool(early)
    refused = frozenset(doubts | head.doubts)
    verdict.wants.append(replace(want, ok=ok, refused=refused, content=content, may_end=may_end))
    verdict.closed = want.last
    return place


def _judge_rest(part: bytes, skipped: int, verdict: Verdict) -> None:
    """The answer to a head that is too long, or not here to its end, and follows so many bytes of empty lines."""
    lines = part.split(b"\r\n")[:-1]
    head = read_head(b"\r\n".join(lines), partial=True) if lines else Head()
    malformed = head.malformed or re.search(rb"(?<!\r)\n|\r[^\n]|\0", part) is not None
    bare = part.startswith(b"HEAD ")
    if lines[:1] == [b"PRI * HTTP/2.0"]:
        malformed = False
    if skipped + len(part) + 2 > MOST_HEAD and (skipped + len(part) > MOST_HEAD or part.endswith(b"\r\n")):
        malformed = malformed or part.startswith(b" ")  # which begins no method
        others = {400, 405, 414, 501, 505} if malformed or head.faults or head.doubts else {414}
        verdict.wants.append(Want(refused=frozenset({431} | others), bare=bare))
        verdict.closed = True
    elif part:
        verdict.wants.append(Want(refused=frozenset({400, 408, 501, 505}), silent=not malformed, bare=bare))
        verdict.partial = True


def read_head(data: bytes, *, partial: bool = False) -> Head:
    """A head without its last empty line. A `partial` one is only searched for what is wrong in what is here."""
    head = Head()
    first, *lines = data.split(b"\r\n")
    _read_line(head, first)
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if line.endswith(b"\t"):
            head.doubts.add(400)  # white space after a value, but few expect a tab there
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            head.faults.add(400)  # obs-fold, too
            head.malformed = True
        head.fields.append((name.lower(), value))
    hosts = head.values(b"host")
    if len(hosts) > 1 or (not hosts and head.version == (1, 1) and not partial):
        head.faults.add(400)
    if any(not _is_host(each) for each in hosts):
        head.faults.add(400)
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if len(lengths) > 1 or any(not re.fullmatch(rb"\d+", each) or int(each) >= 2**64 for each in lengths):
        head.faults.add(400)
    if codings and lengths:
        head.faults.add(400)
    if codings and [each.lower() for each in codings] != [b"chunked"]:
        head.faults |= {400, 501}
    if codings and head.version == (1, 0):
        head.doubts.add(400)
    return head


def _is_host(value: bytes) -> bool:
    """Whether this is what RFC 3986, section 3.2.2, allows as a host, with or without a port."""
    if value.startswith(b"["):
        host, bracket, port = value[1:].partition(b"]")
        host = host.partition(b"%25")[0]
        if not (bracket and host) or host.strip(b"0123456789abcdefABCDEF:.") or (port and not port.startswith(b":")):
            return False
        port = port[1:]
    else:
        host, _, port = value.partition(b":")
        plain = re.sub(rb"%[0-9a-fA-F][0-9a-fA-F]", b"", host)
        if any(
            not chr(each).isascii() or not (chr(each).isalnum() or chr(each) in "-._~!$&'()*+,;=") for each in plain
        ):
            return False
    return port.isdigit() or not port


def _read_line(head: Head, line: bytes) -> None:
    found = _LINE.fullmatch(line)
    if found is None or not _TOKEN.fullmatch(found[1]) or re.search(rb"[\x00-\x20\x7f#]", found[2]):
        head.faults |= {400, 501, 505}
        # A parser gets later to a fragment, and waits for the end of a head without a version, or of HTTP/2's preface.
        head.malformed = b"#" not in line and re.fullmatch(rb"[A-Z]+ +[!-~]+", line) is None
        return
    if b"  " in line:
        head.doubts.add(400)
    head.method, target = found[1], found[2]
    head.version = (int(found[3]), int(found[4]))
    if head.version not in ((1, 0), (1, 1)):
        head.faults |= {400, 505}
    if head.method not in _KNOWN:
        (head.faults if head.method == b"CONNECT" else head.doubts).update({400, 405, 501})
        head.vague = True
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        target = absolute[1] or b""
        if not target.startswith(b"/"):
            target = b"/" + target
            head.doubts.add(400)
    origin = _ORIGIN.fullmatch(target)
    if origin is None:
        head.doubts.add(400)
        head.vague = True
    else:
        head.path, head.query = unquote(origin[1].decode()), origin[2] or b""


def read_body(head: Head, data: bytes, place: int, doubts: set[int]) -> tuple[bytes, int]:
    """The body that begins here, and where it ends. Raises Broken and Partial. Adds to what the server may doubt."""
    if not head.values(b"transfer-encoding"):
        length = int((head.values(b"content-length") or [b"0"])[0])
        if place + length > len(data):
            raise Partial
        return data[place : place + length], place + length
    body, began, most = b"", place, 0
    while True:
        line, place = _line(data, place)
        found = _CHUNK.fullmatch(line)
        if found is None or int(found[1], 16) >= 2**64:
            raise Broken({400, 431} if most > MOST_HEAD else {400})
        if not _EXTENSIONS.fullmatch(line[len(found[1]) :]) or re.search(rb"[ \t]", line):
            doubts.add(400)  # "bad" white space, quoted strings, and names or values that are none: few read them alike
        size = int(found[1], 16)
        most = max(most, place - began - 9 * len(body))
        if size == 0:
            break
        if place + size + 2 > len(data):
            if data[place + size :] not in (b"", b"\r"):
                raise Broken({400})
            raise Partial
        if data[place + size : place + size + 2] != b"\r\n":
            raise Broken({400})
        body += data[place : place + size]
        place += size + 2
    trailers = place
    while True:
        line, place = _line(data, place, place - trailers)
        most = max(most, place - began - 9 * len(body))
        if not line:
            break
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Broken({400, 431} if most > MOST_HEAD else {400})
        if name.lower() in _NO_TRAILERS:
            doubts.add(400)
        if place - trailers > MOST_HEAD:
            raise Broken({431})
    if most > MOST_HEAD:
        doubts.add(431)  # sizes and extensions; whether they are too many depends on what has come by when
    return body, place


def _line(data: bytes, place: int, most: int = 0) -> tuple[bytes, int]:
    """The line that begins here without its end, and where the next begins."""
    end = data.find(b"\n", place)
    if most > MOST_HEAD:
        raise Broken({431, 400})
    if end < 0:
        rest = data[place:]
        if len(rest) > MOST_HEAD:
            raise Broken({431, 400})
        if b"\r" in rest[:-1]:
            raise Broken({400})
        raise Partial
    line = data[place:end]
    if not line.endswith(b"\r") or b"\r" in line[:-1]:
        raise Broken({400})
    return line[:-1], end + 1


def expected(head: Head, body: bytes | None, truth: Truth) -> tuple[Statuses, bytes | None]:
    """The statuses that a well-formed request may get, and the body of a 200 where it is known.

    Without a `body`, those that may be sent before it has come.
    """
    if head.vague:
        return frozenset({200, 400, 404, 405, 406, 413, 415, 422}), None
    method = METHODS.get(head.path) or protocol.method_of(head.path)
    if method is None and re.fullmatch(r"(/v1)?/models/[^/]+|/models/[^/]+/files/[^/]+", head.path):
        method = "GET"
    if method is None:
        return frozenset({404}), None
    if head.method == b"OPTIONS":
        return frozenset({200}), b""
    if method == "GET" and head.method in (b"GET", b"HEAD"):
        return _expected_of_page(head, truth)
    if head.method != method.encode():
        return frozenset({405}), None
    return (_expected_of_verb if head.path in TAKES else _expected_of_protocol)(head, body, truth)


def _expected_of_page(head: Head, truth: Truth) -> tuple[Statuses, bytes | None]:
    if head.path not in METHODS:  # of a model that there need not be
        return frozenset({404, 200} if head.path.startswith("/v2/") else {404}), None
    tags = [tag.strip() for value in head.values(b"if-none-match") for tag in value.split(b",")]
    if tags and head.path in TAGGED:
        return frozenset({304} if b"*" in tags else {200} if tags == [b'"x"'] else {200, 304}), None
    return frozenset({200}), None if head.method == b"HEAD" else truth.page(head.path)


def _expected_of_protocol(head: Head, body: bytes | None, truth: Truth) -> tuple[Statuses, bytes | None]:
    lengths = head.values(b"content-length")
    if head.path.endswith("/infer") and (len(body or b"") > MOST_BODY or (lengths and int(lengths[0]) > MOST_BODY)):
        return frozenset({413}), None
    values = [head.values(name) for name in protocol.FIELDS]
    key = head.path, tuple(b"".join(value) for value in values), body or b""
    if body is None or key not in STATUSES or any(len(value) > 1 for value in values):
        return protocol.may_be_answered(head.path, head.values, whole=body is not None), None
    return frozenset({STATUSES[key]}), truth.answer(key) if STATUSES[key] == 200 else None


def _expected_of_verb(head: Head, body: bytes | None, truth: Truth) -> tuple[Statuses, bytes | None]:
    accepts = [re.sub(rb";q=0\.[1-9]$", b"", part) for part in head.tokens(b"accept")]
    media_types = head.values(b"content-type")
    media_type = media_types[-1].partition(b";")[0].strip().lower() if media_types else b""
    key = (head.path, (media_type,), body or b"")
    statuses = set()
    exact = True
    if not set(accepts) <= _SIMPLE or not (not accepts or {b"*/*", JSON} & set(accepts)):
        if set(accepts) <= _SIMPLE:
            return frozenset({406}), None
        statuses |= {200, 400, 406}
        exact = False
    if media_type not in TAKES[head.path]:
        if len(media_types) < 2 and exact:
            return frozenset({415}), None
        statuses.add(415)
        exact = False
    lengths = head.values(b"content-length")
    if lengths and int(lengths[0]) > MOST_BODY and exact:
        return frozenset({413}), None
    if body is None:  # more than it may have may have come already
        return frozenset(statuses | {413}), None
    if len(body) > MOST_BODY:
        return frozenset(statuses | {413}), None
    if head.query and media_type == JSON:
        return frozenset(statuses | {400 if head.path.startswith("/v1/") else 422}), None
    if exact and not head.query and key in STATUSES:
        status = STATUSES[key]
        return frozenset({status}), truth.answer(key) if status == 200 else None
    return frozenset(statuses | {200, 400, 404, 413, 415, 422}), None
