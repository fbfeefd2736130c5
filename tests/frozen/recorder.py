"""Images, proxies, registries and programs for record.py."""

import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import signal
import socket
import socketserver
import subprocess
import tarfile
import threading
import time

# Outside the ephemeral port range.
PORT = 18327
# The target of pushes; the upstream and source of the mirror; two registries that refuse some
# requests.
REGISTRY, SOURCE, STREAM, LIMITED = (f"127.83.77.{n}:{PORT}" for n in (1, 2, 3, 4))
OCI = "application/vnd.oci.image."
MANIFEST, INDEX = f"{OCI}manifest.v1+json", f"{OCI}index.v1+json"
# Headers that the recording omits: times, and headers of the connection.
OMITTED_HEADERS = {"date", "connection", "keep-alive", "host", "transfer-encoding",
                   "accept-encoding", "x-request-id"}
# Headers that are in every request or every response.
CONSTANT_HEADERS = {("accept", "*/*"), ("user-agent", "imgsync/0.1.0"),
                    ("docker-distribution-api-version", "registry/2.0")}


def noise(seed, size):
    """Returns bytes that do not compress. The same seed gives the same bytes."""
    blocks = (hashlib.sha256(f"{seed} {n}".encode()).digest() for n in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    # Remove the padding to a block of 10 KiB.
    data = out.getvalue().rstrip(b"\0")
    return data + b"\0" * (-len(data) % 512) + b"\0" * 1024


def config_of(layers):
    return json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2023-11-14T22:13:20Z",
        "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }).encode()


def docker_archive(layers):
    config = config_of(layers)
    names = [f"{n}.tar" for n in range(len(layers))]
    listed = [{"Config": "config.json", "RepoTags": ["app:v1"], "Layers": names}]
    files = list(zip(names, layers))
    return tar(files + [("config.json", config), ("manifest.json", json.dumps(listed).encode())])


def descriptor(media_type, data, **more):
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def manifest_of(layers, config, **more):
    return json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(f"{OCI}config.v1+json", config),
        "layers": [descriptor(f"{OCI}layer.v1.tar+gzip", blob) for blob in layers], **more,
    }).encode()


class Images:
    """Creates the archives of the pushed images."""

    def __init__(self, folder):
        shared = tar([("shared", noise("shared", 300))])
        self.layers = {
            "base": [shared, tar([("base", noise("base", 200))])],
            # Large enough for three chunks: the first has 1024 bytes, and each other has twice as
            # many as the one before.
            "app": [shared, tar([("app", noise("app", 3500))])],
            "late": [tar([("late", noise("late", 3500))])],
        }
        folder.mkdir()
        for name, layers in self.layers.items():
            (folder / f"{name}.tar").write_bytes(docker_archive(layers))
        for name in ("app", "late"):
            (folder / f"{name}.inspect.json").write_bytes(json.dumps(self.inspected(name)).encode())

    def layout(self, name):
        """Returns the manifest, and the OCI layout that a daemon exports."""
        config = config_of(self.layers[name])
        blobs = [gzip.compress(layer, mtime=0) for layer in self.layers[name]]
        manifest = manifest_of(blobs, config)
        index = {"schemaVersion": 2, "manifests": [descriptor(MANIFEST, manifest)]}
        files = [("index.json", json.dumps(index).encode()),
                 ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')]
        for blob in [*blobs, config, manifest]:
            files.append(("blobs/" + digest(blob).replace(":", "/"), blob))
        return manifest, tar(sorted(files))

    def inspected(self, name):
        """Returns a daemon's description: `app` is in a classic store, `late` in containerd's."""
        layers = self.layers[name]
        description = {
            "Id": digest(config_of(layers)), "RepoTags": [f"{name}:v1"],
            "Os": "linux", "Architecture": "amd64", "Size": sum(map(len, layers)),
            "RootFS": {"Type": "layers", "Layers": [digest(layer) for layer in layers]},
        }
        if name == "late":
            root = digest(self.layout(name)[0])
            description |= {"Id": root, "Descriptor": {"mediaType": MANIFEST, "digest": root}}
        return description

    def daemon(self, exchange):
        """Responds as a daemon with these two images."""
        path = exchange.target.split("?")[0]
        name = "late" if "late" in path or self.inspected("late")["Id"] in path else "app"
        if path.endswith("/info"):
            return 200, [], b"{}"
        if path.endswith("/json"):
            return 200, [], json.dumps(self.inspected(name)).encode()
        if path.endswith("/get"):
            export = self.layout(name)[1] if name == "late" else docker_archive(self.layers[name])
            return 200, [], export
        return 404, [], b"{}"


class Exchange:
    def __init__(self, at, method, target, headers, body):
        self.at, self.method, self.target = at, method, target
        self.headers, self.body = headers, body
        self.answer = None

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), None)

    def to_json(self):
        status, headers, body = self.answer
        return {
            "at": self.at,
            "request": {
                "method": self.method, "target": self.target,
                "headers": recorded_headers(self.headers), **recorded_body(self.body),
            },
            "answer": {"status": status, "headers": recorded_headers(headers),
                       **recorded_body(body)},
        }


