#!/usr/bin/env python3
"""Records what one version of the programs writes to disk and sends over HTTP.

    tests/frozen/record.py BINARIES [OUT]

BINARIES is a folder with `imgsync` and `imgsync-server`. The folders `images/`, `server/`,
`home/`, `upstream/` and `wire/` in OUT (default: the folder of this script) are replaced.
README.md describes their content and the tests that use them.

Needs Python 3.9 and Linux, where all addresses in 127/8 exist. The four addresses must be free.
"""

import base64
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

from recorder import (
    LIMITED, MANIFEST, REGISTRY, SOURCE, STREAM, Images, RecordingProxy, Registry, Server, Tool,
    digest, docker_archive, noise, nth, raw, tar,
)


class DiskRecording:
    """Records the storage folder of the server and the home folder of the tool."""

    def __init__(self, binaries, out, scratch, images):
        self.server_binary, self.archives = binaries / "imgsync-server", out / "images"
        self.root, self.images, self.upstream = scratch / "server", images, out / "upstream"
        self.tool = Tool(binaries / "imgsync", scratch / "home")
        self.up = Server(self.server_binary, scratch / "up")
        self.source = RecordingProxy("source", SOURCE, self.up.address)
        self.caching = (
            "imgsync: {cache: {upstreams: [{prefix: up.example, "
            f"remoteurl: 'http://{SOURCE}'}}], "
            "freshness: 1h}}\n"
        )
        self.server = self.proxy = None

    def start(self, more=""):
        self.server = Server(self.server_binary, self.root, self.caching + more)
        if self.proxy is None:
            self.proxy = RecordingProxy("registry", REGISTRY)
        self.proxy.backend = self.server.address

    def record(self):
        self.start()
        self.pushed()
        self.mirrored()
        self.interrupted_push()
        self.cached()
        self.begun_by_hand()
        self.owned()
        self.other_hosts()
        self.draft()
        self.up.end()
        self.proxy.close()
        self.source.close()

    def pushed(self):
        self.tool.run("push", self.archives / "base.tar", f"{REGISTRY}/team/base:v1")
        image = self.server.request("GET", "/v2/team/base/manifests/v1", headers={
            "Accept": f"{MANIFEST}, */*"}.items())[2]
        Registry(self.server.address).artifact("team/base", b"signed", json.loads(image) and image)
        self.server.wait_for_diff_ids("team/base")

    def mirrored(self):
        up = Registry(self.up.address)
        first = up.image("lib/tool", "v1", "tool 1")
        up.image("lib/tool", "v2", "tool 2")
        up.artifact("lib/tool", b"cosigned", tag=digest(first).replace(":", "-") + ".sig")
        mirror = ("mirror", "--prune", f"{SOURCE}/lib/tool", f"{REGISTRY}/copy/tool")
        self.tool.run(*mirror)
        Registry(self.server.address).image("copy/tool", "theirs", "somebody's own")
        up.image("lib/tool", "v3", "tool 3")
        self.tool.run_and_kill(self.proxy, lambda exchange: exchange.method == "PUT" and
                               exchange.target.endswith("/manifests/v3"), *mirror)

    def interrupted_push(self):
        """Pushes from a daemon, so that its export is spooled, and interrupts the large layer."""
        daemon = RecordingProxy("daemon", "127.0.0.1:0")
        daemon.before = self.images.daemon
        for name in ("app", "late"):
            self.tool.run_and_kill(self.proxy, nth("PATCH", 3), "push", "--jobs", "1",
                                   "--chunk-size", "1024", f"{name}:v1",
                                   f"{REGISTRY}/team/{name}:v1", DOCKER_HOST=daemon.address)
            self.server.wait_for_diff_ids()
        daemon.close()

    def cached(self):
        """Caches one complete image and two partly downloaded blobs."""
        up = Registry(self.up.address)
        whole = up.image("lib/cached", "v1", "cached")
        self.fetch("lib/cached", whole, None)
        for name, how in (("stopped", signal.SIGTERM), ("killed", signal.SIGKILL)):
            image = up.image("lib/" + name, "v1", name, 2000)
            connection = self.fetch("lib/" + name, image, 1000)
            self.keep_whole("lib/" + name, json.loads(image)["layers"][0]["digest"])
            if how == signal.SIGTERM:
                # A server that stops waits for open responses.
                connection.close()
                time.sleep(0.5)
            self.server.end(how)
            self.start()

    def keep_whole(self, repository, layer):
        """Saves the complete blob, so that a test can serve it from an upstream."""
        self.upstream.mkdir(exist_ok=True)
        blob = self.up.request("GET", f"/v2/{repository}/blobs/{layer}")[2]
        (self.upstream / layer.replace(":", "-")).write_bytes(blob)

    def fetch(self, repository, image, passes):
        here = f"/v2/up.example/{repository}"
        assert self.server.request("GET", f"{here}/manifests/v1")[0] == 200
        layer = json.loads(image)["layers"][0]["digest"]
        self.source.after = lambda exchange: (
            passes if exchange.target.endswith(layer) else None)
        if passes is None:
            assert self.server.request("GET", f"{here}/blobs/{layer}")[0] == 200
            return None
        connection = raw(self.server.address, f"GET {here}/blobs/{layer} HTTP/1.1")
        time.sleep(1)
        return connection

    def begun_by_hand(self):
        """Creates a session whose last bytes were not synced to the disk."""
        opened = Registry(self.server.address).send(
            "POST", "/v2/team/begun/blobs/uploads/", b"", status=202)
        location = opened.headers["Location"]
        first, rest = noise("begun", 1000), noise("more", 800)
        Registry(self.server.address).send("PATCH", location, first, status=202)
        raw(self.server.address,
            f"PATCH {location} HTTP/1.1\r\nContent-Range: 1000-4999\r\nContent-Length: 4000",
            [rest[n:n + 8] for n in range(0, len(rest), 8)])
        time.sleep(0.5)
        self.server.end(signal.SIGKILL)

    def owned(self):
        """Creates a session that belongs to a user."""
        users = self.root.parent / "htpasswd"
        subprocess.run([self.server_binary, "htpasswd", "--cost", "4", users, "alice"],
                       input=b"secret\n", check=True)
        self.start(f"auth: {{htpasswd: {{realm: here, path: '{users}'}}}}\n")
        alice = {"Authorization": "Basic " + base64.b64encode(b"alice:secret").decode()}
        status, headers, _ = self.server.request(
            "POST", "/v2/team/owned/blobs/uploads/", headers=alice.items())
        assert status == 202
        data = noise("owned", 700)
        status, _, _ = self.server.request("PATCH", headers["Location"], data, alice.items())
        assert status == 202
        self.server.end()

    def other_hosts(self):
        """Pushes to registries that refuse some requests, so that the tool caches their limits."""
        for number, (address, refuse) in enumerate([(STREAM, no_ranges), (LIMITED, no_large)]):
            server = Server(self.server_binary, self.root.parent / f"other{number}")
            proxy = RecordingProxy("other", address, server.address)
            proxy.before = refuse
            archive = self.root.parent / f"other{number}.tar"
            size = 300_000 if refuse is no_large else 5000
            archive.write_bytes(docker_archive([tar([("file", noise(address, size))])]))
            self.tool.run("push", "--jobs", "1", "--chunk-size", "1000" if refuse is no_ranges
                          else "262144", archive, f"{address}/team/app:v1")
            proxy.close()
            server.end()

    def draft(self):
        """Kills a push while it reads an archive from standard input."""
        data = docker_archive([tar([("draft", noise("draft", 600_000))])])
        process = self.tool.start("push", "-", f"{REGISTRY}/team/draft:v1", stdin=subprocess.PIPE)
        # More than the tool reads at a time, otherwise it has not spooled anything yet.
        process.stdin.write(data[:300_000])
        process.stdin.flush()
        time.sleep(1)
        process.kill()
        process.wait()


