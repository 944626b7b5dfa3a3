"""A Hugging Face Hub on 127.0.0.1 that speaks the real protocol to the real client, and plays faults.

Repositories with commits, branches and tags, LFS objects (single and multi-part), listings with sizes and hashes,
downloads with ranges. It is strict where the Hub is: a commit of an object that never arrived is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

HOST = "127.0.0.1"

LFS_ENDINGS = (".tar", ".parquet", ".png", ".mp4", ".flac", ".npy", ".bin", ".zip", ".gz")
"""What a new dataset repository's .gitattributes sends to LFS."""

REGULAR_LIMIT_BYTES = 10 * 2**20
PAGE_ENTRIES = 1000

LICENCES = {"apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "other", "unknown"}
TASKS = {"text-to-video", "video-text-to-text", "video-classification", "audio-text-to-text", "audio-classification",
         "feature-extraction", "text-retrieval", "visual-question-answering", "other"}  # fmt: skip
SIZES = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M"}


@dataclass
class Fault:
    """What the server does with the next requests that match.

    Attributes:
        kind: `status` (answers it), `cut` (takes part of the body, then closes), `hold` (never answers), `after`
            (does what is asked, then closes without an answer), `slow` (does it after a second).
        skip: matching requests that pass before.
        times: how many requests.
    """

    method: str
    path: str
    kind: str = "status"
    status: int = 503
    text: str = "It was told to."
    headers: dict[str, str] = field(default_factory=dict)
    skip: int = 0
    times: int = 1
    seen: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Entry:
    """A file of a commit: where its bytes are stored."""

    store: str  # the key in `Hub.objects`
    is_lfs: bool


@dataclass
class Commit:
    title: str
    tree: dict[str, Entry]
    parent: str | None


@dataclass
class Repo:
    """A dataset repository."""

    name: str
    private: bool = False
    gated: str | bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def resolve(self, revision: str) -> str | None:
        found = self.branches.get(revision) or self.tags.get(revision)
        return found or (revision if revision in self.commits else None)

    def commit(self, branch: str, tree: dict[str, Entry], title: str) -> str:
        parent = self.branches.get(branch)
        oid = hashlib.sha1(f"{parent}{title}{uuid.uuid4()}".encode()).hexdigest()
        self.commits[oid] = Commit(title, tree, parent)
        self.branches[branch] = oid
        return oid

    def history(self, revision: str) -> list[str]:
        found, oid = [], self.resolve(revision)
        while oid:
            found.append(oid)
            oid = self.commits[oid].parent
        return found


class Hub(ThreadingHTTPServer):
    """The server. `tokens` maps a token to (user, namespaces it may write)."""

    daemon_threads = True

    def __init__(self) -> None:
        self.tokens: dict[str, tuple[str, set[str]]] = {}
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.sent: list[str] = []  # hashes of LFS objects, each time one arrived whole
        self.multipart_bytes = 0  # objects from this size on come in parts of it; 0: never
        self.files_per_folder = 10_000
        self.guard = threading.RLock()
        super().__init__((HOST, 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"

    @property
    def cdn(self) -> str:
        """Where LFS objects are downloaded from: another host, as far as a client can see."""
        return f"http://localhost:{self.server_address[1]}/cdn"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away while it is answered, as killed ones do, is no news."""

    def plays(self, method: str, path: str, kind: str = "status", **more: Any) -> Fault:
        fault = Fault(method, path, kind, **more)
        with self.guard:
            self.faults.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        with self.guard:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def count(self, method: str, path: str) -> int:
        with self.guard:
            return sum(m == method and bool(re.search(path, p)) for m, p in self.requests)

    def forget(self) -> None:
        with self.guard:
            self.faults.clear()
            self.requests.clear()
            self.sent.clear()

    def store(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.objects[name] = data
        return name

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """What a revision holds, as a person would download it."""
        found = self.repos[repo]
        tree = found.commits[found.resolve(revision) or ""].tree
        return {path: self.objects[entry.store] for path, entry in tree.items()}

    def put(self, repo: str, path: str, data: bytes, branch: str = "main") -> None:
        """A file that somebody else adds."""
        found = self.repos[repo]
        tree = dict(found.commits[found.branches[branch]].tree)
        found.commit(branch, {**tree, path: Entry(self.store(data), path.endswith(LFS_ENDINGS))}, f"add {path}")

    def damage(self, repo: str, path: str) -> None:
        """Turns one bit of a stored file over."""
        found = self.repos[repo]
        name = found.commits[found.branches["main"]].tree[path].store
        data = bytearray(self.objects[name])
        data[len(data) // 2] ^= 1
        self.objects[name] = bytes(data)


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A Hub with one user, who may write to `org`."""
    hub = Hub()
    hub.tokens["hf_rightToken"] = ("writer", {"writer", "org"})
    hub.tokens["hf_otherToken"] = ("reader", {"reader"})
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def check_card(text: str) -> dict[str, list[dict[str, str]]]:
    """What the Hub's own check says of a card's YAML."""
    errors: list[dict[str, str]] = []
    warnings: list[dict[str, str]] = []
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        tree = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError as error:
        return {"errors": [{"message": f"YAML: {error}"}], "warnings": []}
    if not isinstance(tree, dict):
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    licences = tree.get("license", [])
    for licence in [licences] if isinstance(licences, str) else licences:
        if licence not in LICENCES:
            errors.append({"message": f'"license" must be one of [{", ".join(sorted(LICENCES))}]'})
    languages = tree.get("language", [])
    for language in [languages] if isinstance(languages, str) else languages:
        if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)?", str(language)):
            errors.append({"message": '"language" must only contain lowercase characters'})
    warnings += [{"message": f'task "{t}" is unknown'} for t in tree.get("task_categories", []) if t not in TASKS]
    errors += [{"message": f"size {s}"} for s in tree.get("size_categories", []) if s not in SIZES]
    for config in tree.get("configs", []):
        if not isinstance(config.get("config_name"), str) or not config.get("data_files"):
            errors.append({"message": '"configs" needs config_name and data_files'})
    return {"errors": errors, "warnings": warnings}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments: Any) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        fault = self.server.take(self.command, self.path)
        if fault is not None:
            if fault.kind == "cut":
                self.rfile.read(min(length // 2, 1000))
                fault.seen.set()
                self.close_connection = True
                self.connection.close()
                return
            if fault.kind == "slow":
                time.sleep(1)
        self.body = (
            self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self.rfile.read(length)
        )
        if fault is not None:
            fault.seen.set()
            if fault.kind == "hold":
                time.sleep(600)
            if fault.kind == "status":
                self._json({"error": fault.text}, fault.status, {"X-Error-Message": fault.text, **fault.headers})
                return
            if fault.kind == "after":
                self.wfile = _Nowhere()  # type: ignore[assignment]
        with self.server.guard:
            self._route()
        if fault is not None and fault.kind == "after":
            self.close_connection = True
            self.connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _json(self, tree: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(tree).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, data: bytes, status: int, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, text: str, code: str = "") -> None:
        self._json({"error": text}, status, {"X-Error-Message": text, **({"X-Error-Code": code} if code else {})})

    def _user(self) -> tuple[str, set[str]] | None:
        return self.server.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def _route(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        for method, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, url.path)
            if match and self.command in method.split("|"):
                words = [unquote(word) if word is not None else "" for word in match.groups()]
                getattr(self, name)(*words)
                return
        self._refuse(404, f"no route {self.command} {url.path}")

    # who, and which repository

    def _whoami(self) -> None:
        user = self._user()
        if user is None:
            self._refuse(401, "Invalid username or password.")
            return
        orgs = [{"name": name} for name in sorted(user[1] - {user[0]})]
        self._json({"type": "user", "name": user[0], "orgs": orgs, "auth": {"type": "access_token"}})

    def _repo(self, name: str, *, write: bool = False) -> Repo | None:
        user, repo = self._user(), self.server.repos.get(name)
        if self.headers.get("Authorization") and user is None:
            self._refuse(401, "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and (user is None or name.split("/")[0] not in user[1])):
            self._refuse(401 if user is None else 404, "Repository not found", "RepoNotFound")
        elif write and (user is None or name.split("/")[0] not in user[1]):
            self._refuse(403 if user else 401, "you don't have the rights to write to this repository")
        else:
            return repo
        return None

    def _tree(self, name: str, revision: str) -> tuple[Repo, str, dict[str, Entry]] | None:
        repo = self._repo(name)
        if repo is None:
            return None
        oid = repo.resolve(revision)
        if oid is None:
            self._refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return None
        return repo, oid, repo.commits[oid].tree

    def _create(self) -> None:
        asked, user = json.loads(self.body), self._user()
        if user is None:
            self._refuse(401, "Invalid username or password.")
            return
        namespace = asked.get("organization") or user[0]
        name = f"{namespace}/{asked['name']}"
        answer = {"url": f"{self.server.url}/datasets/{name}", "name": name, "id": uuid.uuid4().hex}
        if namespace not in user[1]:
            self._refuse(403, f'You don\'t have the rights to create a dataset under the namespace "{namespace}"')
        elif name in self.server.repos:
            self._json({"error": "You already created this dataset repo", **answer}, 409)
        else:
            repo = Repo(name, private=asked.get("visibility") == "private")
            attributes = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS_ENDINGS)
            repo.commit(
                "main", {".gitattributes": Entry(self.server.store(attributes.encode()), False)}, "initial commit"
            )
            self.server.repos[name] = repo
            self._json(answer)

    def _settings(self, name: str) -> None:
        repo = self._repo(name, write=True)
        if repo is not None:
            asked = json.loads(self.body)
            repo.gated = asked.get("gated", repo.gated)
            if "visibility" in asked:
                repo.private = asked["visibility"] == "private"
            self._json({"gated": repo.gated, "private": repo.private})

    def _validate_yaml(self) -> None:
        found = check_card(json.loads(self.body)["content"])
        self._json(found, 400 if found["errors"] else 200)

    # uploads

    def _preupload(self, name: str, revision: str) -> None:
        repo = self._repo(name, write=True)
        if repo is None:
            return
        oid = repo.resolve(revision)
        if oid is None:
            self._refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return
        tree, files = repo.commits[oid].tree, []
        for asked in json.loads(self.body)["files"]:
            is_lfs = asked["path"].endswith(LFS_ENDINGS) or asked["size"] > REGULAR_LIMIT_BYTES
            there = tree.get(asked["path"])
            known = None if there is None else self._oids(there)["lfs" if there.is_lfs else "git"]
            mode = "lfs" if is_lfs else "regular"
            files.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known})
        self._json({"files": files})

    def _oids(self, entry: Entry) -> dict[str, str]:
        data = self.server.objects[entry.store]
        return {"lfs": hashlib.sha256(data).hexdigest(), "git": git_hash(data)}

    def _batch(self, name: str) -> None:
        if self._repo(name, write=True) is None:
            return
        objects = []
        for asked in json.loads(self.body)["objects"]:
            oid, size = asked["oid"], asked["size"]
            answer: dict[str, Any] = {"oid": oid, "size": size}
            there = self.server.objects.get(oid)
            if there is None or hashlib.sha256(there).hexdigest() != oid:
                header: dict[str, str] = {}
                href = f"{self.server.url}/lfs/{oid}"
                step = self.server.multipart_bytes
                if step and size >= step:
                    header = {f"{n + 1:05d}": f"{href}/part/{n + 1}" for n in range(-(-size // step))}
                    header["chunk_size"] = str(step)
                    href += "/complete"
                verify = {"href": f"{self.server.url}/lfs/{oid}/verify"}
                answer["actions"] = {"upload": {"href": href, "header": header}, "verify": verify}
            objects.append(answer)
        self._json({"transfer": "multipart" if self.server.multipart_bytes else "basic", "objects": objects})

    def _put_object(self, oid: str) -> None:
        self._arrived(oid, self.body)

    def _arrived(self, oid: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            self._refuse(400, "what arrived has another hash")
            return
        self.server.objects[oid] = data
        self.server.sent.append(oid)
        self._send(b"", 200, {"ETag": f'"{oid}"'})

    def _put_part(self, oid: str, number: str) -> None:
        self.server.parts.setdefault(oid, {})[int(number)] = self.body
        self._send(b"", 200, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})

    def _complete(self, oid: str) -> None:
        parts, told = self.server.parts.pop(oid), json.loads(self.body)["parts"]
        if [f'"{hashlib.md5(parts[part["partNumber"]]).hexdigest()}"' for part in told] != [p["etag"] for p in told]:
            self._refuse(400, "the parts are not those that arrived")
            return
        self._arrived(oid, b"".join(parts[number] for number in sorted(parts)))

    def _verify(self, oid: str) -> None:
        there = self.server.objects.get(oid)
        if there is None or len(there) != json.loads(self.body)["size"]:
            self._refuse(404, "not here")
        else:
            self._json({})

    def _commit(self, name: str, branch: str) -> None:
        repo = self._repo(name, write=True)
        if repo is None:
            return
        if branch not in repo.branches:
            self._refuse(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            return
        tree, title = dict(repo.commits[repo.branches[branch]].tree), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, repo.branches[branch]):
                    self._refuse(412, "A commit has happened since. Please refresh and try again.")
                    return
            problem = self._apply(tree, item["key"], value)
            if problem:
                self._refuse(400, problem)
                return
        folders = [path.rpartition("/")[0] for path in tree]
        if folders and max(map(folders.count, set(folders))) > self.server.files_per_folder:
            self._refuse(400, f"Too many files in one folder: at most {self.server.files_per_folder}")
            return
        oid = repo.commit(branch, tree, title)
        self._json({"commitUrl": f"{self.server.url}/datasets/{name}/commit/{oid}", "commitOid": oid, "success": True})

    def _apply(self, tree: dict[str, Entry], key: str, value: dict[str, Any]) -> str:
        if key == "file":
            data = base64.b64decode(value["content"])
            if len(data) > REGULAR_LIMIT_BYTES:
                return f"{value['path']} is too large for a regular file"
            if value["path"] == "README.md" and check_card(data.decode())["errors"]:
                return "Invalid metadata in README.md."
            tree[value["path"]] = Entry(self.server.store(data), False)
        elif key == "lfsFile":
            if value["oid"] not in self.server.objects or len(self.server.objects[value["oid"]]) != value["size"]:
                return f"LFS pointer of {value['path']} points to a file that does not exist"
            tree[value["path"]] = Entry(value["oid"], True)
        elif key == "deletedFile" and tree.pop(value["path"], None) is None:
            return "A file with this name doesn't exist"
        return ""

    def _branch(self, name: str, branch: str) -> None:
        repo = self._repo(name, write=True)
        if repo is not None and branch in repo.branches:
            self._refuse(409, "Reference already exists")
        elif repo is not None:
            start = (json.loads(self.body or b"{}") or {}).get("startingPoint", "main")
            repo.branches[branch] = repo.resolve(start) or ""
            self._json({})

    def _tag(self, name: str, revision: str) -> None:
        repo = self._repo(name, write=True)
        if repo is None:
            return
        if self.command == "DELETE":
            gone = repo.tags.pop(revision, None)
            self._json({}) if gone else self._refuse(404, "no such tag", "RevisionNotFound")
            return
        tag = json.loads(self.body)["tag"]
        if tag in repo.tags:
            self._refuse(409, f"Tag {tag} exists already")
        else:
            repo.tags[tag] = repo.resolve(revision) or ""
            self._json({})

    def _squash(self, name: str, branch: str) -> None:
        repo = self._repo(name, write=True)
        if repo is not None:
            tree = repo.commits[repo.branches.pop(branch)].tree
            repo.commit(branch, tree, json.loads(self.body)["message"])
            self._json({})

    def _lfs_files(self, name: str) -> None:
        if self._repo(name) is not None:
            self._json([
                {"fileOid": f"id-{oid}", "filename": "", "oid": oid, "pushedAt": "2026-01-01T00:00:00.000Z",
                 "ref": "refs/heads/main", "size": len(self.server.objects[oid])}
                for oid in sorted(set(self.server.sent)) if oid in self.server.objects
            ])  # fmt: skip

    def _delete_lfs_files(self, name: str) -> None:
        if self._repo(name, write=True) is not None:
            for file in json.loads(self.body)["deletions"]["sha"]:
                del self.server.objects[file.removeprefix("id-")]
            self._json({})

    # listings and downloads

    def _info(self, name: str, revision: str) -> None:
        found = self._tree(name, revision or "main")
        if found is not None:
            repo, oid, tree = found
            self._json({
                "id": name, "_id": "0", "author": name.split("/")[0], "sha": oid, "private": repo.private,
                "gated": repo.gated, "disabled": False, "tags": [], "downloads": 0, "likes": 0,
                "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
                "siblings": [{"rfilename": path} for path in sorted(tree)], "cardData": {},
            })  # fmt: skip

    def _refs(self, name: str) -> None:
        repo = self._repo(name)
        if repo is not None:
            branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repo.branches.items()]
            tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in repo.tags.items()]
            self._json({"branches": branches, "tags": tags, "converts": []})

    def _commits(self, name: str, revision: str) -> None:
        repo = self._repo(name)
        if repo is not None:
            self._json([
                {"id": oid, "title": repo.commits[oid].title, "message": "", "date": "2026-01-01T00:00:00.000Z",
                 "authors": [{"user": "writer"}]} for oid in repo.history(revision)
            ])  # fmt: skip

    def _entry(self, path: str, entry: Entry) -> dict[str, Any]:
        data, oids = self.server.objects[entry.store], self._oids(entry)
        told = {"type": "file", "path": path, "size": len(data), "oid": oids["git"]}
        if entry.is_lfs:
            told["lfs"] = {"oid": oids["lfs"], "size": len(data), "pointerSize": 134}
            told["oid"] = git_hash(oids["lfs"].encode())
        return told

    def _list(self, name: str, revision: str, folder: str) -> None:
        found = self._tree(name, revision)
        if found is None:
            return
        tree, start = found[2], f"{folder}/" if folder else ""
        inside = {path: entry for path, entry in sorted(tree.items()) if path.startswith(start)}
        if folder and not inside:
            self._refuse(404, f"{folder} does not exist on {revision}", "EntryNotFound")
            return
        is_deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = {start + path[len(start) :].split("/")[0] for path in inside if "/" in path[len(start) :]}
        if is_deep:
            parts = [path.split("/") for path in inside]
            folders = {"/".join(p[:n]) for p in parts for n in range(start.count("/") + 1, len(p))}
        told = [{"type": "directory", "path": path, "oid": git_hash(path.encode()), "size": 0} for path in folders]
        told += [self._entry(p, e) for p, e in inside.items() if is_deep or "/" not in p[len(start) :]]
        told.sort(key=lambda item: item["path"])
        first = int(self.query.get("cursor", ["0"])[0])
        more = {}
        if first + PAGE_ENTRIES < len(told):
            base = self.path.split("?")[0]
            more["Link"] = f'<{self.server.url}{base}?recursive={is_deep}&cursor={first + PAGE_ENTRIES}>; rel="next"'
        self._json(told[first : first + PAGE_ENTRIES], headers=more)

    def _paths_info(self, name: str, revision: str) -> None:
        found = self._tree(name, revision)
        if found is None:
            return
        try:
            asked = json.loads(self.body)["paths"]
        except ValueError:
            asked = parse_qs(self.body.decode()).get("paths", [])
        told = []
        for path in [asked] if isinstance(asked, str) else asked:
            if path in found[2]:
                told.append(self._entry(path, found[2][path]))
            elif any(other.startswith(f"{path}/") for other in found[2]):
                told.append({"type": "directory", "path": path, "oid": git_hash(path.encode()), "size": 0})
        self._json(told)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._tree(name, revision)
        if found is None:
            return
        repo, oid, tree = found
        user = self._user()
        if repo.gated and (user is None or name.split("/")[0] not in user[1]):
            self._refuse(403, "Access to dataset is restricted and you are not in the authorized list.", "GatedRepo")
            return
        if path not in tree:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
            return
        entry = tree[path]
        data, oids = self.server.objects[entry.store], self._oids(entry)
        told = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if entry.is_lfs:
            told |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{oids["lfs"]}"', "ETag": f'"{oids["lfs"]}"'}
            self._send(b"", 302, {**told, "Location": f"{self.server.cdn}/{entry.store}"})
            return
        self._bytes(data, {**told, "ETag": f'"{oids["git"]}"'})

    def _cdn(self, store: str) -> None:
        self._bytes(self.server.objects[store], {"ETag": f'"{store}"', "Accept-Ranges": "bytes"})

    def _bytes(self, data: bytes, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {**headers, "Content-Type": "application/octet-stream"}
        if asked is None:
            self._send(data, 200, headers)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if first >= len(data):
            self._send(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._send(data[first : last + 1], 206, headers)


class _Nowhere:
    """Where an answer goes that nobody gets."""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass

    closed = False

    def close(self) -> None:
        pass


_NAME = r"([^/]+/[^/]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", "_whoami"),
    ("POST", r"/api/repos/create", "_create"),
    ("POST", r"/api/validate-yaml", "_validate_yaml"),
    ("PUT", rf"/api/datasets/{_NAME}/settings", "_settings"),
    ("POST", rf"/api/datasets/{_NAME}/preupload/([^/]+)", "_preupload"),
    ("POST", rf"/api/datasets/{_NAME}/commit/([^/]+)", "_commit"),
    ("POST", rf"/api/datasets/{_NAME}/branch/([^/]+)", "_branch"),
    ("POST|DELETE", rf"/api/datasets/{_NAME}/tag/([^/]+)", "_tag"),
    ("POST", rf"/api/datasets/{_NAME}/super-squash/([^/]+)", "_squash"),
    ("GET", rf"/api/datasets/{_NAME}/lfs-files", "_lfs_files"),
    ("POST", rf"/api/datasets/{_NAME}/lfs-files/batch", "_delete_lfs_files"),
    ("GET", rf"/api/datasets/{_NAME}/refs", "_refs"),
    ("GET", rf"/api/datasets/{_NAME}/commits/([^/]+)", "_commits"),
    ("GET", rf"/api/datasets/{_NAME}/tree/([^/]+)(?:/(.*))?", "_list"),
    ("POST", rf"/api/datasets/{_NAME}/paths-info/([^/]+)", "_paths_info"),
    ("GET", rf"/api/datasets/{_NAME}(?:/revision/([^/]+))?", "_info"),
    ("POST", rf"/datasets/{_NAME}\.git/info/lfs/objects/batch", "_batch"),
    ("PUT", r"/lfs/([0-9a-f]{64})", "_put_object"),
    ("PUT", r"/lfs/([0-9a-f]{64})/part/(\d+)", "_put_part"),
    ("POST", r"/lfs/([0-9a-f]{64})/complete", "_complete"),
    ("POST", r"/lfs/([0-9a-f]{64})/verify", "_verify"),
    ("GET|HEAD", rf"/datasets/{_NAME}/resolve/([^/]+)/(.+)", "_resolve"),
    ("GET|HEAD", r"/cdn/([0-9a-f]{64})", "_cdn"),
]
