"""Carries out the instructions of a Dockerfile in a folder, where no Docker is at hand.

The absolute paths of the image are folders below a root. Packages of the system are left out.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.reading import ROOT

UID = 65532

PATHS = ("/opt/hookmill", "/wheels", "/src", "/app")
"""The folders of the image that the instructions name."""

LEFT_OUT = ("apt-get ", "useradd ")
"""What needs the image's own system."""


class UnreachableError(Exception):
    """The registry of packages cannot be reached."""


def python_for_all() -> str | None:
    """Return a Python that any user of this machine may run; None if there is none."""
    for python in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
        path = Path(python).resolve()
        folders_open = all(folder.stat().st_mode & 0o001 for folder in path.parents)
        check = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
        if path.exists() and folders_open:
            if subprocess.run([path, "-c", check], check=False, capture_output=True).returncode:
                continue
            return str(path)
    return None


class Image:
    """A root folder, and what the instructions have set: environment, user, working directory."""

    def __init__(self, root: Path, python: str, **arguments: str) -> None:
        self.root = root
        self.arguments = arguments
        self.workdir = "/"
        self.user = "0"
        self.context = ROOT
        base = root / "base"
        if not base.exists():
            subprocess.run([python, "-m", "venv", base], check=True)
        self.base_path = f"{base}/bin:/usr/bin:/bin"
        self.env = {"PATH": self.base_path}

    def carry_out(self, stage: list[tuple[str, str]], context: Path = ROOT) -> None:
        """Carry out the instructions of one stage; files are copied from the folder `context`."""
        self.context = context
        for word, rest in stage:
            getattr(self, f"_{word.lower()}")(rest)

    def place(self, path: str) -> str:
        """Return a text with the image's paths as they are on this machine."""
        return re.sub(
            rf"(?<![\w/.-])({'|'.join(PATHS)})(?![\w-])",
            lambda found: f"{self.root}{found[1]}",
            path,
        )

    @property
    def folder(self) -> Path:
        """The working directory."""
        return Path(self.place(self.workdir))

    def _run(self, rest: str) -> None:
        if rest.startswith(LEFT_OUT):
            return
        done = self.run(rest)
        if done.returncode and re.search("NewConnectionError|NameResolution", done.stderr):
            raise UnreachableError(done.stderr)
        assert done.returncode == 0, f"{rest}\n{done.stdout}\n{done.stderr}"

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command as the user of this moment."""
        number = int(self.user.partition(":")[0])
        return subprocess.run(
            ["sh", "-ec", self.place(command)],
            cwd=self.folder,
            env=self.env | self.arguments,
            capture_output=True,
            text=True,
            check=False,
            user=number or None,
            group=number or None,
            extra_groups=[] if number else None,
        )

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        if sources[0].startswith("--from"):
            return  # all stages share one root
        goal = self.folder / target
        for name in sources:
            source = self.context / name
            if source.is_dir():
                into = goal if len(sources) == 1 else goal / name
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, into, dirs_exist_ok=True, ignore=ignored)
            else:
                (goal if rest.endswith("/") else goal.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, goal)

    def _workdir(self, rest: str) -> None:
        self.workdir = rest
        self.folder.mkdir(parents=True, exist_ok=True)

    def _env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self.env[name] = self.place(value).replace("$PATH", self.env["PATH"])

    def _arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.arguments.setdefault(name, value.strip('"'))

    def _user(self, rest: str) -> None:
        self.user = "0" if rest == "root" else rest

    def _expose(self, rest: str) -> None:
        """Do nothing: this instruction changes no file."""

    _from = _entrypoint = _cmd = _healthcheck = _expose

    def start(self, command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start a program as the image's user. All that it sees is read-only, except for /tmp
        and the volume of the spool.
        """
        view = self.root / "view"
        view.mkdir(exist_ok=True)
        user = self.user
        script = f"""
            mount --bind / {view}; mount -o remount,bind,ro {view}
            mount -t tmpfs -o mode=1777 tmpfs {view}/tmp
            mount -t tmpfs -o mode=755 tmpfs {view}/var/lib
            install -d -o {UID} -g {UID} -m 700 {view}/var/lib/hookmill
            mount --bind /proc {view}/proc; mount --bind /dev {view}/dev
            mkdir -p {view}{self.root}
            mount --bind {self.root} {view}{self.root}; mount -o remount,bind,ro {view}{self.root}
            exec /usr/sbin/chroot --userspec={user} --groups={user.partition(":")[2]} {view} \\
                sh -c 'cd {self.folder}; exec "$@"' sh {shlex.join(command)}
        """
        with log.open("wb") as out:
            return subprocess.Popen(
                ["unshare", "--mount", "sh", "-ec", script],
                env=self.env | env,
                stdout=out,
                stderr=subprocess.STDOUT,
            )


def may_mount() -> bool:
    """Return whether this process may make a view of the file system of its own."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0