def no_ranges(exchange):
    if exchange.method == "PATCH" and exchange.header("content-range"):
        return 400, [], b""
    return None


def no_large(exchange):
    if len(exchange.body) > 100_000:
        return 413, [], b""
    return None


class WireRecording:
    """Records the HTTP exchanges of the tool and the server, command by command."""

    def __init__(self, binaries, out, scratch):
        self.binaries, self.images, self.out = binaries, out / "images", out / "wire"
        self.scratch, self.tools, self.number = scratch, {}, 0
        users = scratch / "users"
        server = binaries / "imgsync-server"
        subprocess.run([server, "htpasswd", "--cost", "4", users, "alice"],
                       input=b"secret\n", check=True)
        secured = (f"auth: {{htpasswd: {{realm: here, path: '{users}'}}}}\n"
                   "imgsync: {anonymous: {pull: [public/*]}}\n")
        self.servers = {
            "registry": Server(server, scratch / "registry"),
            "source": Server(server, scratch / "source"),
            "secured": Server(server, scratch / "secured", secured),
        }
        self.addresses = {"registry": REGISTRY, "source": SOURCE, "secured": STREAM}
        self.proxies = {name: RecordingProxy(name, self.addresses[name], server.address)
                      for name, server in self.servers.items()}

    def tool(self, home):
        if home not in self.tools:
            self.tools[home] = Tool(self.binaries / "imgsync", self.scratch / f"home-{home}")
        return self.tools[home]

    def step(self, name, home, *arguments, patches=None, code=0, **more):
        """Runs the tool, and writes the exchanges to a file."""
        words = [word.format(images=self.images, **self.addresses) for word in arguments]
        if patches is None:
            self.tool(home).run(*words, code=code, **more)
        else:
            proxy = self.proxies["registry"]
            self.tool(home).run_and_kill(proxy, nth("PATCH", patches), *words, **more)
        self.write(name, home=home, arguments=arguments, environment=more, code=code,
                   **({} if patches is None else {"killed_at_patch": patches}))
        for server in ("registry", "source"):
            self.servers[server].wait_for_diff_ids()

    def write(self, name, **about):
        exchanges = sum((proxy.take() for proxy in self.proxies.values()), [])
        self.number += 1
        lines = [{"step": name, **about}, *exchanges]
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        (self.out / f"{self.number:02}-{name}.jsonl").write_text(text)

    def record(self):
        self.out.mkdir()
        push = ("push", "--jobs", "1", "--chunk-size", "1024")
        self.step("push", "one", *push, "{images}/app.tar", "{registry}/team/app:v1")
        self.step("push-again", "one", *push, "{images}/app.tar", "{registry}/team/app:v1")
        self.step("push-again-elsewhere", "two", *push, "{images}/app.tar",
                  "{registry}/team/app:v1")
        self.step("push-sharing", "two", *push, "--tag", "latest", "{images}/base.tar",
                  "{registry}/team/base:v1")
        self.step("push-killed", "one", *push, "{images}/late.tar", "{registry}/team/late:v1",
                  patches=3)
        self.step("push-resumed", "one", *push, "{images}/late.tar", "{registry}/team/late:v1")
        self.seed()
        mirror = ("mirror", "--jobs", "1")
        self.step("mirror", "one", *mirror, "--prune", "{source}/lib/tool", "{registry}/copy/tool")
        self.step("mirror-again", "one", *mirror, "--prune", "--referrers", "all",
                  "{source}/lib/tool", "{registry}/copy/tool")
        self.step("mirror-within", "one", *mirror, "--tag", "v1", "--no-referrers",
                  "{registry}/copy/tool", "{registry}/own/tool")
        self.step("list", "one", "ls", "{registry}")
        self.step("list-tags", "one", "ls", "--long", "{registry}/copy/tool")
        self.step("inspect", "one", "inspect", "--json", "{registry}/copy/tool:v1")
        self.step("inspect-index", "one", "inspect", "{registry}/copy/tool:all")
        self.step("remove", "one", "rm", "{registry}/own/tool:v1")
        alice = {"IMGSYNC_USERNAME": "alice", "IMGSYNC_PASSWORD": "secret"}
        self.step("push-secured", "one", *push, "{images}/base.tar",
                  "{secured}/team/base:v1", **alice)
        self.step("push-unknown", "one", *push, "{images}/base.tar",
                  "{secured}/team/base:v1", code=5)
        for name, server in self.servers.items():
            self.proxies[name].close()
            server.end()

    def seed(self):
        """Pushes the source of the mirror through the proxy, so that its requests are recorded."""
        source = Registry(SOURCE)
        first = source.image("lib/tool", "v1", "one", 100)
        second = source.image("lib/tool", None, "two", 100)
        source.index("lib/tool", "all", [("amd64", first), ("arm64", second)])
        source.artifact("lib/tool", b"signed", subject=first)
        source.artifact("lib/tool", b"cosigned", tag=digest(first).replace(":", "-") + ".sig")
        self.write("seed")


def keep(folder, out):
    """Copies files, without empty folders: git does not store them."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] != "tmp" and path.name != "lock":
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            # The content of a draft does not matter.
            (out / name).write_bytes(data[:512] if name.name.startswith(".draft-") else data)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    binaries = Path(sys.argv[1]).resolve()
    out = Path(sys.argv[2] if len(sys.argv) == 3 else Path(__file__).parent).resolve()
    for name in ("images", "server", "home", "upstream", "wire"):
        shutil.rmtree(out / name, ignore_errors=True)
    images = Images(out / "images")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "disk").mkdir()
        (scratch / "wire").mkdir()
        DiskRecording(binaries, out, scratch / "disk", images).record()
        keep(scratch / "disk/server", out / "server")
        keep(scratch / "disk/home", out / "home")
        WireRecording(binaries, out, scratch / "wire").record()


if __name__ == "__main__":
    main()
