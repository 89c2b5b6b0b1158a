"""Google's XML interface before fake-gcs-server, which knows uploads, copies and conditions in the JSON interface only.

Every request is answered by the emulator: what is translated here is the grammar of requests and answers. Only the
parts of an upload are kept here until the last has come; the whole is then one upload to the emulator.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import http.client
import json
import re
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

from tests.support.web import Silent, serving

Answer = tuple[int, dict[str, str], bytes]

_NAMES = {403: "AccessDenied", 412: "PreconditionFailed", 416: "InvalidRange"}
_PASSED = ("Content-Type", "Content-Length", "Content-Range", "Last-Modified", "x-goog-generation", "x-goog-hash")


@dataclass
class _Upload:
    kind: str
    parts: dict[int, bytes] = field(default_factory=dict)


class Front:
    """Listens on `port` for an emulator at `upstream`; where that is gone, connections break."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.uploads: dict[str, _Upload] = {}
        self.lock = threading.Lock()
        self._running = contextlib.ExitStack()
        self.port = self._running.enter_context(serving(_handler(self)))

    def close(self) -> None:
        self._running.close()


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(Silent, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            bucket, _, key = parts.path[1:].partition("/")
            talk = _Talk(
                front,
                self.upstream,
                self.command,
                unquote(bucket),
                unquote(key),
                dict(parse_qsl(parts.query, keep_blank_values=True)),
                self.headers,
                body,
            )
            try:
                status, headers, answer = talk.answer()
            except (OSError, http.client.HTTPException):
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(answer))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        def handle(self) -> None:
            self.upstream = http.client.HTTPConnection("127.0.0.1", front.upstream, timeout=20)
            with contextlib.closing(self.upstream), contextlib.suppress(OSError):  # the client went away
                super().handle()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = serve  # noqa: N815 - the base's names

    return Handler


