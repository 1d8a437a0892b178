# How h11 and httptools read messages. On stdin, for each case: one octet that says what it is, four octets
# of length, the octets. On stdout a line for each: what h11 makes of it, a tab, what httptools makes of it.
import struct
import sys

import h11
import httptools

REQUESTS, RESPONSE, RESPONSE_TO_HEAD = 0, 1, 2
# The sender is done after these octets.
ENDS = 0x80
# The answers are waited for.
LAST = 0x40
# Above what the engine takes, so that its limits are the only ones.
LIMIT = 1 << 20


def octets(data):
    return data.hex() or "-"


def pairs(fields):
    # Blanks around a value are no part of it; httptools leaves those behind to its user.
    return ",".join(
        octets(bytes(name).lower()) + "=" + octets(bytes(value).strip(b" \t")) for name, value in fields
    )


def message(start, version, fields, body, trailers, keeps):
    major, minor = version.split(".")
    # Later minor versions are read as 1.1.
    if major == "1" and minor > "1":
        version = "1.1"
    keeps = "keep" if keeps else "close"
    return ";".join([octets(start), version, pairs(fields), octets(body), pairs(trailers), keeps])


def by_h11(kind, data, ends):
    told = []
    try:
        while True:
            if kind == REQUESTS:
                side = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)
            else:
                side = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMIT)
                method = "HEAD" if kind == RESPONSE_TO_HEAD else "GET"
                side.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
                side.send(h11.EndOfMessage())
            if data:
                side.receive_data(data)
            if ends:
                side.receive_data(b"")
            head, body = None, b""
            while True:
                event = side.next_event()
                if event is h11.NEED_DATA:
                    return told, "waits"
                if event is h11.PAUSED:
                    return told, "handed over"
                if isinstance(event, h11.ConnectionClosed):
                    return told, "over"
                if isinstance(event, h11.InformationalResponse):
                    start = b"%d" % event.status_code
                    version = event.http_version.decode()
                    told.append(message(start, version, event.headers, b"", [], True))
                    if event.status_code == 101:
                        return told, "handed over"
                elif isinstance(event, (h11.Request, h11.Response)):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
            if isinstance(head, h11.Request):
                start = head.method + b" " + head.target
            else:
                start = b"%d" % head.status_code
            # While it waits whether another protocol is spoken, its state does not tell.
            keeps = side._cstate.keep_alive and side.their_state is not h11.CLOSED
            version = head.http_version.decode()
            told.append(message(start, version, head.headers, body, event.headers, keeps))
            if not keeps or kind != REQUESTS:
                return told, "over"
            if side.their_state is h11.MIGHT_SWITCH_PROTOCOL and head.method == b"CONNECT":
                return told, "handed over"
            data = side.trailing_data[0]
    except h11.RemoteProtocolError as error:
        return told, "refuses " + str(error).replace("\t", " ").replace("\n", " ")[:100]


class Reader:
    def __init__(self, kind):
        self.kind = kind
        self.told = []
        self.reads = False
        parser = httptools.HttpRequestParser if kind == REQUESTS else httptools.HttpResponseParser
        self.parser = parser(self)
        self.on_message_begin()

    def on_message_begin(self):
        self.target, self.fields, self.body, self.trailers = b"", [], b"", []
        self.headed = False

    def on_url(self, url):
        self.target += url

    def on_header(self, name, value):
        (self.trailers if self.headed else self.fields).append((name, value))

    def on_headers_complete(self):
        self.headed = True

    def on_body(self, body):
        self.body += body

    def so_far(self, keeps):
        if self.kind == REQUESTS:
            start = self.parser.get_method() + b" " + self.target
        else:
            start = b"%d" % self.parser.get_status_code()
        version = self.parser.get_http_version()
        return message(start, version, self.fields, self.body, self.trailers, keeps)

    def on_message_complete(self):
        self.told.append(self.so_far(self.parser.should_keep_alive()))
        self.headed = False


def by_httptools(kind, data, ends):
    if kind == RESPONSE_TO_HEAD:
        return [], "cannot be told"
    reader = Reader(kind)
    try:
        while True:
            try:
                reader.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                if kind != REQUESTS or reader.told[-1].startswith(octets(b"CONNECT ")):
                    return reader.told, "handed over"
                data = data[upgrade.args[0] :]
    except httptools.HttpParserError as error:
        return reader.told, "refuses " + str(error).replace("\t", " ").replace("\n", " ")[:100]
    if kind != REQUESTS and reader.headed and ends:
        # Content that ends with the connection; there is no way to say that it has ended.
        named = {bytes(name).lower() for name, _ in reader.fields}
        if not named & {b"content-length", b"transfer-encoding"}:
            reader.told.append(reader.so_far(False))
            return reader.told, "over"
    return reader.told, "waits"


def main():
    source, sink = sys.stdin.buffer, sys.stdout
    while header := source.read(5):
        kind, length = struct.unpack(">BI", header)
        data = source.read(length)
        answers = []
        for reader in by_h11, by_httptools:
            told, end = reader(kind & 3, data, bool(kind & ENDS))
            answers.append(" ".join([*told, "|" + end]))
        sink.write("\t".join(answers) + "\n")
        if kind & LAST:
            sink.flush()


main()
