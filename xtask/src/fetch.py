"""Fetches one file, or shows its SHA-256: the part of `cargo xtask` that speaks HTTPS and zip.

    fetch.py sha256 FILE
    fetch.py download URL FILE        goes on where an earlier attempt stopped
    fetch.py extract ARCHIVE MEMBER FILE

Progress goes to stderr if that is a terminal; what went wrong goes to stdout.
"""

import hashlib
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile

CONNECT_SECONDS = 5


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    print(digest.hexdigest())


def download(url, path):
    done = os.path.getsize(path) if os.path.exists(path) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=CONNECT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:
            return
        fail(f"HTTP {error.code} {error.reason}")
    except OSError as error:
        fail(getattr(error, "reason", error))
    with answer:
        goes_on = answer.status == 206
        done = done if goes_on else 0
        total = done + int(answer.headers.get("Content-Length", 0))
        shown = 0.0
        with open(path, "ab" if goes_on else "wb") as file:
            while block := answer.read(1 << 18):
                file.write(block)
                done += len(block)
                if sys.stderr.isatty() and time.monotonic() - shown > 0.2:
                    shown = time.monotonic()
                    print(f"\r    {done / 1e6:.0f} of {total / 1e6:.0f} MB ", end="", file=sys.stderr)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
    if total and done != total:
        fail(f"the connection ended after {done} of {total} bytes")


def fail(why):
    print(why)
    sys.exit(1)


def extract(archive, member, path):
    with zipfile.ZipFile(archive) as files, files.open(member) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


if __name__ == "__main__":
    {"sha256": sha256, "download": download, "extract": extract}[sys.argv[1]](*sys.argv[2:])