@dataclass
class _Talk:
    """One request, and what the emulator is asked for it."""

    front: Front
    upstream: http.client.HTTPConnection
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: Message
    body: bytes

    def answer(self) -> Answer:
        if not self.key:
            return self._listing()
        if "uploads" in self.query or "uploadId" in self.query:
            return self._part()
        if self.method == "PUT":
            return self._copy() if self.headers.get("x-goog-copy-source") else self._put(self.body)
        passed = {n: v for n, v in self.headers.items() if n.lower() in ("range", "if-match", "if-none-match")}
        status, headers, body = self._ask(self.method, f"/{_quoted(self.bucket)}/{_quoted(self.key)}", {}, passed)
        if status >= 400:
            return self._error(status, body)
        if self.method == "DELETE":
            return 204, {}, b""
        passed = {n: headers[n.lower()] for n in _PASSED if n.lower() in headers}
        return status, passed | {"ETag": _etag(headers["x-goog-hash"])}, body

    def _put(self, body: bytes, kind: str | None = None) -> Answer:
        query = {"uploadType": "multipart"}  # of its kinds of uploads this one keeps conditions
        if (wanted := self.headers.get("x-goog-if-generation-match")) is not None:
            query["ifGenerationMatch"] = wanted
        kind = kind or self.headers.get("Content-Type") or "application/octet-stream"
        told = json.dumps({"name": self.key, "contentType": kind}).encode()
        cut = uuid.uuid4().hex.encode()
        whole = (
            b"--%s\r\nContent-Type: application/json\r\n\r\n%s\r\n--%s\r\nContent-Type: %s\r\n\r\n%s\r\n--%s--\r\n"
            % (cut, told, cut, kind.encode(), body, cut)
        )
        status, _, found = self._ask(
            "POST",
            f"/upload/storage/v1/b/{_quoted(self.bucket)}/o",
            query,
            {"Content-Type": f"multipart/related; boundary={cut.decode()}"},
            whole,
        )
        if status >= 400:
            return self._error(status, found)
        made = json.loads(found)
        digests = f"crc32c={made['crc32c']},md5={made['md5Hash']}"
        return 200, {"ETag": _etag(digests), "x-goog-generation": str(made["generation"]), "x-goog-hash": digests}, b""

    def _copy(self) -> Answer:
        bucket, _, key = unquote(self.headers["x-goog-copy-source"]).lstrip("/").partition("/")
        path = (
            f"/storage/v1/b/{_quoted(bucket)}/o/{_quoted(key)}/rewriteTo/b/{_quoted(self.bucket)}/o/{_quoted(self.key)}"
        )
        status, _, body = self._ask("POST", path, {}, {})
        if status >= 400:
            return self._error(status, body)
        return 200, {}, b"<CopyObjectResult></CopyObjectResult>"

    def _part(self) -> Answer:
        uploads = self.front.uploads
        with self.front.lock:
            if "uploads" in self.query:
                number = uuid.uuid4().hex
                uploads[number] = _Upload(self.headers.get("Content-Type") or "application/octet-stream")
                return (
                    200,
                    {},
                    (
                        f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>"
                    ).encode(),
                )
            upload = uploads.get(self.query["uploadId"])
            if upload is None:
                return _xml_error(404, "NoSuchUpload", "The requested upload was not found.")
            if self.method == "PUT":
                upload.parts[int(self.query["partNumber"])] = self.body
                return 200, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'}, b""
            del uploads[self.query["uploadId"]]
        if self.method == "DELETE":
            return 204, {}, b""
        told = re.findall(r"<ETag>\"?([0-9a-f]+)\"?</ETag><PartNumber>(\d+)</PartNumber>", self.body.decode())
        wanted = [(number, hashlib.md5(part).hexdigest()) for number, part in sorted(upload.parts.items())]
        if [(int(number), tag) for tag, number in told] != wanted:
            return _xml_error(400, "InvalidPart", "One or more of the specified parts could not be found.")
        status, headers, body = self._put(b"".join(part for _, part in sorted(upload.parts.items())), upload.kind)
        if status >= 400:
            return status, headers, body
        return (
            200,
            headers,
            (
                f"<CompleteMultipartUploadResult><ETag>{escape(headers['ETag'])}</ETag></CompleteMultipartUploadResult>"
            ).encode(),
        )

    def _listing(self) -> Answer:
        names = {
            "prefix": "prefix",
            "delimiter": "delimiter",
            "continuation-token": "pageToken",
            "max-keys": "maxResults",
        }
        query = {"maxResults": "1000"} | {names[n]: v for n, v in self.query.items() if n in names}
        if "start-after" in self.query:
            query["startOffset"] = self.query["start-after"] + "\0"
        status, _, body = self._ask("GET", f"/storage/v1/b/{_quoted(self.bucket)}/o", query, {})
        if status >= 400:
            return self._error(status, body)
        found = json.loads(body)
        more = found.get("nextPageToken")
        told = [f"<Name>{escape(self.bucket)}</Name><IsTruncated>{'true' if more else 'false'}</IsTruncated>"]
        if more:
            told.append(f"<NextContinuationToken>{escape(more)}</NextContinuationToken>")
        told += [
            f"<Contents><Key>{escape(one['name'])}</Key><Generation>{one['generation']}</Generation>"
            f"<LastModified>{one['updated']}</LastModified><Size>{one['size']}</Size>"
            f"<ETag>{escape(_etag('md5=' + one['md5Hash']))}</ETag></Contents>"
            for one in found.get("items", ())
        ]
        told += [f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in found.get("prefixes", ())]
        return (
            200,
            {"Content-Type": "application/xml"},
            (f"<ListBucketResult>{''.join(told)}</ListBucketResult>".encode()),
        )

    def _error(self, status: int, body: bytes) -> Answer:
        """An error of the emulator as Google words it."""
        if status == 404:
            there, _, _ = self._ask("GET", f"/storage/v1/b/{_quoted(self.bucket)}", {}, {})
            if there == 404:
                return _xml_error(404, "NoSuchBucket", "The specified bucket does not exist.")
            return _xml_error(404, "NoSuchKey", "The specified key does not exist.")
        return _xml_error(status, _NAMES.get(status, "InternalError"), body.decode(errors="replace")[:200])

    def _ask(
        self, method: str, path: str, query: dict[str, str], headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        target = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
        self.upstream.request(method, target, body or None, dict(headers) | {"Content-Length": str(len(body))})
        found = self.upstream.getresponse()
        answer = found.read()
        return found.status, {name.lower(): value for name, value in found.getheaders()}, answer


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _etag(digests: str) -> str:
    """The entity tag of Google's XML interface, the MD5 in hexadecimal, of ``crc32c=…,md5=…`` in base 64."""
    return f'"{binascii.hexlify(base64.b64decode(digests.partition("md5=")[2])).decode()}"'


def _xml_error(status: int, code: str, message: str) -> Answer:
    text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return status, {"Content-Type": "application/xml"}, text.encode()
