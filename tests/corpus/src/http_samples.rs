//! Messages of HTTP/1.1 as they should be, to be read, cut, joined and mutated.

/// Who sends a [`Sample`], and what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Requests, one after another.
    Requests,
    /// Responses to one GET, interim ones before the last.
    Response,
    /// Responses to one HEAD.
    ResponseToHead,
}

/// What is sent on one connection.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// By whom.
    pub kind: Kind,
    /// All of it.
    pub bytes: &'static [u8],
    /// Whether the sender is done then.
    pub ends: bool,
}

const fn asks(bytes: &'static [u8]) -> Sample {
    Sample { kind: Kind::Requests, bytes, ends: false }
}

const fn answers(bytes: &'static [u8]) -> Sample {
    Sample { kind: Kind::Response, bytes, ends: false }
}

const fn ends(bytes: &'static [u8]) -> Sample {
    Sample { kind: Kind::Response, bytes, ends: true }
}

const fn answers_head(bytes: &'static [u8]) -> Sample {
    Sample { kind: Kind::ResponseToHead, bytes, ends: false }
}

/// All of them are accepted.
pub const SAMPLES: &[Sample] = &[
    asks(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"),
    asks(b"GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n"),
    asks(b"HEAD /index.html?x=1&y=%20%2F HTTP/1.1\r\nHost: example.org:8080\r\nAccept: */*\r\n\r\n"),
    asks(b"GET /a;b=c/d,e/(f)!*'~ HTTP/1.1\r\nhOsT: [2001:db8::1]:80\r\nX: \r\n\r\n"),
    asks(b"GET /? HTTP/1.1\r\nHost: a\r\nX:\r\nX: 1\r\nx: 2\r\n\r\n"),
    asks(b"GET http://b:80/c?d HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"GET http://b HTTP/1.1\r\nHost: b\r\n\r\n"),
    asks(b"GET https://b?c HTTP/1.1\r\nHost: b\r\n\r\n"),
    asks(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"OPTIONS /x HTTP/1.1\r\nHost: a\r\nOrigin: null\r\n\r\n"),
    asks(b"DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    asks(b"PATCH /x HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc"),
    asks(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n\r\n\0\xFFGET / "),
    asks(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /y HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"),
    asks(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    asks(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"),
    asks(b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\nTrailer: T\r\n\r\n03\r\na\r\n\r\n0\r\nT: u\r\nV:  w x \r\n\r\n"),
    asks(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n1;b=\"c;\\\"\"\r\nd\r\n0;e=f\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"GET / HTTP/1.0\r\n\r\n"),
    asks(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    asks(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab"),
    asks(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    asks(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    asks(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"),
    asks(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"),
    asks(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    asks(b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"),
    asks(b"FETCH / HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"M-SEARCH /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    asks(b"GET /favicon.ico HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: image/avif,image/webp,*/*;q=0.8\r\nAccept-Language: pt,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nReferer: http://127.0.0.1:8080/\r\nCookie: a=b; c=\"d\"\r\nIf-None-Match: \"x\", W/\"y\"\r\nPriority: u=6\r\n\r\n"),
    asks(b"GET / HTTP/1.1\r\nHost: a\r\nX: \x80\xFF caf\xC3\xA9\r\nY: a\tb\r\nZ!#$%&'*+-.^_`|~9: z\r\n\r\n"),
    answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    answers(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    answers(b"HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nabc"),
    answers(b"HTTP/1.1 404 Not Found\r\nServer: x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 9\r\n\r\nnot found"),
    answers(b"HTTP/1.1 200 Tudo \xE7erto\r\nContent-Length: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n\xFF"),
    answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n00\r\nT: u\r\n\r\n"),
    answers(b"HTTP/1.1 204 No Content\r\nETag: \"a\"\r\n\r\n"),
    answers(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: W/\"a\"\r\n\r\n"),
    answers(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
    answers(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    answers(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab"),
    answers(b"HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    answers(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc"),
    answers(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    answers(b"HTTP/1.1 999 What\r\nContent-Length: 1\r\n\r\na"),
    ends(b"HTTP/1.1 200 OK\r\n\r\nall until the end"),
    ends(b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nall until the end\r\n"),
    ends(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
    ends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"),
    ends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
    answers_head(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
    answers_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVary: Accept\r\n\r\n"),
    answers_head(b"HTTP/1.1 404 Not Found\r\n\r\n"),
    answers_head(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n"),
    answers_head(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
];