def recorded_headers(headers):
    """Returns the headers for the recording, with repeated headers joined into one."""
    all_values = {}
    for name, value in headers:
        if name.lower() not in OMITTED_HEADERS and (
                name.lower(), value) not in CONSTANT_HEADERS:
            all_values.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(values) for name, values in all_values.items()}


def recorded_body(body):
    if not body:
        return {}
    try:
        return {"text": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


class RecordingProxy:
    """A proxy at a fixed address in front of a registry. Records exchanges and can inject faults.

    `before(exchange)` can respond itself, with (status, headers, body), or never return.
    `after(exchange)` returns how many bytes of the response body pass before the connection stalls.
    """

    def __init__(self, name, address, backend=None):
        self.name, self.backend = name, backend
        self.before, self.after = lambda exchange: None, lambda exchange: None
        self.exchanges = []
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                proxy.handle(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        host, port = address.split(":")
        self.server = Server((host, int(port)), Handler)
        self.address = "{}:{}".format(*self.server.server_address)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def take(self):
        exchanges, self.exchanges = self.exchanges, []
        return [exchange.to_json() for exchange in exchanges]

    def handle(self, stream):
        first = stream.rfile.readline().decode().split(" ")
        if len(first) != 3:
            return
        headers = []
        while (line := stream.rfile.readline().decode().rstrip("\r\n")):
            name, value = line.split(":", 1)
            headers.append((name, value.strip()))
        exchange = Exchange(self.name, first[0], first[1], headers, b"")
        exchange.body = stream.rfile.read(int(exchange.header("content-length") or 0))
        exchange.answer = self.before(exchange) or self.forward(exchange)
        self.exchanges.append(exchange)
        status, headers, body = exchange.answer
        has_no_body = exchange.method == "HEAD" or status == 204
        lines = [f"HTTP/1.1 {status} {http.client.responses[status]}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers
                  if name.lower() not in OMITTED_HEADERS
                  and (has_no_body or name.lower() != "content-length")]
        if not has_no_body:
            lines.append(f"Content-Length: {len(body)}")
        stream.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        passes = self.after(exchange)
        stream.wfile.write(body if passes is None else body[:passes])
        stream.wfile.flush()
        if passes is not None:
            time.sleep(3600)

    def forward(self, exchange):
        connection = http.client.HTTPConnection(self.backend, timeout=60)
        connection.putrequest(exchange.method, exchange.target,
                              skip_host=True, skip_accept_encoding=True)
        for name, value in exchange.headers:
            connection.putheader(name, value)
        connection.endheaders(exchange.body)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()


class Server:
    """A running server of the recorded version."""

    def __init__(self, binary, root, more="", address="127.0.0.1:0"):
        root.mkdir(parents=True, exist_ok=True)
        self.config = root.parent / f"{root.name}.yml"
        self.config.write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{root}'}}, "
            "delete: {enabled: true}}\n"
            f"http: {{addr: '{address}'}}\n{more}"
        )
        self.process = subprocess.Popen([binary, "serve", self.config], stdout=subprocess.PIPE,
                                        stderr=open(f"{self.config}.log", "a"), text=True)
        self.address = self.process.stdout.readline().strip().split("://")[1]

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()

    def request(self, method, target, body=b"", headers=()):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request(method, target, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def wait_for_diff_ids(self, repository="team/app"):
        """Waits until the server has computed all diffIDs in the background."""
        body = json.dumps({"diffIDs": [digest(b"of nothing")]}).encode()
        target = f"/v2/{repository}/_imgsync/layers/resolve"
        while b"pending" in self.request("POST", target, body)[2]:
            time.sleep(0.05)


class Registry:
    """Pushes content to a registry with plain HTTP requests."""

    def __init__(self, address):
        self.address = address

    def send(self, method, target, body, media_type="application/octet-stream", status=201):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request(method, target, body, {"Content-Type": media_type})
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == status, (target, answer.status, data)
        return answer

    def blob(self, repository, data):
        self.send("POST", f"/v2/{repository}/blobs/uploads/?digest={digest(data)}", data)
        return data

    def manifest(self, repository, reference, data, media_type=MANIFEST):
        self.send("PUT", f"/v2/{repository}/manifests/{reference}", data, media_type)
        return data

    def image(self, repository, tag, seed, size=600):
        layer = tar([("file", noise(seed, size))])
        config = self.blob(repository, config_of([layer]))
        blob = self.blob(repository, gzip.compress(layer, mtime=0))
        data = manifest_of([blob], config)
        return self.manifest(repository, tag or digest(data), data)

    def artifact(self, repository, content, subject=None, tag=None):
        empty, content = self.blob(repository, b"{}"), self.blob(repository, content)
        more = {"artifactType": "application/vnd.example.signature"}
        if subject:
            more["subject"] = descriptor(MANIFEST, subject)
        data = manifest_of([], empty, **more)
        data = json.loads(data)
        data["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"
        data["layers"] = [descriptor("application/vnd.example.signature", content)]
        data = json.dumps(data).encode()
        return self.manifest(repository, tag or digest(data), data)

    def index(self, repository, tag, images):
        children = [descriptor(MANIFEST, image, platform={"os": "linux", "architecture": arch})
                    for arch, image in images]
        data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode()
        return self.manifest(repository, tag, data, INDEX)


class Tool:
    """Runs the tool of the recorded version with temporary folders."""

    def __init__(self, binary, home):
        self.binary, self.home = binary, home
        for folder in ("cache", "tmp", "state"):
            (home / folder).mkdir(parents=True)

    def start(self, *arguments, stdin=subprocess.DEVNULL, **more):
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.home / "tmp"),
            "XDG_CACHE_HOME": str(self.home / "cache"), "XDG_STATE_HOME": str(self.home / "state"),
            **more,
        }
        return subprocess.Popen([self.binary, *map(str, arguments)], env=environment, stdin=stdin,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, *arguments, code=0, **more):
        process = self.start(*arguments, **more)
        output = process.communicate()[0].decode()
        assert process.returncode == code, (arguments, process.returncode, output)

    def run_and_kill(self, proxy, is_last, *arguments, **more):
        """Kills the tool at the first request for which `is_last` is true. It gets no response."""
        reached = threading.Event()

        def before(exchange):
            if is_last(exchange):
                reached.set()
                time.sleep(3600)

        proxy.before = before
        process = self.start(*arguments, **more)
        assert reached.wait(60), process.communicate()[0].decode()
        # Give the tool time to write the results of earlier responses.
        time.sleep(0.3)
        process.kill()
        process.wait()
        proxy.before = lambda exchange: None


def nth(method, count):
    """Returns a function that is true for the request with this method and this number, from 1."""
    remaining = [count]

    def is_nth(exchange):
        remaining[0] -= exchange.method == method
        return remaining[0] == 0 and exchange.method == method

    return is_nth


# Connections that stay open, so that the server does not cancel their requests.
OPEN_CONNECTIONS = []


def raw(address, head, pieces=()):
    """Sends a request in pieces, without reading the response."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)))
    OPEN_CONNECTIONS.append(connection)
    connection.sendall(f"{head}\r\nHost: {address}\r\n\r\n".encode())
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(0.005)
    return connection
