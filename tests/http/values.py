"""What Python makes of what semfio writes: a case of JSON a line on stdin, an answer a line."""

import email
import email.policy
import email.utils
import gzip
import html.parser
import json
import sys
import time
import urllib.parse

VOID = {"meta"}


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.texts = [], set(), [], []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a":
            self.links.append(dict(attributes)["href"])
            self.texts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "a" in self.open:
            self.texts[-1] += data


def read_page(case):
    page = Page()
    page.feed(case["html"])
    page.close()
    assert not page.open
    paths = [urllib.parse.urljoin(case["base"], link) for link in page.links]
    paths = [urllib.parse.unquote(path.split("?")[0], errors="strict") for path in paths]
    return {"tags": sorted(page.tags), "paths": paths, "texts": page.texts}


def read_parts(case):
    whole = f"Content-Type: {case['type']}\r\n\r\n".encode() + bytes.fromhex(case["body"])
    message = email.message_from_bytes(whole, policy=email.policy.HTTP)
    assert not message.defects, message.defects
    return [
        [part["Content-Type"], part["Content-Range"], part.get_payload(decode=True).hex()]
        for part in message.get_payload()
    ]


def write_dates(case):
    at = time.gmtime(case["at"])
    return [
        email.utils.formatdate(case["at"], usegmt=True),
        time.strftime("%A, %d-%b-%y %H:%M:%S GMT", at),
        time.asctime(at),
    ]


READERS = {
    "gzip": lambda case: gzip.decompress(bytes.fromhex(case["body"])).hex(),
    "parts": read_parts,
    "date": lambda case: email.utils.parsedate_to_datetime(case["text"]).timestamp(),
    "dates": write_dates,
    "join": lambda case: urllib.parse.urljoin(case["base"], case["reference"]),
    "page": read_page,
    "json": lambda case: json.loads(case["text"]),
}

for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps(READERS[case["kind"]](case)), flush=True)
