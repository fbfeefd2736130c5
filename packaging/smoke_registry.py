"""A registry in memory for packaging/smoke_tool.sh, on systems where imgsync-server does not run.

Prints its address, and then each request. Answers what a push and a copy need, and checks the digests.
"""

import hashlib
import json
import re
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

blobs = {}
manifests = {}  # (repository, tag or digest): (media type, bytes)
uploads = {}


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        print(self.requestline, flush=True)

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code):
        body = json.dumps({"errors": [{"code": code, "message": code}]}).encode()
        self.answer(status, body, Content_Type="application/json")

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def handle_request(self):
        path, _, query = self.path.partition("?")
        body = self.body()
        if path == "/v2/":
            return self.answer(200, b"{}")
        if match := re.fullmatch(r"/v2/(.+)/blobs/uploads/([0-9a-f-]*)", path):
            return self.upload(*match.groups(), query, body)
        if match := re.fullmatch(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})", path):
            return self.blob(match[1])
        if match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            return self.manifest(*match.groups(), body)
        if match := re.fullmatch(r"/v2/(.+)/tags/list", path):
            tags = [tag for name, tag in manifests if name == match[1] and ":" not in tag]
            return self.answer(200, json.dumps({"name": match[1], "tags": tags}).encode())
        return self.refuse(404, "UNSUPPORTED")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    def upload(self, name, session, query, body):
        if not session:
            session = str(uuid.uuid4())
            uploads[session] = b""
        if session not in uploads:
            return self.refuse(404, "BLOB_UPLOAD_UNKNOWN")
        uploads[session] += body
        location = f"/v2/{name}/blobs/uploads/{session}"
        if self.command != "PUT":
            last = max(len(uploads[session]) - 1, 0)
            return self.answer(202, Location=location, Range=f"0-{last}")
        data = uploads.pop(session)
        digest = digest_of(data)
        if f"digest={digest}" not in query.replace("%3A", ":"):
            return self.refuse(400, "DIGEST_INVALID")
        blobs[digest] = data
        return self.answer(201, Location=f"/v2/{name}/blobs/{digest}", Docker_Content_Digest=digest)

    def blob(self, digest):
        if digest not in blobs:
            return self.refuse(404, "BLOB_UNKNOWN")
        return self.answer(200, blobs[digest], Docker_Content_Digest=digest)

    def manifest(self, name, reference, body):
        if self.command == "PUT":
            digest = digest_of(body)
            for key in (reference, digest):
                manifests[name, key] = (self.headers["Content-Type"], body)
            location = f"/v2/{name}/manifests/{digest}"
            return self.answer(201, Location=location, Docker_Content_Digest=digest)
        if (name, reference) not in manifests:
            return self.refuse(404, "MANIFEST_UNKNOWN")
        media_type, data = manifests[name, reference]
        return self.answer(200, data, Content_Type=media_type, Docker_Content_Digest=digest_of(data))


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("127.0.0.1:%d" % server.server_address[1], flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
